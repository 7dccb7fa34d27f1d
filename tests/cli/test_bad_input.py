"""Bad input to train and evaluate ends in one line with the value, the allowed values and the next step."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from animesion_jax.main import main
from tests.conftest import ROOT

COMMON = f"--config={ROOT / 'configs' / 'common.py'}"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Returns a function that stores a data set of grey images with given labels and returns its data_dir."""
    data_dir = tmp_path_factory.mktemp("stored")

    def store(name, labels_by_split, num_classes):
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(num_classes=32)}
        )
        image = np.full((8, 8, 3), 127, np.uint8)
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name,
            version="1.0.0",
            features=features,
            split_datasets={
                split: tf.data.Dataset.from_tensor_slices({"image": [image] * len(labels), "label": labels})
                for split, labels in labels_by_split.items()
            },
            data_dir=data_dir,
        )
        # TFDS refuses to write labels outside the range, so make the range smaller afterwards.
        file = data_dir / name / "1.0.0" / "features.json"
        description = json.loads(file.read_text())
        description["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = str(num_classes)
        file.write_text(json.dumps(description))
        names = data_dir / name / "1.0.0" / "label.labels.txt"
        names.write_text("".join(f"{class_id}\n" for class_id in range(num_classes)))
        return data_dir

    return store


def _line(arguments, capsys):
    """Runs a command that must fail, and returns its one line."""
    # Drop earlier output, of TFDS for example.
    capsys.readouterr()
    assert main(["animesion", *map(str, arguments)]) == 2
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1, message
    return message


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=alexnet"], ["unknown model 'alexnet'; allowed: shallownet, resnet10"]),
        (["model=vit_b16", "image_size=50"], ["image_size 50 is not a multiple of 16", "vit_b16", "48 and 64"]),
        (["train_split=training"], ["toyfaces has no split 'training'; allowed: train, validation, test"]),
        (["batch_size=66"], ["batch_size 66 does not divide among 4 devices; allowed: a multiple of 4"]),
        (
            ["batch_size=60", "grad_accumulation=4"],
            ["batch_size 60 does not divide among 4 devices x 4 parts", "a multiple of 16"],
        ),
        (["eval_batch_size=66"], ["eval_batch_size 66 does not divide", "a multiple of 4"]),
        (["batch_size=4096"], ["batch_size 4096 is more than the 1411 examples", "allowed: 1 to 1411"]),
        (
            ["dataset=dafre/released"],
            ["'dafre/released' is not built", "build it: animesion build --manual_dir=MANUAL "],
        ),
        (["seed=-1"], ["config.seed is -1; allowed: 0 or more"]),
        (["mean=('a','b','c')"], ["config.mean is ('a', 'b', 'c'); allowed: three numbers"]),
    ],
)
def test_bad_field_is_refused_before_the_workdir_is_made(overrides, words, toyfaces_dir, tmp_path, capsys):
    flags = [f"--config.{override}" for override in overrides]
    message = _line([COMMON, f"--config.data_dir={toyfaces_dir}", f"--workdir={tmp_path / 'run'}", *flags], capsys)
    assert all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "labels", "words"),
    [
        (
            "absent",
            {"train": [0, 1, 3] * 8, "validation": [0, 1, 2, 3]},
            [
                "'train' of absent has no image of 1 of its 4 classes: '2'; allowed: at least one of every class",
                "build",
            ],
        ),
        (
            "outside",
            {"train": [0, 1, 2, 3, 7] * 5, "validation": [0, 1, 2, 3]},
            ["'train' of outside has the label 7; allowed: 0 to 3", "take another split"],
        ),
    ],
)
def test_bad_labels_are_refused_before_the_workdir_is_made(name, labels, words, store, tmp_path, capsys):
    data_dir = store(name, labels, num_classes=4)
    flags = ["image_size=16", "batch_size=4", "eval_batch_size=4", "epochs=1", "test_split=", f"dataset={name}"]
    flags = [f"--config.{flag}" for flag in (*flags, f"data_dir={data_dir}")]
    message = _line([COMMON, *flags, f"--workdir={tmp_path / 'run'}"], capsys)
    assert all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


