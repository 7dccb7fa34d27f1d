import csv
import importlib
import itertools
import json
import math
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from animesion_jax import paper
from animesion_jax.errors import InputError
from animesion_jax.main import main
from animesion_jax.report import report
from animesion_jax.report.figures import draw_curves, draw_sizes
from animesion_jax.report.groups import NEUTRAL, group_runs
from animesion_jax.report.runs import read_run
from animesion_jax.report.sizes import size_lines
from animesion_jax.report.tables import paper_tables
from animesion_jax.training import sweep
from animesion_jax.workdir import run
from configs import sweep_size
from tests.conftest import ROOT, SHARED

# A row of Table 2: 66.56 / 87.43.
L16 = {
    "dataset": "moeimouto/kaggle", "data_dir": "data", "train_split": "train", "validation_split": "test",
    "test_split": "test", "data": {"cache": "auto"}, "image_size": 128, "crop_margin": 32, "mean": [0.5, 0.5, 0.5],
    "model": "vit_l16", "dtype": "float32", "vit": {"pool": "token"}, "resnet": {"initializer": "xavier"},
    "pretrained": "", "trainable": "all", "batch_size": 64, "epochs": 200, "learning_rate": 0.001, "momentum": 0.9,
    "schedule": "piecewise", "decay_epochs": 50, "decay_factor": 3.0, "seed": 0, "eval_batch_size": 256,
    "held_out": 0.0,
}  # fmt: skip


def write_run(workdir, /, top1=0.5, top5=0.75, classes=173, curve=(0.1, 0.2), ended=True, **changes):
    """Writes a workdir as training leaves it; best weights are 1/8 above the last ones."""
    workdir.mkdir(parents=True)
    config = L16 | changes
    rows = [
        {"step": 10 * epoch, "epoch": float(epoch), "split": "validation", "loss": 1.0, "top1_accuracy": value}
        for epoch, value in enumerate(curve, start=1)
    ]
    if ended:
        results = {
            weights: {"step": 20, "split": "test", "top1_accuracy": top1 + more, "top5_accuracy": top5 + more}
            for weights, more in (("last", 0.0), ("best", 0.125))
        }
        (workdir / "results.json").write_text(json.dumps(results))
        rows.append({"step": 20, "epoch": 2.0, "split": "test_last", "top1_accuracy": top1})
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "classes.json").write_text(json.dumps([f"class {index}" for index in range(classes)]))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workdir


def reported(tmp_path, *runs, weights="last"):
    """Returns report.json of the runs, by default of all in tmp_path/runs."""
    report([str(each) for each in runs] or [str(tmp_path / "runs")], str(tmp_path / "report"), weights)
    return json.loads((tmp_path / "report" / "report.json").read_text())


def lines_of(content, paper_rows=True):
    tables = content["tables"] if paper_rows else content["other"]
    return [row for table in tables for row in table["rows"] if row["n"]]


def groups_of(tmp_path):
    return group_runs(read_run(folder) for folder in sorted((tmp_path / "runs").iterdir()))


def markdown_rows(text, title):
    """Returns the cells of the table below a title, without its two head lines."""
    section = text.split(f"## {title}")[1].split("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")][2:]


