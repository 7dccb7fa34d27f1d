import importlib
import itertools
import json

import pytest

from animesion_jax import paper
from animesion_jax.report.tables import paper_tables
from tests.report.runs import groups_of, lines_of, markdown_of, markdown_rows, reported, write_run


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": 172},
        {"image_size": 224},
        {"model": "vit_s16"},
        {"dataset": "mymoeimouto/kaggle"},
        {"dataset": "dafre/released"},
    ],
)
def test_run_on_other_data_or_model_is_not_in_the_papers_tables(tmp_path, changes):
    write_run(tmp_path / "runs" / "other", **changes)
    content = reported(tmp_path)
    assert not lines_of(content)
    (line,) = lines_of(content, paper_rows=False)
    assert line["top1_mean"] == 0.5 and "paper_top1" not in line
    (table,) = content["other"]
    assert table["num_classes"] == changes.get("classes", 173)
    title = f"{table['dataset']}, {table['num_classes']} classes"
    assert len(markdown_rows(markdown_of(tmp_path), title)) == 1


def test_runs_are_in_the_table_of_their_data_set_and_size(tmp_path):
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


def test_pretrained_and_scratch_are_different_rows(tmp_path):
    write_run(tmp_path / "runs" / "scratch", top1=0.25)
    write_run(tmp_path / "runs" / "tuned", top1=0.75, pretrained="weights.npz")
    lines = lines_of(reported(tmp_path))
    assert [(row["pretrained"], row["paper_top1"], row["top1_mean"]) for row in lines] == [
        (False, 0.6656, 0.25),
        (True, 0.9280, 0.75),
    ]
    assert "from weights.npz" in lines[1]["notes"]


def test_epochs_of_a_line_are_those_of_all_stages(tmp_path):
    write_run(tmp_path / "runs" / "a", stages=[{}, {"epochs": 10, "trainable": "head"}])
    (line,) = lines_of(reported(tmp_path))
    assert line["epochs"] == 210 and "stages 2 (paper: 1)" in line["notes"]


def test_notes_list_every_difference_from_the_papers_row(tmp_path):
    faithful = {
        "eval_mode_after_epochs": 1,
        "shallownet": {"initializer": "pytorch"},
        "vit": {"gelu": "erf", "dropout_places": "animesion", "embedding_initializer": "pytorch"},
    }
    runs = tmp_path / "runs"
    write_run(runs / "same", seed=3, **faithful)
    write_run(runs / "half", model="vit_l32", eval_mode_after_epochs=5)
    # The paper validated on the test split.
    write_run(runs / "blind", model="vit_b16", validation_split="", **faithful)
    write_run(runs / "short", epochs=20, decay_epochs=5, learning_rate=0.01, batch_size=8)
    write_run(
        runs / "frozen", model="resnet18", pretrained="r18", dataset="moeimouto/mine", held_out=0.2,
        mean=[0.5, 0.5, 0.5],
    )  # fmt: skip
    write_run(runs / "dropout", model="vit_b32", dropout_rate=0.2)
    lines = {row["runs"][0].rsplit("/")[-1]: row for row in lines_of(reported(tmp_path))}
    assert [name for name, row in lines.items() if row["faithful"]] == ["same"]
    notes = {name: row["notes"] for name, row in lines.items()}
    assert notes["same"] == ["faithful"]
    assert notes["half"] == ["eval_mode_after_epochs 5", "not faithful"]
    assert notes["short"] == [
        "batch 8 (paper: 64)", "decay_epochs 5 (paper: 50)", "epochs 20 (paper: 200)", "lr 0.01 (paper: 0.001)",
        "not faithful",
    ]  # fmt: skip
    assert notes["dropout"] == ["dropout_rate 0.2 (paper: null)", "not faithful"]
    assert notes["blind"][0] == "validation_split none (paper: test)" and notes["blind"][-1] == "not faithful"
    assert notes["frozen"] == [
        "dataset moeimouto/mine (paper: moeimouto/kaggle)", "held_out 0.2 (paper: 0)",
        "mean (0.5, 0.5, 0.5) (paper: null)",
        "trainable all (paper: head)", "from r18", "not faithful",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"augment": {"flip": 0.0}}, "augment.flip 0 (paper: 0.5)"),
        ({"augment": {"erasing": 0.25}}, "augment.erasing 0.25 (paper: 0)"),
        ({"vit": {"pre_logits": True}}, "vit.pre_logits True (paper: False)"),
        ({"std": [1.0, 1.0, 1.0]}, "std (1.0, 1.0, 1.0) (paper: null)"),
        ({"optimizer": None}, "optimizer null (paper: sgd)"),
        ({"schedule": "cosine"}, "schedule cosine (paper: piecewise)"),
        ({"model": "resnet18", "resnet": {"initializer": "he"}}, "resnet.initializer he (paper: xavier)"),
    ],
)
def test_note_names_a_setting_that_differs_from_the_papers(tmp_path, changes, note):
    write_run(tmp_path / "runs" / "changed", **changes)
    (group,) = groups_of(tmp_path)
    assert note in lines_of({"tables": paper_tables([group], "last")})[0]["notes"]


def test_configs_of_the_papers_rows_have_the_papers_settings(tmp_path):
    for table, option in itertools.product(paper.TABLES, ("", ",faithful")):
        module = importlib.import_module(f"animesion_jax.configs.{table.config}")
        for index, (model, pretrained) in enumerate(table.rows):
            config = module.get_config(model + ",pretrained" * pretrained + option)
            folder = tmp_path / "runs" / f"{table.number}-{index}{option}"
            write_run(folder, classes=table.num_classes, curve=(), config=config)
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


@pytest.mark.parametrize("dataset", ["moeimouto/kaggle", "folder/mine"])
def test_warning_of_the_weights_is_noted_in_the_papers_table_and_in_others(tmp_path, dataset):
    for seed in (0, 1):
        workdir = write_run(tmp_path / "runs" / str(seed), dataset=dataset, pretrained="wd_vit_l16", seed=seed)
        origin = {"images": {}, "pretrained": {"address": "wd_vit_l16", "note": "saw the test images"}}
        (workdir / "origin.json").write_text(json.dumps(origin))
    made = reported(tmp_path)
    (row,) = (row for table in made["tables"] + made["other"] for row in table["rows"] if row["n"] == 2)
    assert row["notes"].count("saw the test images") == 1
