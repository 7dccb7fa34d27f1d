"""All pictures of a folder, read once: which are stored in which split, what is left out, and what is amiss."""

import functools
import hashlib
import itertools
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, NamedTuple

from tqdm import tqdm

from animesion_jax.errors import InputError, escape
from animesion_jax.images import read_image
from tfds_builders.common.splits import SPLITS, assign_splits, split_sizes
from tfds_builders.folder.layout import Picture, Pictures
from tfds_builders.folder.storage import can_stay

# How many of its kind a message names; the report has all.
NAMED = 10
# The fewest pictures of which the rule gives one to train on and one to test.
FEWEST = next(count for count in itertools.count() if split_sizes(count)[0] and split_sizes(count)[2])
# DAF:re has no character with fewer.
DAFRE_FEWEST = 20


class Look(NamedTuple):
    """What reading a picture told.

    Attributes:
      digest: SHA-256 of its size and pixels; the same for a file and its copy, whatever the metadata.
      stays: whether its file is stored as it is.
      fault: why it cannot be read; empty if it can.
    """

    digest: str
    stays: bool
    fault: str


@dataclass(frozen=True)
class Survey:
    """What becomes of a folder's pictures.

    Attributes:
      characters: names by class id.
      chosen: (picture, whether its file is stored as it is) by split; no split is empty.
      report: the same in numbers, and the names of all that is left out, as JSON holds it.
      remarks: a sentence on each kind of what is left out or odd.
    """

    characters: list[str]
    chosen: dict[str, list[tuple[Picture, bool]]]
    report: dict[str, Any]
    remarks: list[str]


def look_at(picture: Picture) -> Look:
    """Reads a picture."""
    try:
        image = read_image(picture.path)
        digest = hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()
        return Look(digest, can_stay(picture.path, image), "")
    except InputError as error:
        return Look("", False, str(error).partition("; allowed")[0])


def survey(pictures: Pictures, min_images: int = 0, skip_broken: bool = False) -> Survey:
    """Reads all pictures on every core and says what becomes of them.

    Left out are, in this order: unreadable ones, if `skip_broken` says so; those of which another character has one
    with the same pixels; of pictures with the same pixels all but the first, or all but the one that is tested or
    validated on; characters with fewer than `min_images`. What is left of each character is split by the rule of DAF:re
    in order of the names, unless the folder has splits.

    Raises:
      InputError: all that keeps the folder from being trained on, in one line.
    """
    total = len(pictures.files)
    with ThreadPool(os.cpu_count()) as pool:
        looks = pool.imap(look_at, pictures.files, chunksize=8)
        looks = list(tqdm(looks, total=total, desc="checking pictures", unit="img", disable=None))
    by_name = {picture.name: look for picture, look in zip(pictures.files, looks, strict=True)}
    unreadable = {name: look.fault for name, look in by_name.items() if look.fault}
    conflicts, copies = find_copies([p for p in pictures.files if p.name not in unreadable], by_name)
    out = {*unreadable, *copies, *itertools.chain.from_iterable(conflicts)}
    kept = [picture for picture in pictures.files if picture.name not in out]
    counts = Counter(picture.character for picture in kept)
    small = {name: counts[name] for name in pictures.characters if counts[name] < min_images}
    kept = [picture for picture in kept if picture.character not in small]
    if not pictures.has_splits:
        assigned = assign_splits([picture.character for picture in kept])
        kept = [picture._replace(split=split) for picture, split in zip(kept, assigned, strict=True)]
    characters = [name for name in pictures.characters if name not in small]
    problems = [
        *_broken(unreadable, total, skip_broken),
        *_untrained(pictures, kept, characters),
        *_bad_names(characters),
        *_same_names(characters),
    ]
    if len(characters) < 2:
        problems.append(f"{len(characters)} characters with {max(min_images, 1)} pictures or more; needed: two or more")
    if problems:
        raise InputError(f"{pictures.folder} cannot be trained on: {'; and '.join(problems)}")
    chosen = {split: [(p, by_name[p.name].stays) for p in kept if p.split == split] for split in SPLITS}
    left_out = {
        "unreadable": unreadable, "under_several_characters": conflicts, "copies": copies, "small_characters": small,
        "in_no_characters_folder": pictures.loose, "other_files": dict(sorted(pictures.others.items())),
    }  # fmt: skip
    return Survey(
        characters,
        {split: each for split, each in chosen.items() if each},
        _report(pictures, kept, characters) | {"left_out": left_out},
        [*_remarks(left_out, min_images), *_few(Counter(picture.character for picture in kept))],
    )