def test_every_row_of_the_paper_is_there_and_empty_without_a_run(tmp_path):
    write_run(tmp_path / "runs" / "toy", dataset="toyfaces", classes=20)
    content = reported(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    with (tmp_path / "report" / "report.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["table"]]
    shown = [markdown_rows(text, f"Table {number}:") for number in (1, 2, 3, 4)]
    assert [len(rows) for rows in shown] == [12, 12, 5, 5]
    assert all(row[4:] == ["—", "—", "—"] for rows in shown for row in rows)
    assert shown[1][9] == ["L-16 (`vit_l16`)", "yes", "92.80", "98.44", "—", "—", "—"]
    assert len(table) == 34 and not lines_of(content)
    assert all(row["top1_mean"] == row["top5_mean"] == row["runs"] == "" and row["n"] == "0" for row in table)
    assert [row["paper_top1"] for row in table][:2] == ["0.6909", "0.2647"]


def test_seeds_become_mean_and_sample_deviation_beside_the_papers_figures(tmp_path):
    for seed, top1 in enumerate((0.60, 0.62, 0.67)):
        write_run(tmp_path / "runs" / f"seed{seed}", top1=top1, top5=0.875, seed=seed)
    (line,) = lines_of(reported(tmp_path))
    assert line["top1_mean"] == pytest.approx(0.63, abs=1e-12)
    assert line["top1_sd"] == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.04**2) / 2), abs=1e-12)
    assert (line["top5_mean"], line["top5_sd"], line["n"], line["seeds"]) == (0.875, 0.0, 3, [0, 1, 2])
    rows = markdown_rows((tmp_path / "report" / "report.md").read_text(), "Table 2:")
    l16 = ["L-16 (`vit_l16`)", "no", "66.56", "87.43", "63.00 ± 3.61", "87.50 ± 0.00", "3 (0, 1, 2)", "1"]
    assert [row for row in rows if row[4] != "—"] == [l16]
    with (tmp_path / "report" / "report.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["n"] == "3"]
    assert float(row["top1_mean"]) == line["top1_mean"] and float(row["top1_sd"]) == line["top1_sd"]
    assert (row["table"], row["seeds"], row["weights"]) == ("2", "0; 1; 2", "last")


def test_one_seed_has_no_deviation_and_best_weights_are_another_column_of_results(tmp_path):
    write_run(tmp_path / "runs" / "one", top1=0.5)
    (line,) = lines_of(reported(tmp_path, weights="best"))
    assert (line["top1_mean"], line["top1_sd"]) == (0.625, None)
    assert "| 62.50 |" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 10},
        {"classes": 172},
        {"image_size": 112},
        {"image_size": 224},
        {"model": "vit_s16"},
        {"dataset": "mymoeimouto/kaggle"},
        {"dataset": "dafre/released"},
    ],
)
def test_a_run_on_anything_else_never_stands_beside_the_papers_figures(tmp_path, changes):
    write_run(tmp_path / "runs" / "other", **changes)
    content = reported(tmp_path)
    assert not lines_of(content)
    (line,) = lines_of(content, paper_rows=False)
    assert line["top1_mean"] == 0.5 and "paper_top1" not in line
    (table,) = content["other"]
    assert table["num_classes"] == changes.get("classes", 173)
    title = f"{table['dataset']}, {table['num_classes']} classes"
    assert len(markdown_rows((tmp_path / "report" / "report.md").read_text(), title)) == 1


def test_runs_find_the_table_of_their_data_set_and_size(tmp_path):
    dafre = {"dataset": "dafre/released", "classes": 3263}
    write_run(tmp_path / "runs" / "1", model="resnet18", **dafre)
    write_run(tmp_path / "runs" / "2", model="resnet18")
    write_run(tmp_path / "runs" / "3", model="shallownet", image_size=224, **dafre)
    write_run(tmp_path / "runs" / "4", model="vit_b32", image_size=224, pretrained="b32")
    write_run(tmp_path / "runs" / "none", model="shallownet", **dafre)
    content = reported(tmp_path)
    found = [(table["number"], *row["runs"]) for table in content["tables"] for row in table["rows"] if row["n"]]
    assert found == [(number, str(tmp_path / "runs" / f"{number}")) for number in (1, 2, 3, 4)]
    assert [row["paper_top5"] for row in lines_of(content)] == [0.8464, 0.9086, 0.7204, 0.5403]
    assert [row["runs"] for row in lines_of(content, paper_rows=False)] == [[str(tmp_path / "runs" / "none")]]


