import math
from pathlib import Path

import pytest
from PIL import Image

from animesion_jax.configs import sweep_size
from animesion_jax.errors import InputError
from animesion_jax.report.plots import draw_sizes
from animesion_jax.report.runs import find_runs, read_runs
from animesion_jax.report.size_studies import find_studies, read_sweeps
from animesion_jax.training import sweep
from tests.report.runs import markdown_of, markdown_rows, reported, write_run, write_sweep


def _studies(tmp_path):
    folders = find_runs([str(tmp_path / "runs")])
    return find_studies(read_runs(folders)[0], read_sweeps(folders))


def _lines(axes):
    """Returns (x, y, lengths of error bars) of every line of a panel by label."""
    lines = {}
    for container in axes.containers:
        line, _, bars = container.lines
        heights = [
            (segment[1][1] - segment[0][1]) / 2 if len(segment) else math.nan for segment in bars[0].get_segments()
        ]
        label = container.get_label().replace("\n", " ")
        assert label not in lines
        lines[label] = (list(line.get_xdata()), [round(y, 6) for y in line.get_ydata()], heights)
    return lines


def test_study_of_a_sweep_has_a_table_and_two_panels(tmp_path):
    folder = tmp_path / "runs" / "sweep"
    accuracies = {(64, 16, 0): 0.25, (64, 16, 1): 0.5, (128, 16, 0): 0.5, (64, 32, 0): 0.75}
    for (size, batch, seed), top1 in accuracies.items():
        write_run(folder / f"{size}-{batch}-{seed}", image_size=size, batch_size=batch, seed=seed, top1=top1)
    # This run belongs to no sweep.
    write_run(tmp_path / "runs" / "alone", image_size=64, batch_size=64, top1=1.0)
    names = [f"{size}-{batch}-{seed}" for size, batch, seed in accuracies]
    write_sweep(folder, {"image_size": [64, 128], "batch_size": [16, 32], "seed": [0, 1]}, runs=names)
    figure = draw_sizes(_studies(tmp_path), "last")
    by_image, by_batch = map(_lines, figure.axes)
    assert {label: line[:2] for label, line in by_image.items()} == {
        "vit_l16, batch 16, lr 0.001": ([64, 128], [37.5, 50.0]),
        "vit_l16, batch 32, lr 0.001": ([64], [75.0]),
    }
    assert {label: line[:2] for label, line in by_batch.items()} == {
        "vit_l16, 64 px, lr 0.001": ([16, 32], [37.5, 75.0]),
        "vit_l16, 128 px, lr 0.001": ([16], [50.0]),
    }
    # The sample deviation of 25 and 50 is 12.5 * sqrt(2).
    assert by_image["vit_l16, batch 16, lr 0.001"][2][0] == pytest.approx(12.5 * math.sqrt(2))
    assert figure.axes[0].get_xscale() == "linear" and figure.axes[1].get_xscale() == "log"
    assert figure.axes[1].xaxis.get_transform().base == 2
    reported(tmp_path)
    assert f"Sweep `{folder}`." in markdown_of(tmp_path)
    assert markdown_rows(markdown_of(tmp_path), "Size study: vit_l16 on moeimouto/kaggle") == [
        ["64 px", "37.50 ± 17.68 (lr 0.001)", "75.00 (lr 0.001)"],
        ["128 px", "50.00 (lr 0.001)", "—"],
    ]
    with Image.open(tmp_path / "report" / "sizes.png") as image:
        assert image.size[0] > 1000


def _write_size_sweep(folder, model, scaling, top1):
    """Writes the runs of a sweep of 3 image sizes and 3 batch sizes; `top1(image size, batch size)`."""
    config = sweep_size.get_config(model)
    with config.unlocked():
        config.grid = {"image_size": (64, 96, 224), "batch_size": (64, 256, 1024)}
    config.learning_rate_scaling = scaling
    configs = sweep.expand(config)
    for name, each in configs.items():
        write_run(folder / name, top1=top1(each.image_size, each.batch_size), config=each)
    write_sweep(folder, config.grid.to_dict(), scaling, config.scale_crop_margin, runs=list(configs))


