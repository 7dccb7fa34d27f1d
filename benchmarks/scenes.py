"""Prints how well a detector and a bundle find and name known heads on composed pictures.

python -m benchmarks.scenes split FOLDER --output=faces
animesion --config=folder:resnet18 --config.folder=faces --config.image_size=64 --config.crop_margin=8 \
    --config.epochs=22 --config.label_smoothing=0.1 --config.augment.erasing=0.25 --config.mixup=0.2 --workdir=RUN
animesion export --workdir=RUN --output=faces.msgpack
python -m benchmarks.scenes compose faces/validation --textures=faces/train --scenes=500 --heads=1 --output=single
animesion calibrate --bundle=faces.msgpack --detector=D --pictures=single --output=margin.msgpack
python -m benchmarks.scenes compose faces/test --textures=faces/train --scenes=1000 --heads=6 --output=scenes
python -m benchmarks.scenes measure scenes --detector=D --bundle=faces.msgpack --bundle=margin.msgpack
animesion find scenes --detector=D --output=boxes.jsonl --overlays=overlays  # look at some

FOLDER has square face crops, FOLDER/CHARACTER/*.jpg; the first ten letters of a name say which picture a crop is from.
`split` links all crops of a picture into one of faces/{train,validation,test}, by the SHA-256 of those letters: 7 : 1 :
2. `compose` writes scenes, with --heads=1 into a folder per character, and their labels to OUTPUT.jsonl. Each number of
heads, 1 to --heads, has as many scenes.

A box is a hit if its intersection over union with the square of the crop is at least `MIN_OVERLAP`. Each box hits one
head at most and each head has one hit at most, the largest overlaps first; the other boxes are false heads. Standard
errors take the crops of one picture, which may be on several scenes, as one draw.
"""

import argparse
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from animesion_jax.bundle import load_bundle
from animesion_jax.images import find_images
from animesion_jax.inference.heads import head_finder
from animesion_jax.inference.recognizer import Recognizer
from animesion_jax.inference.sort_images import folder_name
from animesion_jax.preprocessing import Box
from benchmarks.scene_pictures import Label, compose, source_of

SEED = 0
# A face with a margin, a face and a head overlap by 0.4 and more; the cascade's boxes of these crops by 0.8 mostly.
MIN_OVERLAP = 0.3
# Tenths of the pictures.
PARTS = ("test", "test", "validation", *["train"] * 7)
GROUPS: dict[str, Callable[["Result"], str | None]] = {
    "heads on the picture": lambda each: str(each.heads),
    "side in pixels": lambda each: _interval(each.label.side, (64, 91, 128, 181, 257)),
    "degrees turned": lambda each: _interval(abs(each.label.degrees), (0, 5, 10, 15, 20)),
    "covered": lambda each: _interval(100 * each.label.covered, (0, 1, 15, 40), " %"),
}


class Result(NamedTuple):
    """The result for a labelled head.

    Attributes:
      label: the head.
      heads: number of heads on its picture.
      found: whether a box hits it.
      right: whether the likeliest character of the box is the right one.
      unknown: whether the box's character is called unknown.
    """

    label: Label
    heads: int
    found: bool
    right: bool
    unknown: bool


def split(flags: argparse.Namespace) -> None:
    """Links the crops into a folder per part and character."""
    for crop in find_images([str(flags.folder)]):
        part = PARTS[int(hashlib.sha256(source_of(crop).encode()).hexdigest(), 16) % len(PARTS)]
        link = flags.output / part / crop.parent.name / crop.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(crop.resolve())


def write_scenes(flags: argparse.Namespace) -> None:
    """Writes scenes and their labels."""
    crops, textures = (np.array(find_images([str(folder)])) for folder in (flags.crops, flags.textures))
    shutil.rmtree(flags.output, ignore_errors=True)
    flags.output.mkdir(parents=True)
    with labels_of(flags.output).open("w", encoding="utf-8") as file:
        for number in tqdm(range(flags.scenes), disable=None):
            random = np.random.default_rng((SEED, number))
            heads = random.choice(crops, number % flags.heads + 1, replace=False)
            scene, labels = compose(random, heads, textures)
            path = Path(labels[0].character if flags.heads == 1 else "", f"{number:05d}.jpg")
            (flags.output / path).parent.mkdir(exist_ok=True)
            scene.save(flags.output / path, quality=92)
            file.write(json.dumps({"path": str(path), "heads": labels}) + "\n")


def labels_of(scenes: Path) -> Path:
    """Returns the path of the labels of a folder of scenes."""
    return scenes.with_name(scenes.name + ".jsonl")


def measure(flags: argparse.Namespace) -> None:
    """Prints the tables."""
    logging.basicConfig(format="%(message)s")
    labels: dict[Path, list[Label]] = {}
    for line in labels_of(flags.scenes).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        labels[flags.scenes / row["path"]] = [Label(*each) for each in row["heads"]]
    for name in flags.bundle:
        recognizer = Recognizer(load_bundle(name))
        finder = head_finder(recognizer.bundle, flags.detector)
        results: list[Result] = []
        false_heads = []
        rows = recognizer.predict_pictures(list(labels), finder, 1)
        for row in tqdm(rows, total=len(labels), disable=None):
            matched, false = match(labels[Path(row["path"])], row["faces"])
            results += matched
            false_heads.append([len(false), sum(not face["unknown"] for face in false)])
        print(f"\n{Path(name).name}: {finder.margin}\n")
        print_results(results)
        print_false_heads(np.array(false_heads))
    print_whole(recognizer, labels)