def test_pretrained_and_scratch_are_rows_of_their_own(tmp_path):
    write_run(tmp_path / "runs" / "scratch", top1=0.25)
    write_run(tmp_path / "runs" / "tuned", top1=0.75, pretrained="weights.npz")
    lines = lines_of(reported(tmp_path))
    assert [(row["pretrained"], row["paper_top1"], row["top1_mean"]) for row in lines] == [
        (False, 0.6656, 0.25),
        (True, 0.9280, 0.75),
    ]
    assert "from weights.npz" in lines[1]["notes"]


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"data_dir": "elsewhere", "data": {"cache": "none"}, "eval_batch_size": 1, "log_every_steps": 1}, 1),
        ({"keep_last_checkpoints": 9, "default_weights": "last"}, 1),
        # What the model or the schedule does not read.
        ({"resnet": {"initializer": "he"}, "warmup_epochs": 3.0, "keep_head": True}, 1),
        ({"vit": {"pool": "mean"}}, 2),
        ({"batch_size": 32}, 2),
        ({"epochs": 100}, 2),
        ({"learning_rate": 0.002}, 2),
        ({"momentum": 0.8}, 2),
        ({"mean": [0.4, 0.5, 0.5]}, 2),
        ({"held_out": 0.125}, 2),
        ({"eval_mode_after_epochs": 1}, 2),
    ],
)
def test_what_can_change_the_result_parts_the_runs(tmp_path, changes, groups):
    write_run(tmp_path / "runs" / "a", seed=0)
    write_run(tmp_path / "runs" / "b", seed=1, **changes)
    lines = lines_of(reported(tmp_path))
    assert [row["n"] for row in lines] == [2 // groups] * groups


def test_fields_that_the_report_ignores_are_those_that_a_second_start_may_change():
    assert set(NEUTRAL) < set(run.MAY_CHANGE)


def test_a_copy_is_no_seed_and_one_seed_with_two_results_is_told(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "a", top1=0.25, seed=0)
    shutil.copytree(runs / "a", runs / "b")
    write_run(runs / "c", top1=0.75, seed=1)
    (line,) = lines_of(reported(tmp_path, runs, runs / "a"))
    assert (line["n"], line["seeds"], line["top1_mean"]) == (2, [0, 1], 0.5)
    assert (line["runs"], line["copies"]) == ([str(runs / "a"), str(runs / "c")], [str(runs / "b")])
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"`{runs / 'b'}` is a copy of `{runs / 'a'}`, not counted" in text
    write_run(runs / "d", top1=0.25, top5=0.5, seed=1)
    (line,) = lines_of(reported(tmp_path))
    assert (line["n"], line["seeds"]) == (3, [0, 1, 1])
    assert any(note.startswith("seed 1 ran 2 times") for note in line["notes"])


def test_notes_name_every_difference_from_the_papers_row(tmp_path):
    faithful = {"eval_mode_after_epochs": 1, "vit": {**L16["vit"], "gelu": "erf", "dropout_places": "animesion"}}
    write_run(tmp_path / "runs" / "same", seed=3, **faithful)
    write_run(tmp_path / "runs" / "half", model="vit_l32", eval_mode_after_epochs=5)
    # A ResNet has no GELU.
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    write_run(tmp_path / "runs" / "resnet", model="resnet152", eval_mode_after_epochs=1, **imagenet)
    # Nor was the paper's run chosen on a validation split of its own.
    write_run(tmp_path / "runs" / "blind", model="vit_b16", validation_split="", **faithful)
    write_run(
        tmp_path / "runs" / "short", epochs=20, decay_epochs=5, learning_rate=0.01, batch_size=8, schedule="piecewise"
    )
    write_run(tmp_path / "runs" / "frozen", model="resnet18", pretrained="r18", dataset="moeimouto/mine", held_out=0.2)
    for rate in (0.1, 0.2):
        write_run(tmp_path / "runs" / f"dropout{rate}", model="vit_b32", dropout_rate=rate)
    lines = {row["runs"][0].rsplit("/")[-1]: row for row in lines_of(reported(tmp_path))}
    assert [name for name, row in lines.items() if row["faithful"]] == ["resnet", "same"]
    notes = {name: row["notes"] for name, row in lines.items()}
    assert notes["same"] == ["faithful"]
    assert notes["half"] == ["eval_mode_after_epochs 5", "not faithful"]
    assert notes["short"] == [
        "batch 8 (paper: 64)", "decay_epochs 5 (paper: 50)", "epochs 20 (paper: 200)", "lr 0.01 (paper: 0.001)",
        "not faithful",
    ]  # fmt: skip
    assert notes["dropout0.2"] == ["dropout_rate 0.2 (paper: 0.1)", "not faithful"]
    assert notes["dropout0.1"] == ["not faithful"]
    assert notes["blind"][0] == "validation_split none (paper: test)" and notes["blind"][-1] == "not faithful"
    assert notes["frozen"] == [
        "dataset moeimouto/mine (paper: moeimouto/kaggle)", "held_out 0.2 (paper: 0)",
        "mean (0.5, 0.5, 0.5) (paper: (0.485, 0.456, 0.406))",
        "trainable all (paper: head)", "from r18", "not faithful",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"augment": {"flip": 0.0}}, "augment.flip 0 (paper: 0.5)"),
        ({"augment": {"brightness": 0.2}}, "augment.brightness 0.2 (paper: 0.1)"),
        ({"augment": {"contrast": 0.2}}, "augment.contrast 0.2 (paper: 0.1)"),
        ({"augment": {"saturation": 0.2}}, "augment.saturation 0.2 (paper: 0.1)"),
        ({"augment": {"hue": 0.0}}, "augment.hue 0 (paper: 0.1)"),
        ({"vit": {"pool": "mean"}}, "vit.pool mean (paper: token)"),
        ({"vit": {"pre_logits": True}}, "vit.pre_logits True (paper: False)"),
        ({"std": [1.0, 1.0, 1.0]}, "std (1.0, 1.0, 1.0) (paper: (0.5, 0.5, 0.5))"),
        ({"augment": {"erasing": 0.25}}, "augment.erasing 0.25 (paper: 0)"),
        ({"optimizer": "adamw"}, "optimizer adamw (paper: sgd)"),
        ({"mixup": 0.2}, "mixup 0.2 (paper: 0)"),
        ({"ema_decay": 0.9}, "ema_decay 0.9 (paper: 0)"),
        ({"rebalance_epochs": 5}, "rebalance_epochs 5 (paper: 0)"),
        ({"schedule": "cosine", "warmup_epochs": 2.0}, "warmup_epochs 2 (paper: 0)"),
        ({"model": "resnet18", "resnet": {"initializer": "he"}}, "resnet.initializer he (paper: xavier)"),
        ({"model": "resnet18", "dropout_rate": 0.1}, "dropout_rate 0.1 (paper: 0)"),
        ({"model": "resnet18", "std": [0.5, 0.5, 0.5]}, "std (0.5, 0.5, 0.5) (paper: (0.229, 0.224, 0.225))"),
        ({"model": "shallownet", "image_size": 224, "dropout_rate": 0.1}, "dropout_rate 0.1 (paper: 0.2)"),
    ],
)
def test_a_note_names_each_setting_that_is_not_the_papers(tmp_path, changes, note):
    write_run(tmp_path / "runs" / "changed", **changes)
    (group,) = groups_of(tmp_path)
    assert note in lines_of({"tables": paper_tables([group], "last")})[0]["notes"]


