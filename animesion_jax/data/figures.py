"""Figures and statistics of a built data set: sample images, a histogram of classes, images per class."""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath
from PIL import Image

from animesion_jax.data.datasets import Dataset, Examples, load_dataset
from animesion_jax.files import expand_home, write_json
from animesion_jax.fonts import fonts_for
from animesion_jax.images import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES_FILE = "samples.png"
HISTOGRAM_FILE = "histogram.png"
STATISTICS_FILE = "statistics.json"

DPI = 100
SEED = 0
# The sample grid: number of classes, of columns, and of images per class.
CLASSES, COLUMNS, PER_CLASS = 20, 4, 4
# Pixels: side of an image, gap between images, margin around a class, height of a class name and of the title.
TILE, GAP, MARGIN, CAPTION, TITLE = 80, 2, 14, 18, 26
# The histogram: most bars, and longest class name in inches.
BARS = 100
LONGEST_NAME = 2.5


def make_figures(name: str, data_dir: str, output: str) -> dict[str, dict[str, Any]]:
    """Writes samples.png, histogram.png and statistics.json of a data set.

    Args:
      name, data_dir: as in `load_dataset`.
      output: folder to write to, created if missing; local or gs://.

    Returns:
      The content of statistics.json: {split: {...}, ..., "all": {...}}, see `statistics`.

    Raises:
      InputError: the data set is not built.
    """
    dataset = load_dataset(name, data_dir)
    splits = {
        split: dataset.examples(split) for split, info in dataset.builder.info.splits.items() if info.num_examples
    }
    counts = {
        split: np.bincount(examples.labels(), minlength=len(dataset.class_names)) for split, examples in splits.items()
    }
    counts["all"] = sum(counts.values())
    folder = epath.Path(expand_home(output))
    folder.mkdir(parents=True, exist_ok=True)
    largest = max(splits.values(), key=lambda examples: examples.num_examples)
    with fonts_for([dataset.name, *dataset.class_names]):
        _save(draw_samples(dataset, read_samples(largest)), folder / SAMPLES_FILE)
        _save(draw_histogram(dataset, counts["all"]), folder / HISTOGRAM_FILE)
    result = {split: statistics(each) for split, each in counts.items()}
    write_json(folder / STATISTICS_FILE, result)
    return result


def statistics(counts: np.ndarray) -> dict[str, Any]:
    """Returns statistics of images per class over the classes that have images.

    Args:
      counts: (classes,) int images by class id.

    Returns:
      {"images", "classes", "mean", "median", "sd", "min", "max"}; "sd" is of the sample, None for one class.
    """
    counts = counts[counts > 0]
    return {
        "images": int(counts.sum()),
        "classes": len(counts),
        "mean": float(counts.mean()),
        "median": float(np.median(counts)),
        "sd": float(counts.std(ddof=1)) if len(counts) > 1 else None,
        "min": int(counts.min()),
        "max": int(counts.max()),
    }


def read_samples(examples: Examples) -> dict[int, list[Image.Image]]:
    """Returns up to PER_CLASS images of up to CLASSES classes by ascending class id; deterministic."""
    rng = np.random.default_rng(SEED)
    labels = examples.labels()
    present = np.unique(labels)
    class_ids = rng.choice(present, min(CLASSES, len(present)), replace=False)
    chosen = [rng.permutation(np.flatnonzero(labels == class_id))[:PER_CLASS] for class_id in class_ids]
    few = Examples(examples.dataset, examples.split, examples.indices[np.sort(np.concatenate(chosen))])
    images = defaultdict(list)
    for record in few.records(0, few.num_examples).as_numpy_iterator():
        images[int(record["label"])].append(read_image(record["image"]))
    return dict(sorted(images.items()))


def draw_samples(dataset: Dataset, images: dict[int, list[Image.Image]]) -> "Figure":
    """Returns a grid with the name and the images of each class; images keep their aspect."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(images))
    block_width = PER_CLASS * (TILE + GAP) - GAP
    block_height = CAPTION + TILE
    width = columns * (block_width + MARGIN) + MARGIN
    height = TITLE + -(-len(images) // columns) * (block_height + MARGIN)
    figure = Figure((width / DPI, height / DPI), DPI)
    sheet = Image.new("RGB", (width, height), "white")
    # One unit of these axes is one pixel, so that images are not resampled again.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    title = _shortened(
        f"{dataset.name}: {len(images):,} of {len(dataset.class_names):,} classes", 11, width - 2 * MARGIN
    )
    axes.text(MARGIN, TITLE / 2 + 2, title, fontsize=11, va="center", parse_math=False)
    for i, (class_id, samples) in enumerate(images.items()):
        row, column = divmod(i, columns)
        left, top = MARGIN + column * (block_width + MARGIN), TITLE + row * (block_height + MARGIN)
        name = _shortened(dataset.class_names[class_id], 8, block_width)
        axes.text(left, top + CAPTION / 2, name, fontsize=8, va="center", parse_math=False)
        for j, sample in enumerate(samples):
            # Fit the longer side into the tile.
            scale = TILE / max(sample.size)
            tile = sample.resize([max(round(side * scale), 1) for side in sample.size], Image.Resampling.BICUBIC)
            x, y = (TILE - tile.width) // 2, (TILE - tile.height) // 2
            sheet.paste(tile, (left + j * (TILE + GAP) + x, top + CAPTION + y))
    axes.imshow(sheet, extent=(0, width, height, 0), aspect="auto", interpolation="none")
    return figure


def draw_histogram(dataset: Dataset, counts: np.ndarray) -> "Figure":
    """Returns a bar chart of the most frequent classes, with mean and median of all classes that have images.

    `counts` is (classes,) int images by class id.
    """
    from matplotlib.figure import Figure

    class_ids = np.argsort(-counts, kind="stable")[: min(BARS, np.count_nonzero(counts))]
    names = [_shortened(dataset.class_names[class_id], 7, LONGEST_NAME * DPI) for class_id in class_ids]
    figure = Figure((max(0.145 * len(names) + 1.2, 5.0), 6.0), DPI, layout="constrained")
    axes = figure.add_subplot()
    positions = np.arange(len(names))
    axes.bar(positions, counts[class_ids], width=0.8, color="tab:blue")
    axes.set_xticks(positions, names, rotation=90, fontsize=7, parse_math=False)
    axes.set_xlim(-0.8, len(names) - 0.2)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for label, color, style in (("mean", "tab:orange", "--"), ("median", "tab:green", ":")):
        value = statistics(counts)[label]
        axes.axhline(value, color=color, linestyle=style, linewidth=2, label=f"{label} {value:,.4g}")
    classes = np.count_nonzero(counts)
    shown = f"{classes:,} classes" if classes <= BARS else f"the {BARS} most frequent of {classes:,} classes"
    axes.set_title(f"{dataset.name}: {shown}", parse_math=False)
    axes.set_ylabel("images")
    axes.legend(title="images per class, all classes" if classes > BARS else "images per class")
    return figure


def _shortened(text: str, size: float, limit: float) -> str:
    """Returns the text, shortened with an ellipsis to at most `limit` pixels at a font size in points."""
    from matplotlib.figure import Figure

    drawn = Figure(dpi=DPI).text(0, 0, text, fontsize=size, parse_math=False)
    kept = len(text)
    while (width := drawn.get_window_extent().width) > limit:
        kept = min(kept - 1, int(kept * limit / width))
        drawn.set_text(f"{text[:kept]}…")
    return drawn.get_text()


def _save(figure: "Figure", path: epath.Path) -> None:
    with path.open("wb") as file:
        figure.savefig(file, format="png", pil_kwargs={"optimize": True})
