import csv
import json
import math
import shutil
import subprocess
import sys

import pytest

from animesion_jax.main import main
from animesion_jax.report import report
from tests.conftest import ROOT
from tests.report.runs import lines_of, markdown_of, markdown_rows, reported, write_run


def _csv(tmp_path):
    with (tmp_path / "report" / "report.csv").open() as file:
        return list(csv.DictReader(file))


def test_rows_of_the_paper_without_runs_are_empty(tmp_path):
    write_run(tmp_path / "runs" / "toy", dataset="toyfaces", classes=20)
    content = reported(tmp_path)
    table = [row for row in _csv(tmp_path) if row["table"]]
    shown = [markdown_rows(markdown_of(tmp_path), f"Table {number}:") for number in (1, 2, 3, 4)]
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
    rows = markdown_rows(markdown_of(tmp_path), "Table 2:")
    l16 = ["L-16 (`vit_l16`)", "no", "66.56", "87.43", "63.00 ± 3.61", "87.50 ± 0.00", "3 (0, 1, 2)", "1"]
    assert [row for row in rows if row[4] != "—"] == [l16]
    (row,) = [row for row in _csv(tmp_path) if row["n"] == "3"]
    assert float(row["top1_mean"]) == line["top1_mean"] and float(row["top1_sd"]) == line["top1_sd"]
    assert (row["table"], row["seeds"], row["weights"]) == ("2", "0; 1; 2", "last")


def test_best_weights_of_one_seed_have_no_deviation(tmp_path):
    write_run(tmp_path / "runs" / "one", top1=0.5)
    (line,) = lines_of(reported(tmp_path, weights="best"))
    assert (line["top1_mean"], line["top1_sd"]) == (0.625, None)
    assert "| 62.50 |" in markdown_of(tmp_path)


def test_runs_without_results_are_listed_as_unfinished(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "ended", top1=0.5)
    write_run(runs / "going", ended=False, seed=1)
    write_run(runs / "begun", ended=False, curve=(), seed=2)
    two_stages = [{}, {"epochs": 10, "trainable": "head"}]
    write_run(runs / "stages", ended=False, curve=(), seed=3, stages=two_stages)
    untested = write_run(runs / "untested", seed=4, test_split="", ended=False)
    (untested / "results.json").write_text("{}")
    content = reported(tmp_path)
    (line,) = lines_of(content)
    assert line["runs"] == [str(runs / "ended")]
    assert {each["path"].split("/")[-1]: each["reached"] for each in content["unfinished"]} == {
        "going": "at epoch 2 of 200, step 20",
        "begun": "at epoch 0 of 200, step 0",
        "stages": "at epoch 0 of 210, step 0",
        "untested": "at epoch 2 of 200, step 20, no test split",
    }
    assert f"`{runs / 'going'}`: at epoch 2 of 200, step 20" in markdown_of(tmp_path)


def test_damaged_runs_are_listed_and_the_others_reported(tmp_path):
    good, config, results = (write_run(tmp_path / "runs" / name) for name in ("good", "config", "results"))
    (config / "config.json").write_text("{")
    (results / "results.json").write_text('{"last": {"top1_accuracy": null}}')
    content = reported(tmp_path)
    assert [row["runs"] for row in lines_of(content)] == [[str(good)]]
    reasons = {each["path"]: each["reached"] for each in content["unfinished"]}
    assert set(reasons) == {str(config), str(results)}
    assert "config.json is damaged" in reasons[str(config)]
    assert "no top1_accuracy of the last weights" in reasons[str(results)]
    assert reasons[str(config)] in markdown_of(tmp_path)


def test_loss_that_is_not_finite_is_null_in_json(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    results = write_run(tmp_path / "runs" / "a") / "results.json"
    results.write_text(results.read_text().replace('"split"', '"loss": NaN, "split"'))
    reported(tmp_path)
    content = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=refuse)
    assert [run["loss"] for run in content["runs"]] == [None]


def test_report_within_the_runs_folder_can_be_repeated(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "64" / "s0")
    (runs / "sweep.log").write_text("")
    for _ in range(2):
        # The second time, runs/* of the shell includes the report of the first.
        report([str(each) for each in runs.iterdir()], str(runs / "report"))
        assert len(lines_of(json.loads((runs / "report" / "report.json").read_text()))) == 1


def test_report_removes_plots_of_an_earlier_report(tmp_path):
    write_run(tmp_path / "runs" / "a")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "sizes.png").write_text("an earlier report")
    reported(tmp_path)
    assert not (tmp_path / "report" / "sizes.png").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), ["no folder", "run"]),
        (lambda folder: (folder / "config.json").unlink(), ["no training run", "config.json", "--config=demo"]),
        (lambda folder: (folder / "config.json").write_text("{"), ["config.json is damaged"]),
        (lambda folder: (folder / "config.json").write_text('{"model": "vit_l16"}'), ["config.json", "has no field"]),
        (lambda folder: (folder / "classes.json").write_text(""), ["classes.json is damaged"]),
        (lambda folder: (folder / "results.json").write_text('{"last": {'), ["results.json is damaged"]),
        (
            lambda folder: (folder / "results.json").write_text('{"last": {"top1_accuracy": NaN}}'),
            ["results.json", "top1_accuracy", "last"],
        ),
    ],
)
def test_command_refuses_a_missing_or_damaged_run_in_one_line(tmp_path, capsys, damage, words):
    folder = write_run(tmp_path / "run")
    damage(folder)
    assert main(["animesion", "report", str(folder), f"--output={tmp_path / 'report'}"]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1 and all(word in message for word in words), message
    assert not (tmp_path / "report").exists()


def test_report_command_prints_the_markdown(tmp_path, capsys):
    write_run(tmp_path / "run")
    assert main(["animesion", "report", str(tmp_path / "run"), f"--output={tmp_path / 'out'}"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out" / "report.md").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.md", "report.csv", "report.json", "curves.png",
    }  # fmt: skip


def test_real_run_is_reported_from_its_json_files_without_jax_or_tensorflow(trained, tmp_path):
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
    found = (table["dataset"], table["num_classes"], line["model"], line["image_size"])
    assert found == ("toyfaces", 20, "shallownet", 32)
    assert line["top1_mean"] == results["last"]["top1_accuracy"]
    assert line["top5_mean"] == results["last"]["top5_accuracy"]
    assert content["runs"] == [{"path": str(tmp_path / "run"), "seed": 0, **results["last"]}]
    assert not content["unfinished"]
