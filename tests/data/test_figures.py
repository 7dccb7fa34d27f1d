import csv
import dataclasses
import io
import itertools
import json
import statistics

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from animesion_jax.data import figures
from animesion_jax.data.datasets import Dataset, load_dataset
from animesion_jax.main import main
from tests.conftest import SHARED
from tests.tiny_font import LETTER, install
from tfds_builders.toyfaces.drawing.characters import IMAGES_PER_CHARACTER

LONG = "kiss-shot_acerola-orion_heart-under-blade_of_the_$x$_house_of_WWWWWWWWWWWW_and_its_branches"


def _named(*names):
    return Dataset("some/names", None, names)


def _pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _assert_apart(boxes):
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_figures_command_writes_images_and_prints_statistics(toyfaces_dir, tmp_path, capsys):
    arguments = ["figures", "--dataset=toyfaces", f"--data_dir={toyfaces_dir}", f"--output={tmp_path / 'a' / 'b'}"]
    assert main(["animesion", *arguments]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert not printed.err
    assert json.loads((tmp_path / "a" / "b" / "statistics.json").read_text()) == result
    assert {split: result[split]["images"] for split in result} == {
        "train": 1411, "validation": 192, "test": 420, "all": 2023,
    }  # fmt: skip
    # Characters have round(280 * 0.87^rank) images over all splits.
    assert result["all"] == {
        "images": sum(IMAGES_PER_CHARACTER),
        "classes": 20,
        "mean": pytest.approx(statistics.mean(IMAGES_PER_CHARACTER)),
        "median": statistics.median(IMAGES_PER_CHARACTER),
        "sd": pytest.approx(statistics.stdev(IMAGES_PER_CHARACTER)),
        "min": 20,
        "max": 280,
    }
    for name in ("samples.png", "histogram.png"):
        with Image.open(tmp_path / "a" / "b" / name) as image:
            assert image.format == "PNG" and min(image.size) > 400


@pytest.mark.shared
def test_statistics_of_moeimouto_match_the_published_ones():
    """The paper gives a mean of 83, a median of 80 and a standard deviation of 27."""
    class_ids = []
    for split in ("train", "test"):
        with (SHARED / "labels" / "moeimouto" / f"{split}.csv").open() as file:
            class_ids += [int(row[0]) for row in csv.reader(file) if row[0].isdigit()]
    result = figures.statistics(np.bincount(class_ids))
    assert (result["images"], result["classes"], result["min"], result["max"]) == (14395, 173, 32, 161)
    assert (round(result["mean"], 1), result["median"], round(result["sd"], 1)) == (83.2, 80, 27.1)


def test_statistics_leave_out_classes_without_images():
    # The squares of the differences from 4 are 9, 1, 1, 9: sd is the root of 20 / 3.
    result = figures.statistics(np.asarray([1, 0, 5, 3, 0, 7]))
    assert result.pop("sd") == pytest.approx((20 / 3) ** 0.5)
    assert result == {"images": 16, "classes": 4, "mean": 4.0, "median": 4.0, "min": 1, "max": 7}
    assert figures.statistics(np.asarray([0, 3]))["sd"] is None


def test_read_samples_returns_images_of_each_class_deterministically(toyfaces_dir):
    examples = load_dataset("toyfaces", str(toyfaces_dir)).examples("validation")
    samples = figures.read_samples(examples)
    by_class = {class_id: set() for class_id in range(20)}
    for record in examples.records(0, examples.num_examples).as_numpy_iterator():
        by_class[int(record["label"])].add(Image.open(io.BytesIO(record["image"])).tobytes())
    assert list(samples) == list(range(20))
    for class_id, images in samples.items():
        shown = {image.tobytes() for image in images}
        assert len(shown) == len(images) == min(4, len(by_class[class_id])) and shown <= by_class[class_id]
    assert figures.read_samples(examples) == samples


def test_sample_grid_shows_every_image_unresampled_at_its_position():
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (6, 4, 80, 80, 3), dtype=np.uint8)
    images = {class_id: [Image.fromarray(tile) for tile in tiles[class_id]] for class_id in range(6)}
    pixels = _pixels(figures.draw_samples(_named(*"abcdef"), images))
    # Four columns of four tiles: 26 pixels for the title, 18 for a name, gaps of 2 and 14.
    for class_id, number in itertools.product(range(6), range(4)):
        row, column = divmod(class_id, 4)
        top, left = 26 + 18 + row * (18 + 80 + 14), 14 + column * (4 * 82 - 2 + 14) + number * 82
        np.testing.assert_array_equal(pixels[top : top + 80, left : left + 80], tiles[class_id, number])


