"""What a model's logits and embeddings are worth, found on images of its characters that it was not trained on."""

from typing import Any

import numpy as np
from scipy import optimize, special

from animesion_jax.bundle import Calibration

# Temperatures are looked for in this range.
TEMPERATURES = (0.05, 20.0)


def fit(
    logits: np.ndarray,
    embeddings: np.ndarray,
    labels: np.ndarray,
    false_accept_rate: float | None = None,
    unknown: np.ndarray | None = None,
    source: dict[str, Any] | None = None,
) -> Calibration:
    """Returns the calibration of a model.

    Args:
      logits: (n, classes), of images of known characters.
      embeddings: (n, features), unit norm.
      labels: (n,) class ids.
      false_accept_rate: part of the images of unknown characters that may be named, 0 to 1; None for that at which as
        large a part of the known ones is called unknown.
      unknown: (m, classes) logits of images of unknown characters. None has the known ones stand in for them: see
        `impostor_scores`.
      source: what these are, for `Calibration.source`, which gets the figures seen.
    """
    temperature = fit_temperature(logits, labels)
    tempered = np.asarray(logits, np.float64) / temperature
    confidence = special.softmax(tempered, axis=1).max(1)
    if unknown is None:
        impostors = impostor_scores(tempered, labels)
    else:
        impostors = special.softmax(np.asarray(unknown, np.float64) / temperature, axis=1).max(1)
    if false_accept_rate is None:
        false_accept_rate, threshold = equal_error(confidence, impostors)
    else:
        threshold = threshold_for(impostors, false_accept_rate)
    scale, offset = fit_similarity(tempered, embeddings, labels) or (None, None)
    correct = np.argmax(logits, axis=1) == labels
    figures = {
        "images": len(labels),
        "unknown_images": 0 if unknown is None else len(unknown),
        "top1_accuracy": float(correct.mean()),
        "mean_confidence_before": float(special.softmax(np.asarray(logits, np.float64), axis=1).max(1).mean()),
        "mean_confidence": float(confidence.mean()),
        "false_reject_rate": float((confidence < threshold).mean()),
    }
    return Calibration(temperature, threshold, false_accept_rate, scale, offset, (source or {}) | figures)


