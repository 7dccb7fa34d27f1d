"""Problems that keep a folder from training, and warnings about files left out, as text."""

import itertools
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from animesion_jax.errors import escape
from animesion_jax.images import describe
from tfds_builders.common.splits import split_sizes
from tfds_builders.folder.layout import FolderLayout

# Names in a message, per kind; report.json has all.
MAX_NAMES = 10
# The smallest character that the split rule gives an image to train on and one to test.
MIN_TO_SPLIT = next(count for count in itertools.count() if split_sizes(count)[0] and split_sizes(count)[2])
# The smallest character of DAF:re.
DAFRE_MIN_IMAGES = 20


def _list(texts: Iterable[str]) -> str:
    """Returns the first ten texts, and an ellipsis if there are more."""
    texts = list(texts)
    return "; ".join(texts[:MAX_NAMES]) + ("; ..." if len(texts) > MAX_NAMES else "")


def _with_notes(notes: dict[str, Any]) -> list[str]:
    return [f"{name} ({note})" for name, note in notes.items()]


def _quoted(counts: dict[str, int]) -> list[str]:
    return [f"'{name}' ({count})" for name, count in counts.items()]


# By key of the report's "left_out": the kind in words, and the texts to list.
LEFT_OUT: dict[str, tuple[str, Callable[[Any], Iterable[str]]]] = {
    "unreadable": ("images that cannot be read", _with_notes),
    "no_head": ("pictures without a head", iter),
    "several_heads": ("pictures with several heads, and their number", _with_notes),
    "under_several_characters": ("images under more than one character", lambda groups: map(" = ".join, groups)),
    "copies": ("copies of an image that is kept", lambda copies: map(" = ".join, copies.items())),
    "small_characters": ("characters with fewer than {min_images} images", _quoted),
    "in_no_characters_folder": ("images outside of the characters' folders", iter),
}


def find_problems(
    layout: FolderLayout,
    by_character: dict[str, dict[str, int]],
    unreadable: dict[str, str],
    min_images: int,
    not_one_head: int = 0,
) -> list[str]:
    """Returns the problems that keep a folder from training; empty for none.

    Args:
      layout: of the folder.
      by_character: number of images to store, by character and split.
      unreadable: faults by name of the images that cannot be read and may not be skipped.
      min_images: the setting, for the message.
      not_one_head: number of whole pictures that are left out because they have no head or several.
    """
    problems = []
    if unreadable:
        problems.append(
            f"{len(unreadable)} of {len(layout.images)} images cannot be read: {_list(_with_notes(unreadable))}: "
            "repair or remove them, or leave them out with --config.skip_broken=True"
        )
    untrained = {name: sum(counts.values()) for name, counts in by_character.items() if not counts["train"]}
    if untrained and layout.has_splits:
        problems.append(
            f"{len(untrained)} characters have no image in train: {_list(_quoted(untrained))}: add some, or remove "
            "their folders"
        )
    elif untrained:
        problems.append(
            f"{len(untrained)} characters have fewer than {MIN_TO_SPLIT} images, one to train on and one to test: "
            f"{_list(_quoted(untrained))}: add some, or leave them out with --config.min_images={MIN_TO_SPLIT}"
        )
    if unprintable := [name for name in by_character if escape(name) != name or name != name.strip()]:
        problems.append(
            f"{len(unprintable)} folder names are not one line of text: {_list(map(repr, unprintable))}: rename them"
        )
    if same := _same_in_unicode(list(by_character)):
        problems.append(
            f"several folders have the same name in different Unicode forms: {_list(map(repr, same))}: put "
            "them together"
        )
    if len(by_character) < 2:
        problems.append(f"{len(by_character)} characters with {max(min_images, 1)} images or more; needed: two or more")
    if problems and not_one_head:
        problems.append(
            f"{not_one_head} of {len(layout.images)} pictures are left out because the detector found no head or "
            "several: try another --config.detector or --config.min_confidence"
        )
    if problems and (hint := suggest_level_below(layout)):
        problems.append(hint)
    return problems


def suggest_level_below(layout: FolderLayout) -> str:
    """Returns how to train one level deeper if every image is in a subfolder of a character; "" otherwise."""
    depth = 2 if layout.has_splits else 1
    if not layout.images or any(image.name.count("/") == depth for image in layout.images):
        return ""
    names = sorted({image.character for image in layout.images})
    found = f"the folders {_list(map(repr, names))} have only folders; if the characters are one level deeper, "
    if layout.has_splits:
        return f"{found}move their folders up, to {layout.folder}/train/CHARACTER/IMAGE"
    folder = layout.folder.resolve()
    one = f"train on one with --config.folder={shlex.quote(str(folder / names[0]))}"
    if len(names) == 1:
        return found + one
    return f"{found}{one}, or on all with a folder of links: mkdir NEW; ln -s {shlex.quote(str(folder))}/*/* NEW/"


def _same_in_unicode(names: Sequence[str]) -> list[str]:
    """Returns names that occur twice after Unicode normalization; macOS stores accents as separate letters."""
    groups = defaultdict(list)
    for name in names:
        groups[unicodedata.normalize("NFC", name)].append(name)
    return [name for name, members in groups.items() if len(members) > 1]


def find_warnings(report: dict[str, Any], min_images: int) -> list[str]:
    """Returns a sentence for each kind of files left out, and one for characters smaller than those of DAF:re.

    Args:
      report: the content of report.json.
      min_images: the setting.
    """
    left_out = report["left_out"]
    warnings = [
        f"left out: {kind.format(min_images=min_images)} ({len(left_out[key])}): {_list(texts(left_out[key]))}"
        for key, (kind, texts) in LEFT_OUT.items()
        if left_out[key]
    ]
    if others := left_out["other_files"]:
        warnings.append(f"left out: {describe(others)}")
    sizes = {name: sum(counts.values()) for name, counts in report["by_class"].items()}
    if few := {name: size for name, size in sizes.items() if size < DAFRE_MIN_IMAGES}:
        warnings.append(
            f"{len(few)} characters have fewer than {DAFRE_MIN_IMAGES} images, the minimum of DAF:re: "
            f"{_list(_quoted(few))}"
        )
    return warnings
