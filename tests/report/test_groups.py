import math

import pytest

from tests.report.runs import groups_of, lines_of, markdown_of, reported, write_run


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({"data_dir": "elsewhere", "data": {"cache": "none"}, "eval_batch_size": 1, "log_every_steps": 1}, 1),
        ({"keep_last_checkpoints": 9, "default_weights": "last"}, 1),
        # Neither the schedule nor random weights read these.
        ({"warmup_epochs": 3.0, "keep_head": True}, 1),
        ({"stages": [{"epochs": 200}]}, 1),
        ({"stages": [{}, {"epochs": 2, "trainable": "head"}]}, 2),
        ({"vit": {"pool": "mean"}}, 2),
        ({"learning_rate": None}, 2),
        ({"mean": [0.4, 0.5, 0.5]}, 2),
    ],
)
def test_runs_are_grouped_by_settings_that_change_the_result(tmp_path, changes, groups):
    write_run(tmp_path / "runs" / "a", seed=0)
    write_run(tmp_path / "runs" / "b", seed=1, **changes)
    lines = lines_of(reported(tmp_path))
    assert [row["n"] for row in lines] == [2 // groups] * groups


def test_several_runs_of_a_seed_count_as_one_by_their_mean(tmp_path):
    runs = tmp_path / "runs"
    write_run(runs / "a", top1=0.25, seed=0)
    write_run(runs / "b", top1=0.5, seed=1)
    write_run(runs / "c", top1=1.0, seed=1)
    (line,) = lines_of(reported(tmp_path))
    assert (line["n"], line["seeds"], len(line["runs"])) == (2, [0, 1], 3)
    # 0.25 and 0.75.
    assert (line["top1_mean"], line["top1_sd"]) == (0.5, pytest.approx(0.5 / math.sqrt(2)))
    assert "seed 1 counts once, by the mean of its runs" in line["notes"]
    assert "seed 1 counts once" in markdown_of(tmp_path)


def test_groups_are_ordered_by_model_and_sizes(tmp_path):
    for index, changes in enumerate([{"batch_size": 64}, {"batch_size": 32}, {"model": "resnet18"}]):
        write_run(tmp_path / "runs" / str(index), **changes)
    assert [(g.config["model"], g.config["batch_size"]) for g in groups_of(tmp_path)] == [
        ("resnet18", 64), ("vit_l16", 32), ("vit_l16", 64),
    ]  # fmt: skip