def doubt(images: int) -> float:
    """Returns the part of a label that fits leave to the other classes, as if two of n + 2 images were in doubt.

    From Platt's targets (1999, "Probabilistic Outputs for Support Vector Machines"): where every image is right, it
    keeps probabilities from becoming 1.
    """
    return 1.0 / (images + 2)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature that makes the labels likeliest (Guo et al., 2017, arXiv:1706.04599), 0.05 to 20.

    The labels are doubted a little: see `doubt`.
    """
    logits = np.asarray(logits, np.float64)
    share = doubt(len(labels))
    targets = np.full(logits.shape, share / max(logits.shape[1] - 1, 1))
    targets[np.arange(len(labels)), labels] = 1 - share

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return np.mean(special.logsumexp(scaled, axis=1) - (targets * scaled).sum(1))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def impostor_scores(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns (n,) confidences in the likeliest of the other characters, where an image's own is not among the known.

    As biometric systems are tested: a person against everybody's templates but their own. The images' own classes were
    trained on, so that real unknown characters may fare otherwise.

    Args:
      logits: (n, classes), tempered.
      labels: (n,) class ids, which are left out of the softmax.
    """
    others = np.array(logits, np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return special.softmax(others, axis=1).max(1)


def threshold_for(impostors: np.ndarray, false_accept_rate: float) -> float:
    """Returns a threshold that this part of the (n,) impostors' confidences reaches, rounded down to whole ones.

    It is in the middle between the confidences on either side, which another batch size may round otherwise.
    """
    highest_first = np.sort(np.float64(impostors))[::-1]
    # Rounded: 0.29 * 100 is below 29.
    accepted = int(round(false_accept_rate * len(highest_first), 6))
    if accepted == len(highest_first):
        return float(highest_first[-1])
    rejected, above = highest_first[accepted], highest_first[accepted - 1] if accepted else 1.0
    # Where they are equal, none of these is accepted; confidences are float32.
    return float(max((rejected + above) / 2, np.nextafter(np.float32(rejected), np.float32(2))))


def equal_error(known: np.ndarray, impostors: np.ndarray) -> tuple[float, float]:
    """Returns where as large a part of the impostors is accepted as of the known is not: (that part, the threshold).

    Where no threshold makes them equal, the one at which they are nearest; of equally near ones that in the middle of
    the widest gap between confidences, which rounding leaves on their sides.

    Args:
      known: (n,) confidences of images of known characters.
      impostors: (m,) confidences of others.
    """
    # Confidences that float32, which the model computes in, does not tell apart are one.
    known, impostors = np.sort(np.float32(known)), np.sort(np.float32(impostors))
    steps = np.unique(np.concatenate([known, impostors])).astype(np.float64)
    # Below all, between two, above all.
    thresholds = np.concatenate(
        [steps[:1], (steps[1:] + steps[:-1]) / 2, [np.nextafter(np.float32(steps[-1]), np.float32(2))]]
    )
    widths = np.diff(steps, prepend=steps[0], append=steps[-1])
    rejected = np.searchsorted(known, thresholds) / len(known)
    accepted = (len(impostors) - np.searchsorted(impostors, thresholds)) / len(impostors)
    # Rounded: 0.4 - 0.3 and 0.3 - 0.2 are not equal in float64.
    best = np.lexsort([-widths, np.abs(accepted - rejected).round(9)])[0]
    return float(accepted[best]), float(thresholds[best])


def fit_similarity(logits: np.ndarray, embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Returns how a cosine similarity becomes a logit that stands beside the classes': (scale, offset).

    Each class in turn is taken for an enrolled one: its logit is replaced by scale * s + offset, s an image's
    similarity to the mean embedding of the class's other images. Scale and offset are those that make the labels
    likeliest, with a `doubt`, over all images and all replaced classes of at least two images; None where there is no
    such class.

    Args:
      logits: (n, classes), tempered.
      embeddings: (n, features), unit norm.
      labels: (n,) class ids.
    """
    logits, embeddings = np.asarray(logits, np.float64), np.asarray(embeddings, np.float64)
    counts = np.bincount(labels, minlength=logits.shape[1])
    replaced = np.flatnonzero(counts > 1)
    if not len(replaced) or logits.shape[1] < 2:
        return None
    similarities, own = _similarities(embeddings, labels, replaced)
    rows = np.arange(len(labels))
    # log of the sum over the classes that are left: (n, replaced).
    everything = special.logsumexp(logits, axis=1)
    shares = np.exp(logits[:, replaced] - everything[:, None])
    with np.errstate(divide="ignore"):
        rest = everything[:, None] + np.log1p(-np.minimum(shares, 1 - 1e-12))
    true = logits[rows, labels][:, None]
    share = doubt(len(labels))

    def loss(parameters: np.ndarray) -> float:
        enrolled = parameters[0] * similarities + parameters[1]
        total = np.logaddexp(rest, enrolled)
        # For a doubted label, that it is the other of the two: the enrolled class, or any that is left.
        right, wrong = np.where(own, enrolled, true), np.where(own, rest, enrolled)
        return float((total - (1 - share) * right - share * wrong).mean())

    start = (logits.std(), 0.0)
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def _similarities(embeddings: np.ndarray, labels: np.ndarray, replaced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, replaced) similarities to the classes' means, of other images than itself, and whether it is own."""
    own = labels[:, None] == replaced
    sums = own.T @ embeddings
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    similarities = embeddings @ means.T
    images, places = np.nonzero(own)
    others = sums[places] - embeddings[images]
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    similarities[images, places] = (others * embeddings[images]).sum(1)
    return similarities, own
