import os

from matplotlib.figure import Figure
from matplotlib.text import Text

from animesion_jax.report.plots import draw_curves
from tests.report.runs import groups_of, reported, write_run, write_sweep
from tests.tiny_font import LETTER, install


def test_curves_share_an_axis_and_seeds_a_colour(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "a0", curve=(0.1, 0.3, 0.4), seed=0)
    write_run(runs / "a1", curve=(0.2, 0.35), ended=False, seed=1)
    write_run(runs / "b", curve=(0.5, 0.6), batch_size=32)
    write_run(runs / "blind", curve=(), validation_split="")
    (axes,) = draw_curves(groups_of(tmp_path)).axes
    curves = [line for line in axes.lines if line.get_marker() != "x"]
    points = {tuple(line.get_ydata().round(6)): line for line in map(_as_arrays, curves)}
    assert set(points) == {(10, 30, 40), (20, 35), (50, 60)}
    assert list(points[10, 30, 40].get_xdata()) == [1, 2, 3]
    assert points[10, 30, 40].get_color() == points[20, 35].get_color() != points[50, 60].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "vit_l16, batch 32", "vit_l16, batch 64, 2 runs",
    ]  # fmt: skip
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert (*cross.get_xdata(), *cross.get_ydata()) == (2, 35)


def _as_arrays(line):
    line.set_data(*line.get_data(orig=False))
    return line


def test_legend_of_thirty_groups_fits_beside_the_axes(tmp_path):
    for index in range(30):
        options = {"decay_epochs": index + 1, "crop_margin": index, "dropout_rate": index / 64}
        options |= {"momentum": index / 32, "train_split": f"train[{index}%:]"}
        write_run(tmp_path / "runs" / f"{index}", learning_rate=0.001 * (index + 1), **options)
    figure = draw_curves(groups_of(tmp_path))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    legend, plot = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert plot.x1 < legend.x0 and legend.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= legend.y0 and legend.y1 <= figure.bbox.y1
    assert plot.width > 0.4 * figure.bbox.width
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len(styles) == 30


def test_plots_draw_any_folder_and_data_set_name(tmp_path, monkeypatch, caplog):
    install(monkeypatch, tmp_path, Squares=LETTER)
    names = ["$a_{$", os.fsdecode(b"\xff"), "a\u2028b", LETTER]
    for name in names:
        for size in (64, 128):
            write_run(tmp_path / "runs" / name / str(size), image_size=size, dataset=f"{LETTER}/$x$")
        write_sweep(tmp_path / "runs" / name, {"image_size": [64, 128]}, runs=["64", "128"])
    saved = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **more: saved.append(self) or save(self, *args, **more))
    paths = {run["path"] for run in reported(tmp_path)["runs"]}
    assert paths == {str(tmp_path / "runs" / name / str(size)) for name in names for size in (64, 128)}
    assert len(saved) == 2
    texts = [text for figure in saved for text in figure.findobj(Text)]
    assert all(text.get_fontfamily() == ["sans-serif", "Squares"] and not text.get_parse_math() for text in texts)
    # Long paths are wrapped anywhere.
    shown = "".join("".join(text.get_text().split()) for text in texts)
    assert all(f"runs/{name}" in shown for name in ("$a_{$", "\\udcff", "a\\u2028b", LETTER))
