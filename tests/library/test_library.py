"""train and export_bundle as a Python program calls them."""

import copy
import json
import shutil
import subprocess
import sys

import pytest

import animesion_jax
from animesion_jax.bundle import load_bundle
from animesion_jax.configs import sweep_size
from animesion_jax.errors import InputError
from animesion_jax.training.running_metrics import RunningMetrics
from animesion_jax.workdir.rows import read_rows
from tests.character_folders import draw_folder, draw_image, random_pixels, toy_folder_config

WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
import animesion_jax
try:
    from animesion_jax import train
except ModuleNotFoundError as error:
    print(error)
print(animesion_jax.load.__name__)
"""


@pytest.fixture(scope="module")
def trained_on_folder(tmp_path_factory):
    """(workdir, config, results) of two epochs on a folder of images."""
    root = tmp_path_factory.mktemp("library")
    config = toy_folder_config(draw_folder(root / "characters"), root / "data")
    config.epochs, config.warmup_epochs = 2, 0.0
    return root / "run", config, animesion_jax.train(config, root / "run")


def test_train_builds_the_folder_and_leaves_the_config_alone(trained_on_folder):
    workdir, config, results = trained_on_folder
    fresh = toy_folder_config(config.folder, config.data_dir)
    fresh.epochs, fresh.warmup_epochs = 2, 0.0
    assert config.to_dict() == fresh.to_dict() and config.dataset == "folder"
    assert results["last"]["examples"] == 9
    assert animesion_jax.evaluate(workdir, weights="last")["loss"] == pytest.approx(results["last"]["loss"], rel=1e-6)


def test_interrupted_train_resumes_in_the_same_process(trained_on_folder, tmp_path, monkeypatch):
    """The notebook's stop button raises KeyboardInterrupt in the main thread."""
    workdir, config, results = trained_on_folder
    add = RunningMetrics.add

    def interrupt(self, step, sums):
        if step == 4:
            raise KeyboardInterrupt
        add(self, step, sums)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(RunningMetrics, "add", interrupt)
        animesion_jax.train(config, tmp_path / "run")
    assert animesion_jax.train(config, tmp_path / "run") == results
    resumed, whole = (
        [row | {"images_per_second": None} for row in read_rows(str(folder))] for folder in (tmp_path / "run", workdir)
    )
    assert resumed == whole


def test_train_refuses_another_folder_and_a_grid(trained_on_folder, tmp_path):
    workdir, config, _ = trained_on_folder
    other = copy.deepcopy(config)
    other.folder = str(draw_folder(tmp_path / "others", {"ai": 4, "mi ku": 4}))
    with pytest.raises(InputError, match=r"started with another config: .*folder was "):
        animesion_jax.train(other, workdir)
    with pytest.raises(InputError, match=r"grid of runs; train them with: .* sweep"):
        animesion_jax.train(sweep_size.get_config("shallownet"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_exported_bundle_is_calibrated_as_by_the_command(trained, calibrated, tmp_path):
    path = animesion_jax.export_bundle(trained[0], tmp_path / "toy.msgpack")
    bundle = animesion_jax.load(path).bundle
    assert bundle.calibration == load_bundle(str(calibrated[0])).calibration
    assert bundle.names == load_bundle(str(calibrated[0])).names
    unknown = [draw_image(tmp_path / f"{seed}.png", seed) for seed in range(4)]
    path = animesion_jax.export_bundle(trained[0], path, false_accept_rate=0.25, unknown=unknown)
    given = load_bundle(str(path)).calibration
    # Four images allow rates of 0 and 1/4; the threshold lies above all but one image's score.
    assert given.source["unknown_images"] == 4 and given.false_accept_rate <= 0.25
    recognizer = animesion_jax.load(path)
    assert sum(not recognizer.is_unknown(ranked) for ranked in recognizer.predict(unknown)) <= 1


def test_bundle_without_calibration_names_every_image_and_says_so(trained_on_folder, tmp_path, caplog):
    workdir = shutil.copytree(trained_on_folder[0], tmp_path / "run")
    described = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps(described | {"data_dir": str(tmp_path / "nowhere")}))
    path = animesion_jax.export_bundle(workdir, tmp_path / "mine.msgpack")
    (message,) = caplog.messages
    assert "is not calibrated, so it names every image (" in message and "nowhere" in message
    recognizer = animesion_jax.load(path)
    (ranked,) = recognizer.predict(random_pixels(0))
    assert recognizer.is_unknown(ranked) is None


def test_train_without_its_packages_says_what_to_install():
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW], capture_output=True, encoding="utf-8", check=True
    )
    message, name = result.stdout.splitlines()
    assert "tensorflow" in message and "pip install 'animesion-jax[train]'" in message and name == "load"
