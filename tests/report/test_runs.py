import pytest

from animesion_jax.errors import InputError
from animesion_jax.report.runs import find_runs, flat_config, read_run
from tests.report.runs import config_tree, lines_of, reported, write_run


def test_find_runs_searches_folders_but_not_workdirs(tmp_path):
    inner = [write_run(tmp_path / "runs" / "64" / f"s{seed}") for seed in (0, 1)]
    write_run(inner[1] / "checkpoints" / "7")
    (tmp_path / "runs" / "sweep.log").write_text("")
    assert [str(each) for each in find_runs([str(tmp_path / "runs"), str(inner[0])])] == [str(each) for each in inner]


def test_folders_without_a_run_are_skipped_while_there_is_one(tmp_path, caplog):
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
    skipped = [message for message in caplog.messages if message.startswith("skipped")]
    assert skipped == [
        f"skipped {tmp_path / 'runs' / name}: not a workdir, and no workdir below it"
        for name in ("empty", "older report")
    ]


def test_broken_links_and_damaged_rows_are_skipped(tmp_path):
    runs = tmp_path / "runs"
    for name, content in (("torn", b'{"step": 1, "split": "train"}\n'), ("bytes", b"\xff\xfe\n")):
        (write_run(runs / name, seed=len(name)) / "metrics.jsonl").write_bytes(content)
    (runs / "latest").symlink_to("gone")
    content = reported(tmp_path, *sorted(runs.iterdir()))
    assert [line["seeds"] for line in lines_of(content)] == [[5, 4]]


def test_flat_config_of_two_stages_has_the_changes_of_the_second():
    stages = [
        {"epochs": 5},
        {"epochs": 0},
        {"epochs": 3, "trainable": "head", "augment": {"flip": 0.0}, "momentum": 0.9},
    ]
    flat = flat_config(config_tree(model="resnet18", stages=stages))
    assert (flat["stages"], flat["epochs"], flat["trainable"]) == (2, 5, "all")
    assert {name: value for name, value in flat.items() if name.startswith("stages[")} == {
        "stages[1].epochs": 3, "stages[1].trainable": "head", "stages[1].augment.flip": 0.0,
    }  # fmt: skip


def test_epochs_add_up_over_stages(tmp_path):
    stages = [{"epochs": 5}, {"epochs": 3}, {"trainable": "head", "epochs": 5}]
    assert read_run(write_run(tmp_path / "a", stages=stages)).epochs == 13
    assert read_run(write_run(tmp_path / "b")).epochs == 200
