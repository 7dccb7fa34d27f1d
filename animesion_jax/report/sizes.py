"""Studies of image size and batch size: which groups of runs belong together, and which of them a line joins."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from animesion_jax.report.groups import Group, differing, wording

SIZES = ("image_size", "batch_size")


@dataclass(frozen=True)
class Law:
    """How a setting may go with a size along a line: as factor(size) times some number, up to `rounding`."""

    words: str
    factor: Callable[[float], float]
    rounding: float = 0.0


CONSTANT = Law("", lambda size: 1.0)
# By size: the setting that may go with it, and how; as `sweep` does it.
PARTNERS: dict[str, tuple[str, tuple[Law, ...]]] = {
    "image_size": ("crop_margin", (CONSTANT, Law("crop margin ∝ size", lambda size: size, rounding=0.5))),
    "batch_size": (
        "learning_rate",
        (CONSTANT, Law("lr ∝ batch", lambda size: size), Law("lr ∝ √batch", math.sqrt)),
    ),
}
# Two learning rates are equal up to this part of them.
TOLERANCE = 1e-6


def size_studies(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns the groups of each data set, model and start that ran at two sizes, the other size being the same."""
    studies: dict[Any, list[Group]] = {}
    for group in groups:
        studies.setdefault((group.data, group.name), []).append(group)
    return [study for study in studies.values() if any(_varies(study, *pair) for pair in (SIZES, SIZES[::-1]))]


def _varies(study: Sequence[Group], size: str, other: str) -> bool:
    pairs = {(group.config[other], group.config[size]) for group in study}
    return len(pairs) > len({kept for kept, _ in pairs})


def study_words(group: Group, study: Sequence[Group], known: Sequence[str] = ()) -> list[str]:
    """Returns in words what tells a group from the others of its study, but for the sizes and the `known` settings.

    A crop margin that goes with the image size tells nothing.
    """
    size = group.config["image_size"]
    margins = {each.settings.get("crop_margin") for each in study if each.config["image_size"] == size}
    return differing(group, study, (*SIZES, *known, *(["crop_margin"] if len(margins) == 1 else [])))


def size_lines(study: Sequence[Group], size: str) -> list[tuple[list[str], list[Group]]]:
    """Returns (words of a label, groups by ascending size) of the lines of a study along "image_size" or "batch_size".

    The groups of a line are equal but for the size and its partner in `PARTNERS`, which follows one of the laws there.
    A group may lie on several lines; one that lies on none is a line of its own.
    """
    partner, _ = PARTNERS[size]
    (other,) = set(SIZES) - {size}
    alike: dict[Any, list[Group]] = {}
    for group in study:
        fixed = frozenset((name, value) for name, value in group.settings.items() if name not in (size, partner))
        alike.setdefault((fixed, partner in group.settings), []).append(group)
    lines = []
    for groups in alike.values():
        for law, members in _joined(sorted(groups, key=lambda group: group.config[size]), size):
            if law.words:
                words = [law.words, *study_words(members[0], study, [partner])]
            elif size == "image_size":
                words = differing(members[0], study, SIZES)
            else:
                words = study_words(members[0], study)
            lines.append(([members[0].name, wording(other, members[0].config[other]), *words], members))
    labels = [words for words, _ in lines]
    return [(words + _start(members[0], size) * (labels.count(words) > 1), members) for words, members in lines]


def _start(group: Group, size: str) -> list[str]:
    """Returns in words where a line begins, which tells it from another one of the same law."""
    partner, _ = PARTNERS[size]
    return [f"{wording(partner, group.config.get(partner))} at {wording(size, group.config[size])}"]


def _joined(groups: Sequence[Group], size: str) -> Iterator[tuple[Law, list[Group]]]:
    """Yields the largest lines through groups that are equal but for the size and its partner, then the lone groups.

    A line whose groups all lie on longer ones is left out: two sweeps at different learning rates cross by chance.
    """
    partner, laws = PARTNERS[size]
    found: dict[frozenset[int], Law] = {}
    for law in laws:
        bounds = [_bounds(law, group.config[size], group.settings.get(partner, 0)) for group in groups]
        ends = sorted({end for pair in bounds for end in pair})
        # Between the ends too: on one, two margins of the same size may both be the rounded one.
        for number in (*ends, *((low + high) / 2 for low, high in itertools.pairwise(ends))):
            members = frozenset(index for index, (low, high) in enumerate(bounds) if low <= number <= high)
            sizes = {groups[index].config[size] for index in members}
            if len(sizes) == len(members) > 1:
                found.setdefault(members, law)
    largest = {
        members: law
        for members, law in found.items()
        if not members <= frozenset().union(*(others for others in found if len(others) > len(members)))
    }
    for members, law in largest.items():
        yield law, [groups[index] for index in sorted(members)]
    for index in sorted(set(range(len(groups))).difference(*largest)):
        yield CONSTANT, [groups[index]]


def _bounds(law: Law, size: float, value: float) -> tuple[float, float]:
    """Returns the least and the largest number that, times the law's factor of the size, is the value."""
    slack = law.rounding + TOLERANCE * abs(value)
    return (value - slack) / law.factor(size), (value + slack) / law.factor(size)