def test_configs_of_the_papers_rows_differ_from_them_in_nothing(tmp_path):
    for table, option in itertools.product(paper.TABLES, ("", ",faithful")):
        module = importlib.import_module(table.config.removesuffix(".py").replace("/", "."))
        for index, (model, pretrained) in enumerate(table.rows):
            config = module.get_config(model + ",pretrained" * pretrained + option)
            folder = tmp_path / "runs" / f"{table.number}-{index}{option}"
            write_run(folder, classes=table.num_classes, curve=(), **config.to_dict())
    tables = paper_tables(groups_of(tmp_path), "last")
    lines = [(table["number"], row) for table in tables for row in table["rows"]]
    assert len(lines) == 2 * 34
    for number, row in lines:
        faithful = row["runs"][0].endswith(",faithful")
        held_out = ["held_out 0.125 (paper: 0)"] if number in (2, 4) and not faithful else []
        start = [note for note in row["notes"] if note.startswith("from ")]
        assert len(start) == row["pretrained"]
        assert row["notes"] == [*held_out, *start, "faithful" if faithful else "not faithful"]
        assert row["faithful"] == faithful


def test_runs_without_results_are_named_and_left_out(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "ended", top1=0.5)
    write_run(runs / "going", ended=False, seed=1)
    write_run(runs / "begun", ended=False, curve=(), seed=2)
    # Begun again for more epochs: results.json is of the earlier end.
    untested = write_run(runs / "untested", seed=4, test_split="", ended=False)
    (untested / "results.json").write_text("{}")
    content = reported(tmp_path)
    (line,) = lines_of(content)
    assert line["runs"] == [str(runs / "ended")]
    assert {each["path"].split("/")[-1]: each["reached"] for each in content["unfinished"]} == {
        "going": "at epoch 2 of 200, step 20",
        "begun": "nothing logged of 200 epochs",
        "untested": "it has no test split",
    }
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"`{runs / 'going'}`: at epoch 2 of 200, step 20" in text


def test_parts_of_a_batch_are_noted_where_batchnorm_sees_them(tmp_path):
    for model, size in (("resnet18", 224), ("vit_b32", 224)):
        for parts in (1, 16):
            options = {"model": model, "image_size": size, "batch_size": 1024, "grad_accumulation": parts}
            write_run(tmp_path / "runs" / f"{model} {parts}", seed=parts, **options)
    lines = [
        (row["model"], row["n"], any("grad_accumulation" in note for note in row["notes"]))
        for row in lines_of(reported(tmp_path))
    ]
    assert lines == [("resnet18", 1, False), ("resnet18", 1, True), ("vit_b32", 2, False)]


def test_runs_older_than_a_field_are_seeds_of_the_same_recipe(tmp_path):
    write_run(tmp_path / "runs" / "old", seed=0)
    write_run(tmp_path / "runs" / "new", seed=1, grad_accumulation=1, held_out=0.0, eval_mode_after_epochs=0)
    (line,) = lines_of(reported(tmp_path))
    assert line["seeds"] == [1, 0] or line["seeds"] == [0, 1]