def test_labels_outside_the_range_stop_an_evaluation(store, toy_config):
    """Labels outside the range would count as wrong answers."""
    from animesion_jax.data.datasets import load_dataset
    from animesion_jax.data.eval_data import EvalData
    from animesion_jax.errors import InputError

    data_dir = store("unlabelled", {"train": [0, 1], "test": [0, 1, 30]}, num_classes=2)
    data = EvalData(toy_config, load_dataset("unlabelled", str(data_dir)), "test")
    with pytest.raises(InputError, match=r"split 'test' of unlabelled has the label 30; allowed: 0 to 1"):
        list(data.batches())


def test_data_set_with_more_classes_than_the_run_is_refused(store, trained, tmp_path, capsys):
    data_dir = store("toyfaces", {"test": list(range(21))}, num_classes=21)
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    message = _line(["evaluate", f"--workdir={workdir}", f"--data_dir={data_dir}"], capsys)
    assert "toyfaces has 21 classes, the run has 20" in message and "allowed: the data set it was trained on" in message


@pytest.mark.parametrize("name", ["config.json", "classes.json"])
@pytest.mark.parametrize(("content", "words"), [(None, "is missing"), ("3", "is damaged (it holds no")])
def test_workdir_without_its_description_is_not_trained_on(name, content, words, trained, tmp_path, capsys):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    fields = ["image_size=32", "crop_margin=8", "learning_rate=0.02", "epochs=4"]
    fields += [f"data_dir={json.loads((workdir / 'config.json').read_text())['data_dir']}"]
    (workdir / name).unlink()
    if content:
        (workdir / name).write_text(content)
    message = _line([COMMON, *(f"--config.{field}" for field in fields), f"--workdir={workdir}"], capsys)
    assert f"{name} {words}" in message and "another" in message, message


def test_bundle_does_not_replace_a_folder(trained, tmp_path, capsys):
    message = _line(["export", f"--workdir={trained[0]}", f"--output={tmp_path}"], capsys)
    assert "is a folder; allowed: a file, such as" in message and not list(tmp_path.parent.glob("*.tmp"))


def test_unknown_split_to_evaluate_is_refused(trained, capsys):
    message = _line(["evaluate", f"--workdir={trained[0]}", "--split=dev"], capsys)
    assert "toyfaces has no split 'dev'; allowed: train, validation, test" in message


@pytest.mark.parametrize("what", ["below a file", "no permission"])
def test_unwritable_workdir_is_reported_in_one_line(what, toyfaces_dir, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    workdir = tmp_path / ("file/run" if what == "below a file" else "run")
    if what == "no permission":
        # Tests in containers run as root, which ignores permissions.
        from etils.epath import backend

        def refuse(self, path, *_, **__):
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(type(backend.os_backend), "mkdir", refuse)
        monkeypatch.setattr(type(backend.os_backend), "makedirs", refuse, raising=False)
    message = _line(
        [COMMON, f"--config.data_dir={toyfaces_dir}", "--config.image_size=16", f"--workdir={workdir}"], capsys
    )
    assert f"--workdir={workdir} cannot be written to" in message and "give another one" in message


def test_commands_take_paths_with_spaces_quotes_and_other_scripts(toyfaces_dir, trained, tmp_path, capsys):
    folder = tmp_path / 'my "best" run\'s 学習 é'
    folder.mkdir()
    workdir, data_dir = folder / "run, 1", folder / "data [x]"
    shutil.copytree(trained[0], workdir)
    data_dir.symlink_to(toyfaces_dir)
    # The run has ended: this restores, tests and writes everything again.
    fields = ["image_size=32", "crop_margin=8", "learning_rate=0.02", "epochs=3", f"data_dir={data_dir}"]
    assert main(["animesion", COMMON, *(f"--config.{field}" for field in fields), f"--workdir={workdir}"]) == 0
    assert json.loads((workdir / "results.json").read_text()) == trained[1]
    assert main(["animesion", "evaluate", f"--workdir={workdir}"]) == 0
    bundle = folder / "бандл.msgpack"
    assert main(["animesion", "export", f"--workdir={workdir}", f"--output={bundle}"]) == 0
    image = folder / '顔 "1", it\'s.png'
    Image.new("RGB", (20, 20), "pink").save(image)
    capsys.readouterr()
    assert main(["animesion", "predict", f"--bundle={bundle}", "--format=json", str(image)]) == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == str(image)