def match(labels: Sequence[Label], faces: Sequence[dict[str, Any]]) -> tuple[list[Result], list[dict[str, Any]]]:
    """Returns the results of a picture's heads, and the "faces" of `predict_pictures` that hit none of them."""
    pairs = [
        (overlap(label.box, face["box"]), one, other)
        for one, label in enumerate(labels)
        for other, face in enumerate(faces)
    ]
    hits: dict[int, int] = {}
    for share, one, other in sorted(pairs, reverse=True):
        if share >= MIN_OVERLAP and one not in hits and other not in hits.values():
            hits[one] = other
    results = []
    for one, label in enumerate(labels):
        face = faces[hits[one]] if one in hits else None
        right = face is not None and folder_name(face["predictions"][0]["class"]) == label.character
        results.append(Result(label, len(labels), face is not None, right, face is not None and bool(face["unknown"])))
    return results, [face for other, face in enumerate(faces) if other not in hits.values()]


def overlap(one: Box, other: Box) -> float:
    """Returns the intersection over union of two boxes."""
    corners = np.array([one, other], float)
    inside = np.prod(np.clip(corners[:, 2:].min(0) - corners[:, :2].max(0), 0, None))
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    return float(inside / (areas.sum() - inside))


def percent(hits: Iterable[bool], clusters: Iterable[str]) -> str:
    """Returns a mean ± its standard error in percent; hits of one cluster are one draw."""
    hits = np.fromiter(hits, float)
    if not len(hits):
        return "—"
    names, places = np.unique(list(clusters), return_inverse=True)
    residuals = np.bincount(places, hits - hits.mean(), len(names))
    return f"{100 * hits.mean():.1f} ± {100 * np.sqrt(np.sum(residuals**2)) / len(hits):.1f}"


def print_results(results: Sequence[Result]) -> None:
    """Prints a table of all heads and of each group of them, in percent."""
    print("| | heads | recall | top-1 of found | found and named rightly | and not called unknown |")
    print("|---|---:|---:|---:|---:|---:|")
    groups = {"all": list(results)}
    for title, key in GROUPS.items():
        for value in sorted({key(each) for each in results}, key=lambda text: float(text.split()[0])):
            groups[f"{title}: {value}"] = [each for each in results if key(each) == value]
    for title, group in groups.items():
        found = [each for each in group if each.found]
        cells = [
            percent([each.found for each in group], _sources(group)),
            percent([each.right for each in found], _sources(found)),
            percent([each.right for each in group], _sources(group)),
            percent([each.right and not each.unknown for each in group], _sources(group)),
        ]
        print(f"| {title} | {len(group)} | {' | '.join(cells)} |")


def _sources(results: Sequence[Result]) -> list[str]:
    return [each.label.source for each in results]


def _interval(value: float, edges: Sequence[int], unit: str = "") -> str:
    place = min(max(int(np.searchsorted(edges, value, "right")), 1), len(edges) - 1)
    return f"{edges[place - 1]} to {edges[place]}{unit}"


def print_false_heads(counts: np.ndarray) -> None:
    """Prints the means of (pictures, 2) counts: false heads, and those not called unknown."""
    means, errors = counts.mean(0), counts.std(0) / np.sqrt(len(counts))
    print(f"\nfalse heads a picture: {means[0]:.3f} ± {errors[0]:.3f}", end=", ")
    print(f"not called unknown: {means[1]:.3f} ± {errors[1]:.3f}")


def print_whole(recognizer: Recognizer, labels: dict[Path, list[Label]]) -> None:
    """Prints how often the likeliest character of a whole picture is that of one of its heads, in percent."""
    rights: dict[Path, bool] = {}
    for row in recognizer.predict_files(list(labels), 1):
        name = folder_name(row["predictions"][0]["class"])
        rights[Path(row["path"])] = any(name == label.character for label in labels[Path(row["path"])])
    print("\nthe picture named whole, without a detector:\n\n| heads on the picture | pictures | names one of them |")
    print("|---|---:|---:|")
    for count in sorted({len(each) for each in labels.values()}):
        group = [str(file) for file in labels if len(labels[file]) == count]
        print(f"| {count} | {len(group)} | {percent([rights[Path(file)] for file in group], group)} |")
    heads = [(rights[file] and place == 0, str(file)) for file in labels for place in range(len(labels[file]))]
    print(f"\nheads named rightly: {percent(*zip(*heads, strict=True))}")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    splitting = commands.add_parser("split")
    splitting.add_argument("folder", type=Path)
    splitting.add_argument("--output", type=Path, required=True)
    splitting.set_defaults(run=split)
    composing = commands.add_parser("compose")
    composing.add_argument("crops", type=Path)
    composing.add_argument("--textures", type=Path, required=True, help="crops for the backgrounds")
    composing.add_argument("--scenes", type=int, required=True)
    composing.add_argument("--heads", type=int, required=True, help="most heads on a scene")
    composing.add_argument("--output", type=Path, required=True, help="a folder, which is replaced")
    composing.set_defaults(run=write_scenes)
    measuring = commands.add_parser("measure")
    measuring.add_argument("scenes", type=Path, help="the output of compose")
    measuring.add_argument("--detector", required=True)
    measuring.add_argument("--bundle", required=True, action="append", help="may be repeated")
    measuring.set_defaults(run=measure)
    flags = parser.parse_args()
    flags.run(flags)


if __name__ == "__main__":
    main()