def test_sweep_lines_name_the_scaling_of_rate_and_margin(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for scaling, lost in (("none", 0.05), ("linear", 0.02)):
        for model, base in (("vit_b32", 0.2), ("resnet18", 0.5)):
            _write_size_sweep(
                tmp_path / "runs" / scaling / model, model, scaling,
                lambda image, batch, base=base, lost=lost: base + image / 1000 - lost * math.log2(batch / 64),
            )  # fmt: skip
    by_image, by_batch = map(_lines, draw_sizes(_studies(Path()), "last").axes)
    models, sizes, crop = ("resnet18", "vit_b32"), (64, 96, 224), "crop margin ∝ size"
    assert set(by_batch) == {
        f"{model}, {size} px, {rate}" for model in models for size in sizes for rate in ("lr 0.001", "lr ∝ batch")
    }
    # Both sweeps have the same runs at the base's batch size: only the folders in the labels distinguish their lines.
    expected = {
        f"{model}, batch 64, {crop}, lr 0.001, in runs/{scaling}/{model}"
        for model in models
        for scaling in ("none", "linear")
    }
    expected |= {f"{model}, batch {batch}, {crop}, lr 0.001" for model in models for batch in (256, 1024)}
    expected |= {f"{model}, batch 256, {crop}, lr 0.004" for model in models}
    expected |= {f"{model}, batch 1024, {crop}, lr 0.016" for model in models}
    assert set(by_image) == expected
    assert all(line[0] == [64, 96, 224] for line in by_image.values())
    assert all(line[0] == [64, 256, 1024] for line in by_batch.values())
    # 100 * (0.2 + 0.096 - 0.02 * (0, 2, 4)), and 0.05 instead of 0.02.
    assert by_batch["vit_b32, 96 px, lr ∝ batch"][1] == pytest.approx([29.6, 25.6, 21.6])
    assert by_batch["vit_b32, 96 px, lr 0.001"][1] == pytest.approx([29.6, 19.6, 9.6])
    content = reported(tmp_path)
    assert markdown_of(tmp_path).count("## Size study: vit_b32 on dafre/released") == 2
    # The equal runs of both sweeps share a line of the other table and count as one seed.
    (row,) = [
        row for row in content["other"][0]["rows"]
        if (row["model"], row["image_size"], row["batch_size"]) == ("vit_b32", 64, 64)
    ]  # fmt: skip
    assert (row["n"], len(row["runs"])) == (1, 2)


def test_other_grid_fields_make_studies_of_their_own(tmp_path):
    folder = tmp_path / "runs" / "sweep"
    for model in ("vit_l16", "vit_b16"):
        for epochs in (5, 10):
            for batch in (16, 32):
                write_run(folder / f"{model}-{epochs}-{batch}", model=model, epochs=epochs, batch_size=batch)
    grid = {"model": ["vit_l16", "vit_b16"], "epochs": [5, 10], "batch_size": [16, 32]}
    write_sweep(folder, grid, runs=[path.name for path in folder.iterdir()])
    assert sorted(study.words for study in _studies(tmp_path)) == [
        ["vit_b16", "epochs 10"], ["vit_b16", "epochs 5"], ["vit_l16", "epochs 10"], ["vit_l16", "epochs 5"],
    ]  # fmt: skip


def test_sweep_without_two_sizes_is_no_study(tmp_path):
    for rate in (0.1, 0.2):
        write_run(tmp_path / "runs" / str(rate), learning_rate=rate)
    write_sweep(tmp_path / "runs", {"learning_rate": [0.1, 0.2]}, runs=["0.1", "0.2"])
    assert not _studies(tmp_path)
    reported(tmp_path)
    assert "Size study" not in markdown_of(tmp_path)
    assert not (tmp_path / "report" / "sizes.png").exists()


def test_damaged_sweep_json_is_refused(tmp_path):
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "runs" / "sweep.json").write_text('{"grid": {}}')
    with pytest.raises(InputError, match=r"sweep.json is damaged .*start the sweep again"):
        reported(tmp_path)