def test_a_broken_link_and_damaged_rows_do_not_stop_a_report(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "good")
    (write_run(runs / "odd", seed=1) / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
    (write_run(runs / "bytes", seed=2) / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
    (runs / "latest").symlink_to("gone")
    content = reported(tmp_path, *sorted(runs.iterdir()))
    assert sorted(seed for line in lines_of(content) for seed in line["seeds"]) == [0, 2]
    (damaged,) = content["unfinished"]
    assert "metrics.jsonl is damaged" in damaged["reached"]


def test_a_runs_folder_is_searched_and_other_files_are_passed_over(tmp_path):
    write_run(tmp_path / "runs" / "sweep" / "64" / "s0", seed=0)
    write_run(tmp_path / "runs" / "sweep" / "64" / "s1", seed=1)
    # A run is not searched: its checkpoints may be many.
    write_run(tmp_path / "runs" / "sweep" / "64" / "s1" / "checkpoints" / "7", seed=7)
    (tmp_path / "runs" / "sweep.log").write_text("")
    output = tmp_path / "runs" / "report"
    for _ in range(2):
        # The second time the shell's runs/* holds the report of the first.
        report([str(each) for each in (tmp_path / "runs").iterdir()], str(output))
        (line,) = lines_of(json.loads((output / "report.json").read_text()))
        assert line["seeds"] == [0, 1]


def test_folders_without_a_run_are_passed_over_while_there_is_one(tmp_path, caplog):
    for name in ("empty", "older report"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "older report" / "report.json").write_text("{}")
    with pytest.raises(InputError, match="no training run"):
        reported(tmp_path, *(tmp_path / "runs").iterdir())
    write_run(tmp_path / "runs" / "run")
    caplog.clear()
    with caplog.at_level("INFO", logger="animesion_jax"):
        (line,) = lines_of(reported(tmp_path, *sorted((tmp_path / "runs").iterdir())))
    assert line["runs"] == [str(tmp_path / "runs" / "run")]
    passed = [message.split(" is no workdir")[0] for message in caplog.messages if "passed over" in message]
    assert passed == [str(tmp_path / "runs" / name) for name in ("empty", "older report")]


def test_damaged_runs_are_named_with_what_is_damaged_and_the_others_reported(tmp_path):
    good, config, results = (write_run(tmp_path / "runs" / name) for name in ("good", "config", "results"))
    (config / "config.json").write_text("{")
    (results / "results.json").write_text('{"last": {"top1_accuracy": null}}')
    content = reported(tmp_path)
    assert [row["runs"] for row in lines_of(content)] == [[str(good)]]
    reasons = {each["path"]: each["reached"] for each in content["unfinished"]}
    assert set(reasons) == {str(config), str(results)}
    assert "config.json is damaged" in reasons[str(config)]
    assert "no top1_accuracy of the last weights" in reasons[str(results)]
    assert reasons[str(config)] in (tmp_path / "report" / "report.md").read_text()


def test_what_is_not_finite_is_said_and_null_in_json(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    for seed, top1 in enumerate((0.5, math.nan)):
        write_run(tmp_path / "runs" / f"{seed}", top1=top1, seed=seed)
    shutil.copytree(tmp_path / "runs" / "1", tmp_path / "runs" / "copy")
    write_run(tmp_path / "runs" / "other", image_size=64, top1=math.inf)
    reported(tmp_path)
    content = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=refuse)
    (line,) = lines_of(content)
    assert (line["top1_mean"], line["top1_sd"], line["top5_mean"], line["n"]) == (None, None, 0.75, 2)
    assert f"top1_accuracy of `{tmp_path / 'runs' / '1'}` not finite" in line["notes"]
    text = (tmp_path / "report" / "report.md").read_text()
    (row,) = [row for row in markdown_rows(text, "Table 2:") if row[4] != "—"]
    assert row[4:6] == ["not finite", "75.00 ± 0.00"]
    assert not re.search(r"\b(nan|inf)\b", text + (tmp_path / "report" / "report.csv").read_text())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["no folder", "run"]),
        (lambda folder: (folder / "config.json").unlink(), ["no training run", "config.json", "configs/demo.py"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json is damaged"]),
        (lambda folder: (folder / "config.json").write_text("{}"), ["config.json", "'dataset'"]),
        (lambda folder: (folder / "config.json").write_text("[]"), ["config.json is damaged", "dict"]),
        (lambda folder: (folder / "classes.json").write_text(""), ["classes.json is damaged"]),
        (lambda folder: (folder / "results.json").write_text('{"last": {'), ["results.json is damaged"]),
        (
            lambda folder: (folder / "results.json").write_text('{"best": {}}'),
            ["results.json", "top1_accuracy", "last"],
        ),
    ],
)
def test_what_is_no_run_or_damaged_is_one_line(tmp_path, capsys, damage, words):
    folder = write_run(tmp_path / "run")
    damage(folder)
    assert main(["animesion", "report", str(folder), f"--output={tmp_path / 'report'}"]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not (tmp_path / "report").exists()


def test_the_command_prints_what_it_writes(tmp_path, capsys):
    write_run(tmp_path / "run")
    assert main(["animesion", "report", str(tmp_path / "run"), f"--output={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md", "report.csv", "report.json", "curves.png",
    }  # fmt: skip


def test_curves_share_one_axis_and_seeds_a_colour(tmp_path, caplog):
    runs = tmp_path / "runs"
    write_run(runs / "a0", curve=(0.1, 0.3, 0.4), seed=0)
    write_run(runs / "a1", curve=(0.2, 0.35), ended=False, seed=1)
    write_run(runs / "b", curve=(0.5, 0.6), batch_size=32)
    write_run(runs / "blind", curve=(), validation_split="")
    with caplog.at_level("INFO", logger="animesion_jax"):
        figure = draw_curves(groups_of(tmp_path))
    (axes,) = figure.axes
    curves = [line for line in axes.lines if line.get_marker() != "x"]
    points = {tuple(line.get_ydata().round(6)): line for line in map(_arrays, curves)}
    assert set(points) == {(10, 30, 40), (20, 35), (50, 60)}
    assert list(points[10, 30, 40].get_xdata()) == [1, 2, 3]
    assert points[10, 30, 40].get_color() == points[20, 35].get_color() != points[50, 60].get_color()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "vit_l16, batch 32", "vit_l16, batch 64, 2 runs",
    ]  # fmt: skip
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert (*cross.get_xdata(), *cross.get_ydata()) == (2, 35)
    assert f"{runs / 'blind'} has no validation rows" in caplog.text


def _arrays(line):
    line.set_data(*line.get_data(orig=False))
    return line


def test_a_legend_of_thirty_groups_lies_beside_the_axes_and_in_the_picture(tmp_path):
    for index in range(30):
        options = {"decay_epochs": index, "crop_margin": index, "dropout_rate": index / 64}
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


def _joined(axes):
    """Returns (x, y) of every line of a panel by its label; error bars as a third entry."""
    joined = {}
    for container in axes.containers:
        line, _, bars = container.lines
        heights = [
            (segment[1][1] - segment[0][1]) / 2 if len(segment) else math.nan for segment in bars[0].get_segments()
        ]
        label = container.get_label().replace("\n", " ")
        assert label not in joined
        joined[label] = (list(line.get_xdata()), [round(y, 6) for y in line.get_ydata()], heights)
    return joined


def test_sizes_join_what_differs_in_the_size_and_what_goes_with_it(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "64-16-0", image_size=64, batch_size=16, top1=0.25)
    write_run(runs / "64-16-1", image_size=64, batch_size=16, top1=0.5, seed=1)
    write_run(runs / "128-16", image_size=128, batch_size=16, top1=0.5)
    # Its learning rate is twice that of batch 16, as its batch, and that of batch 64 is, as the root of its batch.
    write_run(runs / "64-32", image_size=64, batch_size=32, learning_rate=0.002, top1=0.75)
    write_run(runs / "64-64", image_size=64, batch_size=64, learning_rate=0.002, top1=0.125)
    write_run(runs / "alone", model="resnet18", top1=1.0)
    figure = draw_sizes(groups_of(tmp_path), "last")
    by_image, by_batch = map(_joined, figure.axes)
    assert {label: line[:2] for label, line in by_image.items()} == {
        "vit_l16, batch 16, lr 0.001": ([64, 128], [37.5, 50.0]),
        "vit_l16, batch 32, lr 0.002": ([64], [75.0]),
        "vit_l16, batch 64, lr 0.002": ([64], [12.5]),
    }
    assert {label: line[:2] for label, line in by_batch.items()} == {
        "vit_l16, 64 px, lr 0.002": ([32, 64], [75.0, 12.5]),
        "vit_l16, 64 px, lr ∝ batch": ([16, 32], [37.5, 75.0]),
        "vit_l16, 64 px, lr ∝ √batch": ([16, 64], [37.5, 12.5]),
        "vit_l16, 128 px, lr 0.001": ([16], [50.0]),
    }
    # Of 0.25 and 0.5: 0.125 * sqrt(2).
    assert by_image["vit_l16, batch 16, lr 0.001"][2][0] == pytest.approx(12.5 * math.sqrt(2))
    assert figure.axes[0].get_xscale() == "linear" and figure.axes[1].get_xscale() == "log"
    assert figure.axes[1].xaxis.get_transform().base == 2
    reported(tmp_path)
    text = (tmp_path / "report" / "report.md").read_text()
    assert markdown_rows(text, "Size study: vit_l16 on moeimouto/kaggle") == [
        ["64 px", "37.50 ± 17.68 (lr 0.001)", "75.00 (lr 0.002)", "12.50 (lr 0.002)"],
        ["128 px", "50.00 (lr 0.001)", "—", "—"],
    ]
    with Image.open(tmp_path / "report" / "sizes.png") as picture:
        assert picture.size[0] > 1000


def write_sweep(folder, argument, scaling, top1):
    """Writes the runs of a sweep of 3 image sizes and 3 batch sizes; `top1(image size, batch size)`."""
    config = sweep_size.get_config(argument)
    with config.unlocked():
        config.grid = {"image_size": (64, 96, 224), "batch_size": (64, 256, 1024)}
    config.learning_rate_scaling = scaling
    for name, each in sweep.expand(config).items():
        write_run(
            folder / scaling / f"{argument}-{name}", top1=top1(each.image_size, each.batch_size), **each.to_dict()
        )


def test_the_runs_of_our_own_sweeps_are_joined(tmp_path):
    for scaling, lost in (("none", 0.05), ("linear", 0.02)):
        for argument, base in (("vit_b32", 0.2), ("resnet18", 0.5)):
            # A run of the reference batch is the same in both sweeps, and so are its results.
            write_sweep(
                tmp_path / "runs", argument, scaling,
                lambda image, batch, base=base, lost=lost: base + image / 1000 - lost * math.log2(batch / 64),
            )  # fmt: skip
    reported(tmp_path)
    groups = group_runs(read_run(folder) for folder in sorted((tmp_path / "runs").glob("*/*")))
    assert len(groups) == 2 * (9 + 6)
    by_image, by_batch = map(_joined, draw_sizes(groups, "last").axes)
    models = ("resnet18", "vit_b32")
    crop = "crop margin ∝ size"
    rates = {"batch 64": ["0.001"], "batch 256": ["0.001", "0.004"], "batch 1024": ["0.001", "0.016"]}
    assert set(by_image) == {
        f"{model}, {batch}, {crop}, lr {rate}" for model in models for batch in rates for rate in rates[batch]
    }
    assert set(by_batch) == {
        f"{model}, {size} px, {rate}"
        for model in models
        for size in (64, 96, 224)
        for rate in ("lr 0.001", "lr ∝ batch")
    }
    assert all(line[0] == [64, 96, 224] for line in by_image.values())
    assert all(line[0] == [64, 256, 1024] for line in by_batch.values())
    # 100 * (0.2 + 0.096 - 0.02 * (0, 2, 4)), and the lone sweep's 0.05.
    assert by_batch["vit_b32, 96 px, lr ∝ batch"][1] == pytest.approx([29.6, 25.6, 21.6])
    assert by_batch["vit_b32, 96 px, lr 0.001"][1] == pytest.approx([29.6, 19.6, 9.6])
    text = (tmp_path / "report" / "report.md").read_text()
    assert markdown_rows(text, "Size study: vit_b32 on dafre/released")[1] == [
        "96 px", "29.60 (lr 0.001)", "19.60 (lr 0.001)<br>25.60 (lr 0.004)", "9.60 (lr 0.001)<br>21.60 (lr 0.016)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("margins", "lines"),
    [
        # At 50 px and a margin of 32 for 128 px: 12.5, to be rounded.
        ({50: 12, 128: 32, 130: 33}, {"crop margin ∝ size": [50, 128, 130]}),
        ({50: 13, 128: 32, 150: 38}, {"crop margin ∝ size": [50, 128, 150]}),
        ({64: 32, 128: 32, 256: 32}, {"": [64, 128, 256]}),
        ({64: 20, 128: 32, 192: 32}, {"crop_margin 20": [64], "crop_margin 32": [128, 192]}),
        ({64: 16, 128: 32, 192: 32}, {"crop margin ∝ size": [64, 128], "crop_margin 32": [128, 192]}),
        ({64: 16, 128: 33, 192: 51}, {"crop margin ∝ size": [64, 128], "crop_margin 51": [192]}),
    ],
)
def test_a_crop_margin_is_constant_or_goes_with_the_image_size(tmp_path, margins, lines):
    for size, margin in margins.items():
        write_run(tmp_path / "runs" / f"{size}", image_size=size, crop_margin=margin)
    joined = _joined(draw_sizes(groups_of(tmp_path), "last").axes[0])
    assert {label: line[0] for label, line in joined.items()} == {
        ", ".join(["vit_l16", "batch 64", *filter(None, [words])]): sizes for words, sizes in lines.items()
    }


def test_two_lines_of_one_law_are_told_apart_by_where_they_begin(tmp_path):
    # The margin of 128 px is 32 or, of the other sweep, 33; the one is no neighbour of the other.
    for size, margin in ((128, 32), (128, 33), (256, 64), (256, 66)):
        write_run(tmp_path / "runs" / f"{size}-{margin}", image_size=size, crop_margin=margin, momentum=0.8)
    for batch_size, rate in ((16, 0.1), (32, 0.2), (16, 0.3), (32, 0.6)):
        options = {"batch_size": batch_size, "learning_rate": rate, "model": "vit_b16"}
        write_run(tmp_path / "runs" / f"{batch_size}-{rate}", **options)
    by_image, by_batch = map(_joined, draw_sizes(groups_of(tmp_path), "last").axes)
    lines = {label.removeprefix("vit_l16, batch 64, "): line[0] for label, line in by_image.items() if "l16" in label}
    assert lines == {
        "crop margin ∝ size, crop_margin 32 at 128 px": [128, 256],
        "crop margin ∝ size, crop_margin 33 at 128 px": [128, 256],
    }
    lines = {label.removeprefix("vit_b16, 128 px, "): line[0] for label, line in by_batch.items() if "b16" in label}
    assert lines == {"lr ∝ batch, lr 0.1 at batch 16": [16, 32], "lr ∝ batch, lr 0.3 at batch 16": [16, 32]}


def test_a_line_has_one_group_of_a_size_also_where_their_margins_are_neighbours(tmp_path):
    for size, margin in ((16, 4), (128, 32), (128, 33), (128, 34)):
        write_run(tmp_path / "runs" / f"{size}-{margin}", image_size=size, crop_margin=margin)
    groups = groups_of(tmp_path)
    lines = [[group.config["crop_margin"] for group in line] for _, line in size_lines(groups, "image_size")]
    assert sorted(lines) == [[4, 32], [4, 33], [4, 34]]


def test_a_size_study_has_two_sizes_that_differ_alone(tmp_path):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "diagonal", image_size=64, batch_size=32)
    write_run(tmp_path / "runs" / "pretrained", batch_size=32, pretrained="x")
    assert draw_sizes(groups_of(tmp_path), "last") is None
    reported(tmp_path)
    assert "Size study" not in (tmp_path / "report" / "report.md").read_text()
    write_run(tmp_path / "runs" / "b", batch_size=32)
    reported(tmp_path)
    assert (tmp_path / "report" / "report.md").read_text().count("Size study") == 1


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"model": "vit_b16", "image_size": 64}, {"dataset": "x", "batch_size": 2}]
)
def test_no_sizes_without_two_sizes_of_one_model_and_data_set(tmp_path, changes):
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", **changes)
    assert draw_sizes(groups_of(tmp_path), "last") is None
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "sizes.png").write_text("of an earlier report")
    reported(tmp_path)
    assert not (tmp_path / "report" / "sizes.png").exists()


