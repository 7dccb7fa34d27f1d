"""Exact metrics of a bundle on labelled images, in a folder per character."""

import difflib
import itertools
import logging
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from animesion_jax.bundle import Bundle
from animesion_jax.errors import InputError, escape, join_some
from animesion_jax.inference.batches import apply_to_files
from animesion_jax.inference.forward import Variables, apply_to_pixels, character_logits
from animesion_jax.inference.sort_images import folder_name
from animesion_jax.metrics import ClassResults, count_by_class, cross_entropy, finalize, label_ranks, mean_or_none

BATCH_SIZE = 32
# Most folders that a message names; the result has all.
MAX_NAMES = 10
# Label of images of unknown characters.
UNKNOWN_ID = -1

log = logging.getLogger("animesion_jax")


def match_names(folders: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    """Returns the class id of each folder that is named after a character.

    A folder has the character's name, or the folder name of `predict --copy_to`. Its Unicode form and case may differ
    if it then matches one character only.

    Args:
      folders: distinct names of folders.
      names: of the characters, by class id.
    """
    found: dict[str, int] = {}
    for form, spelling in itertools.product((str, _composed, _caseless), (str, folder_name)):
        ids = defaultdict(list)
        for class_id, name in enumerate(names):
            ids[form(spelling(name))].append(class_id)
        for folder in folders:
            same = ids.get(form(folder), [])
            if len(same) == 1:
                found.setdefault(folder, same[0])
    return found


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return unicodedata.normalize("NFKC", _composed(name).casefold())


def evaluate(bundle: Bundle, images: Sequence[tuple[Path, str]]) -> tuple[dict[str, Any], ClassResults]:
    """Returns the metrics of a bundle on labelled images, with the probabilities of `predict`.

    Images in folders that `match_names` does not match count as unknown characters; without a calibration they are not
    read. Logs a warning about these folders, and about each unreadable image.

    Args:
      bundle: its enrolled characters count as known.
      images: files, each with the name of its character's folder.

    Returns:
      The results by class id of `bundle.names`, after a dict with
        "examples": number of readable images of known characters;
        "loss" (mean, nats), "top1_accuracy", "top5_accuracy" (fractions): over the examples;
        "false_reject_rate": fraction of the examples that predict calls unknown; None without a calibration;
        "unknown_characters": number of images by name of the unknown characters' folders;
        "false_accept_rate": fraction of these images that predict names; None without a calibration or such images;
        "unreadable": number of images that cannot be read.

    Raises:
      InputError: no folder is named after a character, or none of these folders' images can be read.
    """
    effect = (
        "count as unknown characters" if bundle.calibration else "are left out, since the bundle has no calibration"
    )
    class_ids, unknown = match_folders(bundle, images, effect)
    labelled = [(file, class_ids.get(folder, UNKNOWN_ID)) for file, folder in images]
    if bundle.calibration is None:
        labelled = [(file, label) for file, label in labelled if label != UNKNOWN_ID]
    results = np.fromiter(_results(bundle, labelled), np.dtype((np.float64, 5)))
    is_known = results[:, 0] != UNKNOWN_ID
    if not is_known.any():
        raise InputError("no image of a known character can be read; allowed: one or more readable images")
    labels, losses, ranks, predicted = results[is_known, :4].T
    sums = {"loss": losses.sum(), "top1_accuracy": (ranks < 1).sum(), "top5_accuracy": (ranks < 5).sum()}
    threshold = bundle.calibration.threshold if bundle.calibration else np.nan
    described = {
        "examples": len(labels),
        **finalize(sums | {"examples": len(labels)}),
        "false_reject_rate": mean_or_none(results[is_known, 4] < threshold) if bundle.calibration else None,
        "unknown_characters": unknown,
        "false_accept_rate": mean_or_none(results[~is_known, 4] >= threshold),
        "unreadable": len(labelled) - len(results),
    }
    train_images = np.full(len(bundle.names), -1)  # a bundle does not store them
    return described, count_by_class(labels.astype(int), predicted.astype(int), ranks, train_images)


def match_folders(
    bundle: Bundle, images: Sequence[tuple[Path, str]], effect: str
) -> tuple[dict[str, int], dict[str, int]]:
    """Returns the class id of each folder that is named after a character, and the number of images in each other one.

    Logs a warning about the other folders.

    Args:
      bundle: its enrolled characters count as known.
      images: files, each with the name of its character's folder.
      effect: ends "folders of characters that are not in the bundle ...".

    Raises:
      InputError: no folder is named after a character.
    """
    counts = Counter(folder for _, folder in images)
    class_ids = match_names(counts, bundle.names)
    unknown = {folder: counts[folder] for folder in sorted(counts) if folder not in class_ids}
    if not class_ids:
        raise InputError(_nothing_known(bundle, unknown, images))
    if unknown:
        log.warning(
            "folders of characters that are not in the bundle %s: %s", effect, escape(_describe(bundle, unknown))
        )
    return class_ids, unknown


def _describe(bundle: Bundle, unknown: dict[str, int]) -> str:
    """Returns the first folders of unknown characters with their numbers of images and the nearest known names."""
    by_form = {_caseless(name): name for name in bundle.names}
    texts = []
    for folder, images in itertools.islice(unknown.items(), MAX_NAMES):
        near = difflib.get_close_matches(_caseless(folder), by_form, 1)
        texts.append(f"'{folder}' (images: {images}{f', did you mean {by_form[near[0]]}?' if near else ''})")
    return "; ".join(texts) + ("; ..." if len(unknown) > MAX_NAMES else "")


def _nothing_known(bundle: Bundle, unknown: dict[str, int], images: Sequence[tuple[Path, str]]) -> str:
    """Returns the error message if no folder is named after a known character."""
    parents = {file.parent.name: file.parent.parent for file, _ in images}
    deeper = sorted(match_names(parents, bundle.names))
    hint = f"; {parents[deeper[0]]} has such folders; give that folder" if deeper else ""
    found = _describe(bundle, unknown)
    return (
        f"no folder is named after a character of the bundle; found: {found}; allowed: {join_some(bundle.names)}{hint}"
    )


def _results(bundle: Bundle, labelled: Sequence[tuple[Path, int]]) -> Iterator[tuple[float, ...]]:
    """Yields (label, loss, rank of the label, predicted class id, probability of that class) of each readable image.

    Ignore loss and rank if the label is `UNKNOWN_ID`. Logs a warning for each unreadable image.
    """
    files, labels = zip(*labelled, strict=True)
    step, variables = jax.jit(partial(_step, bundle)), jax.device_put(bundle.variables)
    batch_size = min(BATCH_SIZE, len(files))
    # apply_to_files passes the batches in order, and pads the last one.
    padded = np.resize(labels, -(-len(labels) // batch_size) * batch_size)
    batches = iter(padded.reshape(-1, batch_size))
    outputs = apply_to_files(
        lambda images: step(variables, images, next(batches)), files, bundle.image_size, bundle.fit, batch_size
    )
    bar = tqdm(outputs, total=len(files), unit="img", desc="evaluating", disable=None, leave=False)
    for (file, output), label in zip(bar, labels, strict=True):
        if isinstance(output, InputError):
            log.warning("%s is left out: %s", escape(str(file)), output)
        else:
            yield label, *output


def _step(bundle: Bundle, variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the (batch, 4) float32 losses, ranks, class ids and probabilities of `_results`."""
    logits = character_logits(bundle, *apply_to_pixels(bundle, variables, images))
    confidences = jax.nn.softmax(logits).max(-1)
    columns = (cross_entropy(logits, labels), label_ranks(logits, labels), logits.argmax(-1), confidences)
    return jnp.stack(columns, axis=-1)
