"""Finds the margin around a detector's boxes with which a model is most accurate, on labelled whole pictures."""

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from animesion_jax.bundle import Bundle, Crops
from animesion_jax.detection import Detector
from animesion_jax.errors import InputError, escape
from animesion_jax.images import read_image
from animesion_jax.inference.batches import Cut, apply_to_crops
from animesion_jax.inference.evaluate import match_folders
from animesion_jax.inference.forward import Variables, apply_to_pixels, character_logits
from animesion_jax.preprocessing import FITS, Box, Margin, crop_box, resize

# A model of faces needs less than the box of a head, and further down; a model of heads more than the box of a face,
# and further up.
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0, 2.2)
SHIFTS = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
MARGINS = tuple(Margin(scale, shift, fit) for fit in FITS for scale in SCALES for shift in SHIFTS)
# More pictures are thinned out evenly.
MAX_PICTURES = 500
# Below this, the choice among `MARGINS` is mostly chance.
FEW_PICTURES = 20
BATCH_SIZE = 64
# Most bytes of crops that wait in memory.
MAX_WAITING = 2**28
# Why a picture is not used.
UNREADABLE, NO_HEAD, SEVERAL_HEADS = "unreadable", "no_head", "several_heads"

log = logging.getLogger("animesion_jax")


class MarginResult(NamedTuple):
    """The results of a margin.

    Attributes:
      margin: the margin.
      top1_accuracy: fraction of the pictures.
      loss: mean cross-entropy in nats.
    """

    margin: Margin
    top1_accuracy: float
    loss: float


@dataclasses.dataclass(frozen=True)
class _Results:
    """(pictures, MARGINS) arrays: whether the likeliest character is the right one, and losses."""

    correct: np.ndarray
    losses: np.ndarray

    def best(self, fit: str, chosen: slice = slice(None)) -> int:
        """Returns the margin of the highest top-1 accuracy on some of the pictures.

        Of equal ones it has the given fit, then the lowest loss, then the smallest change of the box.
        """
        other_fit = [margin.fit != fit for margin in MARGINS]
        distance = [abs(np.log(margin.scale)) + abs(margin.shift) for margin in MARGINS]
        keys = (distance, self.losses[chosen].mean(0), other_fit, -self.correct[chosen].mean(0))
        return int(np.lexsort(keys)[0])