@pytest.mark.parametrize("num_classes", [1, 20])
def test_sample_grid_names_do_not_overlap_or_leave_the_figure(num_classes):
    sizes = [(160, 160), (1, 300), (500, 90), (20, 20)]
    images = {class_id: [Image.new("RGB", size) for size in sizes] for class_id in range(num_classes)}
    figure = figures.draw_samples(_named(*[LONG] * num_classes), images)
    height, width, _ = _pixels(figure).shape
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == num_classes + 1
    _assert_apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)


def test_histogram_shows_the_most_frequent_classes_in_order():
    counts = np.random.default_rng(3).permutation(np.arange(0, 150))
    names = [f"name_{class_id}" for class_id in range(150)]
    figure = figures.draw_histogram(_named(*names), counts)
    _pixels(figure)
    (axes,) = figure.axes
    assert [bar.get_height() for bar in axes.patches] == list(range(149, 49, -1))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert [counts[names.index(label)] for label in labels] == list(range(149, 49, -1))
    # 149 classes have 1 to 149 images: mean and median are 75.
    assert [line.get_ydata()[0] for line in axes.lines] == [75, 75]
    assert axes.get_title() == "some/names: the 100 most frequent of 149 classes"


@pytest.mark.parametrize("num_classes", [1, 100])
def test_histogram_names_do_not_overlap_or_leave_the_figure(num_classes):
    figure = figures.draw_histogram(_named(*[LONG] * num_classes), np.arange(num_classes) + 1)
    height, width, _ = _pixels(figure).shape
    assert figure.axes[0].get_window_extent().height > 0.4 * height  # room for the bars
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert len(boxes) == num_classes
    _assert_apart(boxes)
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height for box in boxes)
    assert figure.axes[0].get_xticklabels()[0].get_text().startswith("kiss-shot_acerola-orion_heart")


def test_names_that_fit_are_not_shortened():
    longest = "wilhelmina_braunschweig_ingenohl_friedeburg"  # the longest of DAF:re
    figure = figures.draw_histogram(_named(longest), np.asarray([3]))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == [longest]
    figure = figures.draw_samples(_named(longest), {0: [Image.new("RGB", (8, 8))]})
    assert longest in [text.get_text() for text in figure.axes[0].texts]


@pytest.mark.parametrize("installed", [True, False])
def test_figures_show_names_in_letters_that_matplotlib_lacks(installed, toyfaces_dir, tmp_path, monkeypatch, caplog):
    install(monkeypatch, tmp_path, **({"Squares": LETTER} if installed else {}))
    dataset = load_dataset("toyfaces", str(toyfaces_dir))
    named = dataclasses.replace(dataset, class_names=(LETTER * 60,) * 20)
    monkeypatch.setattr(figures, "load_dataset", lambda *_: named)
    figures.make_figures("toyfaces", str(toyfaces_dir), str(tmp_path))
    with Image.open(tmp_path / "samples.png") as image:
        # The caption of the first class is 18 pixels high. Squares fill 0.8 em of each 8-point em.
        caption = np.asarray(image.convert("L"))[26 : 26 + 18, 14 : 14 + 326] < 128
    with Image.open(tmp_path / "histogram.png") as image:
        ink = (np.asarray(image.convert("L")) < 128).mean()
    if installed:
        assert caption.sum() == pytest.approx(326 / (8 / 0.72) * (0.8 * 8 / 0.72) ** 2, rel=0.25)
        assert not caplog.records and ink > 0.05
    else:
        (record,) = caplog.records
        assert LETTER in record.getMessage() and "fonts-noto-cjk" in record.getMessage()