def find_copies(pictures: Sequence[Picture], looks: dict[str, Look]) -> tuple[list[list[str]], dict[str, str]]:
    """Returns the names of pictures with the same pixels: groups of several characters', and {copy: which is kept}.

    What is tested on is kept, then what is validated on: a copy in training would make the figures too good.
    """
    groups = defaultdict(list)
    for picture in pictures:
        groups[looks[picture.name].digest].append(picture)
    conflicts, copies = [], {}
    for same in groups.values():
        if len({picture.character for picture in same}) > 1:
            conflicts.append([picture.name for picture in same])
        else:
            kept = max(same, key=lambda picture: SPLITS.index(picture.split or "train"))
            copies |= {picture.name: kept.name for picture in same if picture is not kept}
    return conflicts, copies


def _named(texts: Iterable[str], count: int) -> str:
    return "; ".join(itertools.islice(texts, NAMED)) + ("; ..." if count > NAMED else "")


def _broken(unreadable: dict[str, str], total: int, skip_broken: bool) -> list[str]:
    if skip_broken or not unreadable:
        return []
    named = _named((f"{name} ({fault})" for name, fault in unreadable.items()), len(unreadable))
    return [
        f"{len(unreadable)} of {total} pictures cannot be read: {named}: mend or remove them, or leave them out with "
        "--config.skip_broken=True"
    ]


def _untrained(pictures: Pictures, kept: Sequence[Picture], characters: Sequence[str]) -> list[str]:
    """Returns a problem if there are characters with nothing to train on."""
    counts = {name: Counter() for name in characters}
    for picture in kept:
        counts[picture.character][picture.split] += 1
    absent = {name: sum(splits.values()) for name, splits in counts.items() if not splits["train"]}
    if not absent:
        return []
    named = _named((f"'{name}' ({count})" for name, count in absent.items()), len(absent))
    if pictures.has_splits:
        return [f"{len(absent)} characters have no picture in train: {named}: add some, or remove their folders"]
    return [
        f"{len(absent)} characters have fewer than {FEWEST} pictures, one to train on and one to test: {named}: add "
        f"some, or leave such characters out with --config.min_images={FEWEST}"
    ]


def _bad_names(characters: Sequence[str]) -> list[str]:
    """Returns a problem if there are names that cannot be stored one to a line."""
    bad = [name for name in characters if escape(name) != name or name != name.strip()]
    named = _named((repr(name) for name in bad), len(bad))
    return [f"{len(bad)} folders have names that are no text of one line: {named}: rename them"] if bad else []


def _same_names(characters: Sequence[str]) -> list[str]:
    """Returns a problem if there are names of the same letters, with accents of their own or not, as macOS has them."""
    groups = defaultdict(list)
    for name in characters:
        groups[unicodedata.normalize("NFC", name)].append(name)
    same = [name for name, names in groups.items() if len(names) > 1]
    named = _named((f"'{name}'" for name in same), len(same))
    return [f"several folders have the same name in other Unicode forms: {named}: put them together"] if same else []


def _report(pictures: Pictures, kept: Sequence[Picture], characters: Sequence[str]) -> dict[str, Any]:
    by_character = {name: dict.fromkeys(SPLITS, 0) for name in characters}
    for picture in kept:
        by_character[picture.character][picture.split] += 1
    return {
        "folder": str(pictures.folder),
        "images": len(kept),
        "classes": len(characters),
        "splits": {split: sum(each[split] for each in by_character.values()) for split in SPLITS},
        "by_class": by_character,
    }


def _remarks(left_out: dict[str, Any], min_images: int) -> list[str]:
    """Returns a sentence on each kind of what is left out."""
    name_all = functools.partial(map, " = ".join)
    kinds = {
        "unreadable": ("pictures that cannot be read", lambda each: (f"{name} ({why})" for name, why in each.items())),
        "under_several_characters": ("pictures under more than one character, which leaves open whose", name_all),
        "copies": ("pictures with the pixels of another, which is kept", lambda each: name_all(each.items())),
        "small_characters": (
            f"characters with fewer than {min_images} pictures",
            lambda each: (f"'{name}' ({count})" for name, count in each.items()),
        ),
        "in_no_characters_folder": ("pictures in no character's folder", iter),
    }
    remarks = [
        f"left out: {what} ({len(left_out[kind])}): {_named(name(left_out[kind]), len(left_out[kind]))}"
        for kind, (what, name) in kinds.items()
        if left_out[kind]
    ]
    if others := left_out["other_files"]:
        named = _named((f"{suffix or 'without an ending'} ({count})" for suffix, count in others.items()), len(others))
        remarks.append(f"left out: files that are no pictures by their names ({sum(others.values())}): {named}")
    return remarks


def _few(counts: Counter) -> list[str]:
    few = {name: count for name, count in sorted(counts.items()) if count < DAFRE_FEWEST}
    named = _named((f"'{name}' ({count})" for name, count in few.items()), len(few))
    text = f"{len(few)} characters have fewer than {DAFRE_FEWEST} pictures, the fewest in DAF:re: {named}"
    return [text] if few else []
