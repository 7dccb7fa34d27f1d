"""Reads every image of a folder once: assigns splits, leaves out copies, finds problems."""

import hashlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from animesion_jax.errors import InputError
from animesion_jax.images import read_image
from animesion_jax.preprocessing import Box
from tfds_builders.common.splits import SPLITS, assign_splits
from tfds_builders.folder.heads import HeadCrops
from tfds_builders.folder.layout import CharacterImage, FolderLayout
from tfds_builders.folder.messages import find_problems, find_warnings, suggest_level_below
from tfds_builders.folder.storage import is_decoded_alike


class Inspection(NamedTuple):
    """The result of reading one image.

    Attributes:
      digest: SHA-256 of size and pixels to store, equal for files that differ in metadata or encoding only.
      keep_bytes: whether the file is stored unchanged.
      fault: the error of an image that cannot be read, else empty.
      heads: number of heads on a whole picture; 1 without a detector.
      box: part of the picture to store, in pixels; None for all of it.
    """

    digest: str = ""
    keep_bytes: bool = False
    fault: str = ""
    heads: int = 1
    box: Box | None = None


@dataclass(frozen=True)
class Survey:
    """The data set to build from a folder.

    Attributes:
      characters: names by class id.
      chosen: the images and their inspections by split; no split is empty.
      report: content of report.json: counts, and the names of all files left out.
      warnings: a sentence for each kind of files left out and for small characters.
    """

    characters: list[str]
    chosen: dict[str, list[tuple[CharacterImage, Inspection]]]
    report: dict[str, Any]
    warnings: list[str]


def inspect(image: CharacterImage, crops: HeadCrops | None = None) -> Inspection:
    """Reads an image; with `crops`, finds the crop around its head."""
    try:
        pixels = read_image(image.path)
        boxes = crops.boxes(pixels) if crops else []
    except InputError as error:
        return Inspection(fault=str(error).partition("; allowed")[0])
    if crops is None:
        return Inspection(_digest(pixels), is_decoded_alike(image.path, pixels))
    if len(boxes) != 1:
        return Inspection(heads=len(boxes))
    return Inspection(_digest(pixels.crop(boxes[0])), box=boxes[0])


def _digest(pixels: Image.Image) -> str:
    return hashlib.sha256(repr(pixels.size).encode() + pixels.tobytes()).hexdigest()


def inspect_all(images: Sequence[CharacterImage], crops: HeadCrops | None = None) -> dict[str, Inspection]:
    """Returns the inspections of images by name; works on every core and shows a progress bar."""
    with ThreadPool(os.cpu_count()) as pool:
        inspections = pool.imap(partial(inspect, crops=crops), images, chunksize=8)
        task = "finding heads" if crops else "checking images"
        bar = tqdm(inspections, total=len(images), desc=task, unit="img", disable=None)
        return {image.name: inspection for image, inspection in zip(images, bar, strict=True)}


def survey(
    layout: FolderLayout, min_images: int = 0, skip_broken: bool = False, crops: HeadCrops | None = None
) -> Survey:
    """Reads all images of a folder and chooses those to store.

    Leaves out, in this order:
      1. unreadable images, with `skip_broken`;
      2. with `crops`, pictures without a head and pictures with several; of the others, the crops are compared below;
      3. images with the same pixels under several characters, all of them;
      4. copies under one character: test keeps its image, else validation, else the first one stays;
      5. characters with fewer than `min_images` images.
    The rule of DAF:re then splits each character in order of the names, unless the folder has splits.

    Raises:
      InputError: all problems of the folder, in one line.
    """
    inspections = inspect_all(layout.images, crops)
    unreadable = {name: inspection.fault for name, inspection in inspections.items() if inspection.fault}
    no_head = [name for name, inspection in inspections.items() if inspection.heads == 0]
    several_heads = {name: inspection.heads for name, inspection in inspections.items() if inspection.heads > 1}
    left_out = {*unreadable, *no_head, *several_heads}
    conflicts, copies = find_copies([each for each in layout.images if each.name not in left_out], inspections)
    left_out |= {*copies, *itertools.chain.from_iterable(conflicts)}
    kept = [image for image in layout.images if image.name not in left_out]
    counts = Counter(image.character for image in kept)
    small = {name: counts[name] for name in layout.characters if counts[name] < min_images}
    kept = [image for image in kept if image.character not in small]
    if not layout.has_splits:
        assigned = assign_splits([image.character for image in kept])
        kept = [image._replace(split=split) for image, split in zip(kept, assigned, strict=True)]
    characters = [name for name in layout.characters if name not in small]
    by_character = _count_splits(kept, characters)
    not_one_head = len(no_head) + len(several_heads)
    problems = find_problems(layout, by_character, {} if skip_broken else unreadable, min_images, not_one_head)
    if problems:
        raise InputError(f"{layout.folder} cannot be trained on: {'; and '.join(problems)}")
    chosen = {split: [(i, inspections[i.name]) for i in kept if i.split == split] for split in SPLITS}
    report = {
        "folder": str(layout.folder),
        "images": len(kept),
        "classes": len(characters),
        "splits": {split: len(images) for split, images in chosen.items()},
        "by_class": by_character,
        "left_out": {
            "unreadable": unreadable, "no_head": no_head, "several_heads": several_heads,
            "under_several_characters": conflicts, "copies": copies,
            "small_characters": small, "in_no_characters_folder": layout.loose,
            "other_files": dict(sorted(layout.left_out.items())),
        },
    } | ({"crops": crops.describe()} if crops else {})  # fmt: skip
    chosen = {split: images for split, images in chosen.items() if images}
    warnings = [*filter(None, [suggest_level_below(layout)]), *find_warnings(report, min_images)]
    return Survey(characters, chosen, report, warnings)


def find_copies(
    images: Sequence[CharacterImage], inspections: dict[str, Inspection]
) -> tuple[list[list[str]], dict[str, str]]:
    """Returns the names of images with the same pixels: groups under several characters, and {copy: kept image}.

    Test keeps its image first, then validation: a copy in train would raise the measured accuracy.
    """
    groups = defaultdict(list)
    for image in images:
        groups[inspections[image.name].digest].append(image)
    conflicts, copies = [], {}
    for same in groups.values():
        if len({image.character for image in same}) > 1:
            conflicts.append([image.name for image in same])
        else:
            kept = max(same, key=lambda image: SPLITS.index(image.split or "train"))
            copies |= {image.name: kept.name for image in same if image is not kept}
    return conflicts, copies


def _count_splits(images: Sequence[CharacterImage], characters: Sequence[str]) -> dict[str, dict[str, int]]:
    """Returns the number of images by character and split."""
    counts = {name: dict.fromkeys(SPLITS, 0) for name in characters}
    for image in images:
        counts[image.character][image.split] += 1
    return counts
