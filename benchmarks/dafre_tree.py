"""Writes a manual folder of DAF:re at its full size: a few hundred drawn faces, hard-linked to every path.

python benchmarks/dafre_tree.py --output=/tmp/full_size/manual

The folder has both layouts of the same 463,437 images: `faces/` with `labels/`, and raw DAF. The classes' sizes are
long-tailed like DAF:re's and give exactly its splits.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import NormalDist

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for tfds_builders

from tfds_builders.common import splits  # noqa: E402
from tfds_builders.toyfaces.drawing.characters import CHARACTERS  # noqa: E402
from tfds_builders.toyfaces.drawing.faces import draw_image  # noqa: E402

# DAF:re's classes, and its images by split.
CLASSES = 3_263
SIZES = {"train": 322_947, "validation": 46_050, "test": 94_440}
SMALLEST, MEDIAN = 20, 48
# Raw DAF's rows and classes, before the filters and with sufficient confidence.
ROWS, TAGS = 977_356, 49_087
CONFIDENT_ROWS, CONFIDENT_TAGS = 561_557, 34_488
NAMED_TAGS = 70_094
LARGEST_IMAGE_ID = 3_000_000

DRAWN = 300
# A file has about 8 kB, as in DAF:re.
JPEG_QUALITY = 94


def class_sizes() -> np.ndarray:
    """Returns the (CLASSES,) image counts: 20 plus a log-normal part, adjusted until the splits are DAF:re's."""
    normal = NormalDist()
    quantiles = np.asarray([normal.inv_cdf((i + 0.5) / CLASSES) for i in range(CLASSES)])
    narrow, wide = 0.0, 3.0
    for _ in range(60):
        sigma = (narrow + wide) / 2
        sizes = SMALLEST + np.rint((MEDIAN - SMALLEST) * np.exp(sigma * quantiles)).astype(int)
        narrow, wide = (sigma, wide) if sizes.sum() < sum(SIZES.values()) else (narrow, sigma)
    sizes[-1] += sum(SIZES.values()) - sizes.sum()
    return _fit_splits(sizes)


def _fit_splits(sizes: np.ndarray) -> np.ndarray:
    """Moves images between classes until the split rule gives DAF:re's splits; returns the new (CLASSES,) sizes."""
    wanted = np.asarray(list(SIZES.values()))
    rng = np.random.default_rng(0)
    missing = wanted - np.sum([splits.split_sizes(int(size)) for size in sizes], axis=0)
    while missing.any():
        pair = rng.choice(CLASSES, 2, replace=False)
        moved = sizes[pair] + (1, -1)
        if moved.min() < SMALLEST:
            continue
        change = np.sum([splits.split_sizes(int(size)) for size in moved], axis=0)
        change -= np.sum([splits.split_sizes(int(size)) for size in sizes[pair]], axis=0)
        if np.abs(missing - change).sum() <= np.abs(missing).sum():
            sizes[pair] = moved
            missing -= change
    return sizes


def write_drawings(folder: Path) -> list[Path]:
    """Draws the faces that the images link to; returns their paths."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(DRAWN)]
    for number, path in enumerate(paths):
        draw_image(number % len(CHARACTERS), number).save(path, quality=JPEG_QUALITY)
    return paths


def link_images(folder: Path, image_ids: np.ndarray, digits: int, drawings: list[Path]) -> None:
    """Links images into `folder`, each below a folder named after the last three digits of its id."""
    for number in range(1000):
        (folder / f"{number:0{digits}d}").mkdir(parents=True)
    for place, image_id in enumerate(image_ids.tolist()):
        os.link(drawings[place % len(drawings)], folder / f"{image_id % 1000:0{digits}d}" / f"{image_id}.jpg")


def write_labels(folder: Path, image_ids: np.ndarray, classes: np.ndarray) -> None:
    """Writes the released label files, sorted by class."""
    folder.mkdir(parents=True)
    lines: dict[str, list[str]] = {split: [] for split in SIZES}
    order = np.argsort(classes, kind="stable")
    labels = classes[order].tolist()
    for image_id, label, split in zip(image_ids[order].tolist(), labels, splits.assign_splits(labels), strict=True):
        lines[split].append(f"{label},{image_id % 1000:04d}/{image_id}.jpg\n")
    for split, file in (("train", "train.csv"), ("validation", "val.csv"), ("test", "test.csv")):
        assert len(lines[split]) == SIZES[split]
        (folder / file).write_text("".join(lines[split]), encoding="utf-8")
    (folder / "classid_classname.csv").write_text(
        "".join(f"{i},character_{i}\n" for i in range(CLASSES)), encoding="utf-8"
    )


def raw_tags(classes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the (NAMED_TAGS,) ascending, sparse tag ids and the (ROWS,) tag id of every row.

    The rows are first DAF:re's images, then images of classes that are too small, then images of low confidence.
    """
    tag_ids = np.sort(rng.choice(10 * NAMED_TAGS, NAMED_TAGS, replace=False))
    used = rng.permutation(tag_ids)[:TAGS]
    large, rare = np.sort(used[:CLASSES]), used[CLASSES:CONFIDENT_TAGS]
    few = rare[np.arange(CONFIDENT_ROWS - len(classes)) % len(rare)]
    doubtful = used[::-1][np.arange(ROWS - CONFIDENT_ROWS) % TAGS]
    return tag_ids, np.concatenate([large[classes], few, doubtful])


def write_raw(folder: Path, image_ids: np.ndarray, classes: np.ndarray, rng: np.random.Generator) -> None:
    """Writes faces.tsv, its rows in random order, and tagIds.tsv."""
    tag_ids, tags = raw_tags(classes, rng)
    confident = np.arange(ROWS) < CONFIDENT_ROWS
    confidence = np.where(confident, rng.uniform(0.8501, 1, ROWS), rng.uniform(0.5, 0.8499, ROWS))
    corner, side = rng.uniform(0, 0.5, (ROWS, 2)), rng.uniform(0.1, 0.5, ROWS)
    with (folder / "faces.tsv").open("w", encoding="utf-8") as file:
        for row in rng.permutation(ROWS).tolist():
            image_id, (left, top) = int(image_ids[row]), corner[row]
            box = f"{left:.6f}, {top:.6f}, {left + side[row]:.6f}, {top + side[row]:.6f} {confidence[row]:.6f}"
            file.write(f"{image_id % 1000:04d}\\{image_id}.jpg\t{tags[row]}\t{box}\n")
    (folder / "tagIds.tsv").write_text("".join(f"tag_{tag}\t{tag}\n" for tag in tag_ids.tolist()), encoding="utf-8")


def write_tree(manual: Path) -> None:
    """Writes the manual folder; it must not exist."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(CLASSES), class_sizes())
    image_ids = rng.choice(LARGEST_IMAGE_ID, ROWS, replace=False)
    kept = image_ids[: len(classes)]
    drawings = write_drawings(manual / "drawings")
    write_labels(manual / "labels", kept, classes)
    write_raw(manual, image_ids, classes, rng)
    link_images(manual / "faces", kept, 4, drawings)
    link_images(manual / "data", kept, 3, drawings)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="new folder to write; TFDS's --manual_dir")
    flags = parser.parse_args()
    if flags.output.exists():
        parser.error(f"{flags.output} exists; allowed: a new folder")
    write_tree(flags.output)


if __name__ == "__main__":
    main()