def find_margin(
    bundle: Bundle, detector: Detector, images: Sequence[tuple[Path, str]]
) -> tuple[Crops, list[MarginResult]]:
    """Returns the best of `MARGINS` for a model and a detector, and the results of each.

    Uses pictures on which the detector finds exactly one head, and at most `MAX_PICTURES`. Logs a warning about folders
    that are not named after a character, about unreadable pictures, and about too few pictures.

    Args:
      bundle: its calibration and enrolled characters are used.
      detector: finds the boxes.
      images: whole pictures, each with the name of its character's folder.

    Returns:
      The crops, whose source has
        "images": number of pictures used;
        "top1_accuracy" (fraction), "loss" (mean, nats): with the chosen margin;
        "top1_accuracy_of_box", "loss_of_box": of the boxes without a margin;
        "top1_accuracy_held_out": each half of the pictures with the margin that is best for the other half;
        "left_out": number of other pictures by reason.

    Raises:
      InputError: no folder is named after a character, or fewer than two pictures have exactly one head.
    """
    class_ids, _ = match_folders(bundle, images, "are left out")
    labelled = [(file, class_ids[folder]) for file, folder in images if folder in class_ids]
    labelled = labelled[:: -(-len(labelled) // MAX_PICTURES)]
    results, left_out = _measure(bundle, detector, labelled)
    used = len(results.losses)
    if used < 2:
        reasons = ", ".join(f"{reason} {count}" for reason, count in left_out.items())
        raise InputError(
            f"{used} of {len(labelled)} pictures have exactly one head ({reasons}); allowed: two or more; give other "
            "pictures or another --min_confidence"
        )
    if used < FEW_PICTURES:
        log.warning("the margin is chosen on %d pictures only; give %d or more", used, FEW_PICTURES)
    best, box = results.best(bundle.fit), MARGINS.index(Margin(1.0, 0.0, bundle.fit))
    tried = [
        MarginResult(margin, float(accuracy), float(loss))
        for margin, accuracy, loss in zip(MARGINS, results.correct.mean(0), results.losses.mean(0), strict=True)
    ]
    # Neighbours in the list are of the same character mostly, so each half has all of them.
    halves = slice(0, None, 2), slice(1, None, 2)
    held_out = [results.correct[half, results.best(bundle.fit, other)] for half, other in (halves, halves[::-1])]
    source = {
        "images": used,
        "top1_accuracy": tried[best].top1_accuracy,
        "loss": tried[best].loss,
        "top1_accuracy_of_box": tried[box].top1_accuracy,
        "loss_of_box": tried[box].loss,
        "top1_accuracy_held_out": float(np.concatenate(held_out).mean()),
        "left_out": dict(left_out),
    }
    return Crops(detector.name, detector.sha256, MARGINS[best], source), tried


def _measure(bundle: Bundle, detector: Detector, labelled: Sequence[tuple[Path, int]]) -> tuple[_Results, Counter[str]]:
    """Returns the results on the pictures with one head, and counts the others by reason."""
    files, labels = zip(*labelled, strict=True)
    forward = partial(jax.jit(partial(_log_probabilities, bundle)), jax.device_put(bundle.variables))
    per_picture = len(MARGINS) * 3 * bundle.image_size**2
    ahead = max(1, min(2 * (os.cpu_count() or 1), MAX_WAITING // per_picture))
    outputs = apply_to_crops(forward, files, partial(_cut, bundle, detector), bundle.image_size, BATCH_SIZE, ahead)
    correct, losses, left_out = [], [], Counter({UNREADABLE: 0, NO_HEAD: 0, SEVERAL_HEADS: 0})
    bar = tqdm(outputs, total=len(files), unit="img", desc="trying margins", disable=None, leave=False)
    for (file, about, rows), label in zip(bar, labels, strict=True):
        if isinstance(about, InputError):
            log.warning("%s is left out: %s", escape(str(file)), about)
            left_out[UNREADABLE] += 1
        elif isinstance(about, str):
            left_out[about] += 1
        else:
            of_margins = np.stack(rows)[about]
            correct.append(of_margins.argmax(1) == label)
            losses.append(-np.float64(of_margins[:, label]))
    shape = len(losses), len(MARGINS)
    return _Results(np.reshape(correct, shape), np.reshape(losses, shape)), left_out


def _log_probabilities(bundle: Bundle, variables: Variables, images: jax.Array) -> jax.Array:
    """Returns the (batch, characters) float32 log-probabilities of (batch, S, S, 3) uint8 images."""
    return jax.nn.log_softmax(character_logits(bundle, *apply_to_pixels(bundle, variables, images)))


def _cut(bundle: Bundle, detector: Detector, file: Path) -> Cut:
    """Returns the different crops of the one head on a picture, and for each of `MARGINS` the place of its crop.

    Without exactly one head, returns no crops and the reason.
    """
    try:
        image = read_image(file)
        found = detector(image)
    except InputError as error:
        return Cut([], error)
    if len(found) != 1:
        return Cut([], SEVERAL_HEADS if found else NO_HEAD)
    places: dict[tuple[Box, str], int] = {}
    crops, of_margins = [], []
    for margin in MARGINS:
        box = crop_box(image.size, found[0].box, margin)
        is_square = box[2] - box[0] == box[3] - box[1]
        key = box, "" if is_square else margin.fit
        if key not in places:
            places[key] = len(crops)
            crops.append(resize(image.crop(box), bundle.image_size, margin.fit))
        of_margins.append(places[key])
    return Cut(crops, np.asarray(of_margins))


def describe(tried: Sequence[MarginResult], chosen: Margin) -> str:
    """Returns tables of the results of `find_margin`: one for each fit, or one if the fit makes no difference.

    Rows are scales, columns are shifts; the chosen margin has a star.
    """
    fits_of: dict[tuple[tuple[float, float], ...], list[str]] = {}
    for fit in FITS:
        results = tuple((each.top1_accuracy, each.loss) for each in tried if each.margin.fit == fit)
        fits_of.setdefault(results, []).append(fit)
    tables = []
    for results, fits in fits_of.items():
        cells = [f"{accuracy:6.1%}{loss:5.2f}" for accuracy, loss in results]
        margins = [Margin(scale, shift, chosen.fit) for scale in SCALES for shift in SHIFTS]
        marks = ["*" if margin == chosen and chosen.fit in fits else " " for margin in margins]
        rows = np.reshape([cell + mark for cell, mark in zip(cells, marks, strict=True)], (len(SCALES), len(SHIFTS)))
        lines = [f"top-1 accuracy and loss by scale (down) and shift (across), fit {' or '.join(fits)}:"]
        lines.append("    " + "".join(f"{shift:6.1f}      " for shift in SHIFTS))
        lines += [f"{scale:3.1f} {''.join(row)}" for scale, row in zip(SCALES, rows, strict=True)]
        tables.append("\n".join(line.rstrip() for line in lines))
    return "\n\n".join(tables)
