"""A folder of images to a model: the data set is built once, rebuilt after a change, and trained on."""

import copy
import json
import logging
import os
import shutil

import numpy as np
import pytest

from animesion_jax.cli.train import parse_args
from animesion_jax.configs import folder as folder_config
from animesion_jax.data.datasets import load_dataset
from animesion_jax.errors import InputError
from animesion_jax.library.folder import build_folder
from animesion_jax.main import main
from tests.character_folders import SIZES, TEST_NAMES, draw_folder, draw_image, stored_records, toy_folder_config
from tests.conftest import ROOT
from tfds_builders.folder.folder_dataset_builder import Builder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A (folder, data_dir, prepared config) of the three characters."""
    root = tmp_path_factory.mktemp("built")
    config = toy_folder_config(draw_folder(root / "my pictures!"), root / "data")
    build_folder(config)
    return root / "my pictures!", root / "data", config


def test_built_data_set_has_the_files_labels_and_splits_of_the_folder(built):
    folder, data_dir, config = built
    dataset = load_dataset(config.dataset, str(data_dir))
    assert config.dataset.startswith("folder/my_pictures_") and dataset.class_names == tuple(SIZES)
    records = stored_records(dataset.builder)
    assert set(records) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for name, record in records.items():
        assert dataset.class_names[record["label"]] == name.split("/")[0]
        assert record["image"] == (folder / name).read_bytes()
    assert {name for name, record in records.items() if record["split"] == "test"} == TEST_NAMES
    report = json.loads((data_dir / config.dataset / "1.0.0" / "report.json").read_text())
    assert report["images"] == 34 and report["classes"] == 3


def test_folder_is_built_again_only_after_a_change(built, tmp_path, caplog):
    caplog.set_level(logging.INFO, "animesion_jax")
    folder, data_dir = shutil.copytree(built[0], tmp_path / "mine"), tmp_path / "data"

    def build(**fields):
        caplog.clear()
        config = toy_folder_config(folder, data_dir)
        config.update(fields)
        build_folder(config)
        return config.dataset, "building" in caplog.text

    first, was_built = build()
    assert was_built and build() == (first, False)
    assert first.rpartition("_")[2] != built[2].dataset.rpartition("_")[2]  # the same images in another folder
    seen = {first}
    for change in (
        lambda: os.utime(folder / "ai" / "00.png", (1, 1)),
        lambda: (folder / "ai" / "00.png").rename(folder / "ai" / "99.png"),
        lambda: draw_image(folder / "mi ku" / "new.png", 77),
    ):
        change()
        dataset, was_built = build()
        assert was_built and dataset not in seen
        seen.add(dataset)
    smaller, was_built = build(min_images=5)
    assert was_built and load_dataset(smaller, str(data_dir)).class_names == ("ai", "mi ku")
    (folder / "ai" / "notes.txt").write_text("no picture")
    assert build() == (dataset, False)


def test_two_simultaneous_starts_both_succeed(tmp_path, monkeypatch):
    """The second start builds while the first does, and finishes before it."""
    config = toy_folder_config(draw_folder(tmp_path / "mine"), tmp_path / "data")
    generators, starts = Builder._split_generators, []

    def interrupted(self, manager):
        starts.append(self)
        if len(starts) == 1:
            build_folder(copy.deepcopy(config))
        return generators(self, manager)

    monkeypatch.setattr(Builder, "_split_generators", interrupted)
    build_folder(config)
    assert len(starts) == 2
    assert load_dataset(config.dataset, config.data_dir).num_examples("train") > 0
    assert [path.name for path in starts[0].data_path.parent.iterdir()] == [starts[0].data_path.name]


def test_killed_build_is_not_used(tmp_path, monkeypatch):
    folder = draw_folder(tmp_path / "mine")
    config = toy_folder_config(folder, tmp_path / "data")

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tfds_builders.folder.folder_dataset_builder.encode_all", stop)
        with pytest.raises(KeyboardInterrupt):
            build_folder(config)
    assert config.dataset == "folder" and not list((tmp_path / "data").rglob("*.tfrecord*"))
    build_folder(config)
    # Simulate a kill just before the last step, without a cleanup.
    versions = tmp_path / "data" / config.dataset
    shutil.copytree(versions / "1.0.0", versions / "incomplete.ABCDEF_1.0.0")
    assert load_dataset(config.dataset, config.data_dir).num_examples("train") == 23
    shutil.rmtree(versions / "1.0.0")
    with pytest.raises(InputError, match="it builds the data set again"):
        load_dataset(config.dataset, config.data_dir)


@pytest.mark.parametrize(
    ("splits", "fields", "expected"),
    [
        ({"train": 8}, {}, ("held_out", 1 / 8, "")),
        ({"train": 8}, {"held_out": 0.25}, ("held_out", 0.25, "")),
        ({"train": 3, "test": 1}, {}, ("", 0.0, "test")),
        ({"train": 8, "val": 1}, {}, ("validation", 0.0, "")),
        ({"train": 8, "val": 1}, {"validation_split": ""}, ("", 0.0, "")),
    ],
)
def test_config_uses_the_splits_of_the_data_set(tmp_path, splits, fields, expected):
    for start, (split, count) in enumerate(splits.items()):
        draw_folder(tmp_path / "mine" / split, {"a": count, "b": count}, start=start)
    config = toy_folder_config(tmp_path / "mine", tmp_path / "data")
    config.update(fields)
    build_folder(config)
    assert (config.validation_split, config.held_out, config.test_split) == expected


def test_train_on_a_folder_then_evaluate_export_and_predict(built, tmp_path, capsys):
    """Trains, resumes, and then refuses a changed and a missing folder."""
    folder, workdir = shutil.copytree(built[0], tmp_path / "mine"), tmp_path / "run"
    train = [
        f"--config={ROOT}/configs/folder.py:shallownet", f"--config.folder={folder}", f"--workdir={workdir}",
        f"--config.data_dir={tmp_path / 'data'}", "--config.image_size=16", "--config.crop_margin=4",
        "--config.batch_size=8", "--config.eval_batch_size=8", "--config.epochs=2", "--config.warmup_epochs=0.0",
    ]  # fmt: skip
    assert main(["animesion", *train]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["last"]["examples"] == 9
    saved = json.loads((workdir / "config.json").read_text())
    assert saved["folder"] == str(folder) and saved["dataset"].startswith("folder/mine_")

    assert main(["animesion", *train]) == 0
    assert json.loads(capsys.readouterr().out)["last"] == pytest.approx(results["last"])

    draw_image(folder / "ai" / "new.png", 99)
    assert main(["animesion", *train]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"the images in {folder} have changed since {workdir} was started" in message
    test_files = sorted(folder / name for name in TEST_NAMES)
    kept = [shutil.copy(file, tmp_path / f"{i}.png") for i, file in enumerate(test_files)]
    shutil.rmtree(folder)
    assert main(["animesion", *train]) == 2
    assert f"{folder} is not a folder" in capsys.readouterr().err

    assert main(["animesion", "evaluate", f"--workdir={workdir}", "--weights=last"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(results["last"]["loss"], rel=1e-6)
    bundle = tmp_path / "mine.msgpack"
    export = ["animesion", "export", f"--workdir={workdir}", f"--output={bundle}", "--weights=last"]
    assert main([*export, "--no_calibration"]) == 0
    capsys.readouterr()
    assert main(["animesion", "predict", f"--bundle={bundle}", "--format=json", *map(str, kept)]) == 0
    rows = json.loads(capsys.readouterr().out)
    # The loss of evaluate, from the records, is that of predict's probabilities, from the files.
    likelihoods = [
        next(each["probability"] for each in row["predictions"] if each["class"] == file.parent.name)
        for row, file in zip(rows, test_files, strict=True)
    ]
    assert -np.log(likelihoods).mean() == pytest.approx(results["last"]["loss"], rel=1e-4)


def test_bad_folder_settings_are_reported_in_one_line(tmp_path, capsys):
    command = ["animesion", f"--config={ROOT}/configs/folder.py:shallownet", f"--workdir={tmp_path / 'run'}"]
    for flags, words in [
        ([], "config.folder is ''; needed"),
        (["--config.folder=nowhere"], "nowhere is not a folder; expected"),
        (["--config.folder=.", "--config.min_images=-1"], "config.min_images is -1; allowed: 0 or more"),
    ]:
        assert main([*command, *flags]) == 2
        message = capsys.readouterr().err.strip()
        assert words in message and len(message.splitlines()) == 1
    with pytest.raises(ValueError, match="'fast'"):
        folder_config.get_config("resnet18,fast")
    assert not (tmp_path / "run").exists()


def test_command_in_the_docstring_of_the_config_file_works():
    lines = folder_config.__doc__.replace("\\\n", " ").splitlines()
    command = next(line for line in lines if "animesion --config" in line).split()[1:]
    config = parse_args(command).config
    assert (config.model, config.dataset, config.folder) == ("vit_s16", "folder", "PATH") and config.pretrained
