"""The wheel in an empty environment, in a folder that is no clone: the commands of `make demo`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.cli.test_configs import NAMES
from tests.conftest import ROOT
from tests.tfds_builders.builds import split_records

SOURCES = ("animesion_jax", "configs", "tfds_builders", "setup.py", "pyproject.toml", "README.md", "LICENSE")
NOT_IN_THE_BASE = {
    "apache-beam", "clu", "gradio", "matplotlib", "mlcroissant", "tensorboard", "tensorflow", "tensorflow-datasets",
}  # fmt: skip
WRITE_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
# Builds on a packaged config.
OWN_CONFIG = """
from animesion_jax.configs import demo

def get_config():
    config = demo.get_config()
    config.epochs = 1
    config.warmup_epochs = 0.0
    config.image_size, config.crop_margin = 32, 4
    return config
"""


class Place:
    """An empty environment, and a folder outside of the clone to work in."""

    def __init__(self, root: Path):
        self.folder, self._bin = root / "work", root / "env" / "bin"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", root / "env"], check=True)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environment |= {"PATH": f"{self._bin}{os.pathsep}{os.defpath}", "HOME": str(self.folder)}

    def install(self, requirement: str) -> set[str]:
        """Installs a requirement, with the user's settings of pip; returns all installed packages as NAME==VERSION."""
        pip = [self._bin / "python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", requirement], check=True, cwd=self.folder)
        listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True)
        return set(listed.stdout.lower().split())

    def start(self, *command: str) -> subprocess.Popen:
        """Starts a command."""
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            encoding="utf-8",
        )  # fmt: skip

    def run(self, *command: str, status: int = 0) -> str:
        """Runs a command that exits with a status; returns its stdout, or its stderr for a status other than 0."""
        process = self.start(*command)
        stdout, stderr = process.communicate()
        assert process.returncode == status, (command, stdout[-2000:], stderr[-4000:])
        return stderr if status else stdout


def _build_wheel(folder: Path) -> Path:
    """Returns the path of a wheel that is built from a source distribution; the clone's folder stays as it is."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run([sys.executable, "-c", WRITE_SDIST, folder], cwd=source, check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", f"--wheel-dir={folder}", sdist], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _check_content(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"animesion_jax", "tfds_builders"}
    expected = {f"animesion_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    for package in ("animesion_jax", "tfds_builders"):
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / package).rglob("*.py")}
    for pattern in ("*.md", "*.bib", "*.txt"):
        expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "tfds_builders").glob(f"*/{pattern}")}
    assert {name for name in files if ".dist-info/" not in name} == expected


def _check_base(place: Place, packages: set[str], bundle: Path) -> None:
    names = {package.partition("==")[0] for package in packages}
    assert names >= {"animesion-jax", "jax", "pillow"} and not names & NOT_IN_THE_BASE
    (pillow,) = (package.partition("==")[2] for package in packages if package.startswith("pillow=="))
    assert int(pillow.partition(".")[0]) >= 13
    assert [line.split()[:2] for line in place.run("animesion", "configs").splitlines()] == [
        [name, "package"] for name in NAMES
    ]
    for command in (["build", "toyfaces", "--data_dir=data"], ["--config=demo", "--workdir=run"]):
        error = place.run("animesion", *command, status=2)
        assert "install it: pip install 'animesion-jax[train]'" in error and error.count("\n") == 1
    place.run("python", "-m", "tfds_builders.toyfaces.draw", "--output=faces")
    assert len(json.loads(place.run("animesion", "predict", f"--bundle={bundle}", "--format=json", "faces"))) == 20


def _build_after_a_kill(place: Place, toyfaces: Path) -> None:
    """Builds toyfaces, after a build that was killed; compares it with what `tfds build` wrote."""
    command = ("animesion", "build", "toyfaces", "--num_shards=4", "--data_dir=data")
    process = place.start(*command)
    while not list(place.folder.glob("data/toyfaces/incomplete.*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert "toyfaces is built: data/toyfaces/1.0.0\n" in place.run(*command)
    assert "toyfaces was built already: data/toyfaces/1.0.0\n" in place.run(*command)
    ours, other = place.folder / "data" / "toyfaces" / "1.0.0", toyfaces / "toyfaces" / "1.0.0"
    assert sorted(path.name for path in ours.iterdir()) == sorted(path.name for path in other.iterdir())
    for split in ("train", "validation", "test"):
        assert split_records(ours, split) == split_records(other, split)


@pytest.mark.slow
def test_wheel_runs_the_demo_in_an_empty_environment(calibrated, toyfaces_dir, tmp_path):
    wheel = _build_wheel(tmp_path)
    _check_content(wheel)
    place = Place(tmp_path)
    _check_base(place, place.install(str(wheel)), calibrated[0])
    # The command that the messages suggest; the package is not on PyPI, but installed.
    place.install("animesion-jax[train]")
    _build_after_a_kill(place, toyfaces_dir)
    place.run("animesion", "configs", "--copy=demo", "copies")
    (place.folder / "configs").mkdir()
    (place.folder / "configs" / "mine.py").write_text(OWN_CONFIG, encoding="utf-8")
    results = json.loads(place.run("animesion", "--config=mine", "--config.data_dir=data", "--workdir=run"))
    assert json.loads((place.folder / "run" / "results.json").read_text(encoding="utf-8")) == results
    evaluated = json.loads(place.run("animesion", "evaluate", "--workdir=run", "--split=test"))
    assert evaluated["examples"] == 420
    place.run("python", "-m", "animesion_jax.main", "export", "--workdir=run", "--output=demo.msgpack")
    named = json.loads(place.run("animesion", "predict", "--bundle=demo.msgpack", "--format=json", "faces"))
    assert len(named) == 20 and all(image["predictions"] for image in named)
