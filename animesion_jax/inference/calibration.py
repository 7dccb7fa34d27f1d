"""Fits a calibration on held-out images: temperature, threshold for unknown characters, scale of similarities."""

from typing import Any

import numpy as np
from scipy import optimize, special

from animesion_jax.bundle import Calibration

# Range of the search for a temperature.
TEMPERATURES = (0.05, 20.0)
# Share of the known images that the default threshold may call unknown.
MAX_FALSE_REJECT_RATE = 0.05
# The threshold that rejects no image is this times the lowest confidence: another batch size may round it down.
BELOW_LOWEST = 0.999


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
      logits: (n, classes) of images of known characters.
      embeddings: (n, features) of unit norm.
      labels: (n,) class ids.
      false_accept_rate: share of the impostors that may be named, 0 to 1; None for the highest threshold that rejects
        at most `MAX_FALSE_REJECT_RATE` of the known images.
      unknown: (m, classes) logits of impostors, images of unknown characters; None to use `impostor_scores` instead.
      source: description of the images for `Calibration.source`, to which the measured figures are added.
    """
    temperature = fit_temperature(logits, labels)
    tempered = np.asarray(logits, np.float64) / temperature
    confidence = special.softmax(tempered, axis=1).max(1)
    if unknown is None:
        impostors = impostor_scores(tempered, labels)
    else:
        impostors = special.softmax(np.asarray(unknown, np.float64) / temperature, axis=1).max(1)
    if false_accept_rate is None:
        threshold = threshold_rejecting(confidence, MAX_FALSE_REJECT_RATE)
        false_accept_rate = float((impostors >= threshold).mean())
    else:
        threshold = threshold_accepting(impostors, false_accept_rate)
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


def label_smoothing(images: int) -> float:
    """Returns the share of a label that label smoothing gives to the other classes: 1 / (images + 2).

    After Platt's targets (1999, "Probabilistic Outputs for Support Vector Machines"). It keeps fitted probabilities
    below 1 if the model is right on every image.
    """
    return 1.0 / (images + 2)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature with the largest likelihood of the smoothed labels, within `TEMPERATURES`.

    Source: Guo et al., 2017, arXiv:1706.04599; see `label_smoothing`.
    """
    logits = np.asarray(logits, np.float64)
    smoothing = label_smoothing(len(labels))
    targets = np.full(logits.shape, smoothing / max(logits.shape[1] - 1, 1))
    targets[np.arange(len(labels)), labels] = 1 - smoothing

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return np.mean(special.logsumexp(scaled, axis=1) - (targets * scaled).sum(1))

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))


def impostor_scores(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the (n,) confidences of the images as impostors: each image's own class is left out of the softmax.

    Biometric systems are tested like this: a person against all templates but their own. The model was trained on the
    left-out classes, so results on truly unknown characters may differ.

    Args:
      logits: (n, classes), tempered.
      labels: (n,) class ids.
    """
    others = np.array(logits, np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return special.softmax(others, axis=1).max(1)


def threshold_accepting(impostors: np.ndarray, false_accept_rate: float) -> float:
    """Returns the threshold at a false accept rate of (n,) impostors' confidences, rounded down to whole images.

    It is midway between two confidences, because another batch size may round them differently.
    """
    highest_first = np.sort(np.float64(impostors))[::-1]
    accepted = _whole_images(false_accept_rate, len(highest_first))
    if accepted == len(highest_first):
        return float(highest_first[-1])
    rejected, above = highest_first[accepted], highest_first[accepted - 1] if accepted else 1.0
    # If both are equal, accept none of them. Confidences are float32.
    return float(max((rejected + above) / 2, np.nextafter(np.float32(rejected), np.float32(2))))


def threshold_rejecting(known: np.ndarray, false_reject_rate: float) -> float:
    """Returns the highest threshold at a false reject rate of (n,) known images' confidences, rounded down to whole
    images.

    It is midway between two confidences, as in `threshold_accepting`. Equal confidences are rejected together.
    """
    # The model computes in float32; confidences that are equal there count as equal.
    lowest_first = np.sort(np.float32(known)).astype(np.float64)
    named = lowest_first[min(_whole_images(false_reject_rate, len(lowest_first)), len(lowest_first) - 1)]
    below = lowest_first[lowest_first < named]
    return float((below[-1] + named) / 2 if len(below) else named * BELOW_LOWEST)


def _whole_images(rate: float, images: int) -> int:
    """Returns a share of a number of images, rounded down; 0.29 * 100 is below 29 in floating point."""
    return int(round(rate * images, 6))


def fit_similarity(logits: np.ndarray, embeddings: np.ndarray, labels: np.ndarray) -> tuple[float, float] | None:
    """Returns the (scale, offset) that turn a cosine similarity into a logit; None without a class of two images.

    Treats each class in turn as an enrolled character: its logit becomes scale * s + offset, where s is an image's
    similarity to the mean embedding of the other images of the class. Maximises the likelihood of the smoothed labels
    over all images and all classes of two or more images.

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
    # Log of the sum of exponentials over the remaining classes: (n, replaced).
    everything = special.logsumexp(logits, axis=1)
    shares = np.exp(logits[:, replaced] - everything[:, None])
    with np.errstate(divide="ignore"):
        rest = everything[:, None] + np.log1p(-np.minimum(shares, 1 - 1e-12))
    true = logits[rows, labels][:, None]
    smoothing = label_smoothing(len(labels))

    def loss(parameters: np.ndarray) -> float:
        enrolled = parameters[0] * similarities + parameters[1]
        total = np.logaddexp(rest, enrolled)
        # Label smoothing gives its share to the other of the two: the enrolled class, or the remaining classes.
        right, wrong = np.where(own, enrolled, true), np.where(own, rest, enrolled)
        return float((total - (1 - smoothing) * right - smoothing * wrong).mean())

    start = (logits.std(), 0.0)
    found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-9})
    return float(found.x[0]), float(found.x[1])


def _similarities(embeddings: np.ndarray, labels: np.ndarray, replaced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns (n, replaced) similarities of images to class means without the image itself, and a mask of own class."""
    own = labels[:, None] == replaced
    sums = own.T @ embeddings
    means = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    similarities = embeddings @ means.T
    images, places = np.nonzero(own)
    others = sums[places] - embeddings[images]
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    similarities[images, places] = (others * embeddings[images]).sum(1)
    return similarities, own