@pytest.mark.shared
def test_the_papers_figures_are_those_of_its_text():
    models = {short: model for model, short in paper.SHORT_NAMES.items()}
    text = (SHARED / "paper.txt").read_text()
    captions = re.findall(
        r"^Table (\d)\. Classification accuracy \(%\) for \*(.+?)\* trained for (\d+) epochs with batch size: (\d+) "
        r"and image size: (\d+)x\d+\.\n((?:.*\t.*\n|\n)+)",
        text,
        re.MULTILINE,
    )
    classes = re.findall(r"representing ([\d,]+)(?: character)? classes", text)
    datasets = dict(zip(("DAF:re", "moelmouto"), zip(("dafre", "moeimouto"), classes, strict=True), strict=True))
    assert len(captions) == len(paper.TABLES) == 4
    for table, (number, dataset, epochs, batch_size, image_size, body) in zip(paper.TABLES, captions, strict=True):
        assert (table.dataset, f"{table.num_classes:,}") == datasets[dataset]
        printed = tuple(map(int, (number, epochs, batch_size, image_size)))
        assert (table.number, table.epochs, table.batch_size, table.image_size) == printed
        # "after each 20 epochs if training for 50 epochs, and after 50 epochs if training for 200 epochs"
        assert f"{table.decay_epochs} epochs if training for {table.epochs} epochs" in text
        rows = {}
        for line in body.strip().splitlines()[2:]:
            short, *cells = line.split("\t")
            for pretrained, pair in ((False, cells[:2]), (True, cells[2:])):
                if pair[0]:
                    rows[models[short], pretrained] = tuple(map(float, pair))
        assert table.rows == rows
    assert sum(len(table.rows) for table in paper.TABLES) == 34


def test_a_real_run_is_reported_from_its_json_files_without_jax_or_tensorflow(trained, tmp_path):
    workdir, results = trained
    for name in ("config.json", "classes.json", "metrics.jsonl", "results.json"):
        (tmp_path / "run").mkdir(exist_ok=True)
        shutil.copy(workdir / name, tmp_path / "run")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('jax', 'flax', 'tensorflow', 'orbax'), None))\n"
        "from animesion_jax.main import main; sys.exit(main(['animesion', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, "report", str(tmp_path / "run"), f"--output={tmp_path / 'out'}"]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    (table,) = content["other"]
    (line,) = table["rows"]
    assert (table["dataset"], table["num_classes"], line["model"], line["image_size"]) == (
        "toyfaces",
        20,
        "shallownet",
        32,
    )
    assert (
        line["top1_mean"] == results["last"]["top1_accuracy"] and line["top5_mean"] == results["last"]["top5_accuracy"]
    )
    assert content["runs"] == [{"path": str(tmp_path / "run"), "seed": 0, **results["last"]}]
    assert not content["unfinished"]
