"""The command `build`, on the small data set in the folder of dafre's builder."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from animesion_jax.cli.build import TRAINED_BY
from animesion_jax.cli.config_flags import load_config
from animesion_jax.config import FIELDS
from animesion_jax.data.datasets import BUILDERS
from animesion_jax.main import main
from tests.conftest import ROOT
from tests.tfds_builders.builds import build, split_records
from tfds_builders.dafre import dafre_dataset_builder as dafre
from tfds_builders.moeimouto import moeimouto_dataset_builder as moeimouto

DUMMY = ROOT / "tfds_builders" / "dafre" / "dummy_data"
# `tfds build` imports both.
WITHOUT_BEAM = """
import sys
sys.modules["apache_beam"] = sys.modules["mlcroissant"] = None
from animesion_jax.main import main
sys.exit(main(["animesion", "build", *sys.argv[1:]]))
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DUMMY, "files")


def _build(*arguments):
    return main(["animesion", "build", *arguments])


def _line(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("animesion build: error: "), error
    return error


def _files(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


def test_build_without_beam_writes_the_files_of_tfds_and_a_second_start_none(capsys):
    command = [sys.executable, "-c", WITHOUT_BEAM, "dafre/min5", "--manual_dir=files", "--data_dir=data"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    build(dafre.Builder, DUMMY, "other", "min5")
    assert _files("data/dafre") == _files("other/dafre")
    for split in ("train", "validation", "test"):
        ours, other = (split_records(Path(data_dir, "dafre/min5/1.0.0"), split) for data_dir in ("data", "other"))
        assert ours == other and len(ours) > 0
    lines = [
        "dafre/min5 is built: data/dafre/min5/1.0.0",
        "7 train, 1 validation, 4 test images of 2 characters; train has 1 shard",
        "train on it: animesion --config=dafre_128:MODEL --config.dataset=dafre/min5 "
        "--config.data_dir=data --workdir=runs/dafre",
    ]
    assert result.stdout.splitlines() == lines

    capsys.readouterr()
    times = {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")}
    assert _build("dafre/min5", "--data_dir=data") == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "dafre/min5 was built already: data/dafre/min5/1.0.0"
    assert others == [lines[1], "remove that folder to build it again", lines[2]]
    assert {path: path.stat().st_mtime_ns for path in Path("data").rglob("*")} == times


def test_num_shards_is_the_number_of_files_of_every_split(capsys):
    assert _build("dafre/released", "--manual_dir=files", "--data_dir=data", "--num_shards=2") == 0
    assert "3 train, 2 validation, 2 test images of 2 characters; train has 2 shards" in capsys.readouterr().out
    assert len(list(Path("data/dafre/released/1.0.0").glob("*.tfrecord-*"))) == 6


def test_name_alone_is_the_first_config(capsys):
    assert _build("dafre", "--manual_dir=files", "--data_dir=data") == 0
    assert capsys.readouterr().out.startswith("dafre/released is built: data/dafre/released/1.0.0\n")


def test_skip_broken_builds_a_data_set_of_its_own(capsys):
    Path("files/faces/0005/1005.jpg").write_bytes(b"no image")
    arguments = ["dafre/released", "--manual_dir=files", "--data_dir=data"]
    assert _build(*arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "1 of 7 images" in error and "1005.jpg (not JPEG)" in error and "--skip_broken" in error
    assert _build(*arguments, "--skip_broken") == 0
    printed = capsys.readouterr().out
    assert "dafre/released_skip is built: data/dafre/released_skip/1.0.0\n3 train, 1 validation, " in printed
    assert "--config.dataset=dafre/released_skip" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mnist"], ["unknown data set 'mnist'; allowed: dafre, moeimouto, toyfaces"]),
        (["dafre/min7"], ["'dafre/min7'; allowed: dafre/released, dafre/min20, dafre/min10, dafre/min5"]),
        (["toyfaces/a"], ["unknown data set 'toyfaces/a'; allowed: toyfaces\n"]),
        (["moeimouto/"], ["unknown data set 'moeimouto/'; allowed: moeimouto/kaggle\n"]),
        (["folder"], ["training builds", "--config=folder:MODEL --config.folder=PATH --workdir=RUN"]),
        (["dafre/min20"], ["dafre/min20 needs --manual_dir=FOLDER; ", "faces.tsv", "grapeot"]),
        (["moeimouto"], ["moeimouto needs --manual_dir=FOLDER; ", "moeimouto-faces", "kaggle"]),
        (["dafre", "--manual_dir=none"], ["--manual_dir=none is not a folder with files; ", "labels.tar.gz"]),
        (["toyfaces", "--manual_dir=files"], ["toyfaces reads no files and takes no --manual_dir; leave it out"]),
        (["toyfaces", "--skip_broken"], ["toyfaces reads no files and takes no --skip_broken; leave it out"]),
        (["toyfaces", "--num_shards=0"], ["--num_shards is 0; allowed: a whole number from 1"]),
        (["toyfaces", "--num_shards=many"], ["--num_shards", "many"]),
        (["toyfaces", "--data_dir="], ["--data_dir is empty"]),
        ([], ["NAME[/CONFIG]"]),
    ],
)
def test_bad_arguments_are_one_line_and_write_nothing(arguments, words, capsys):
    data_dir = [] if "--data_dir=" in arguments else ["--data_dir=data"]
    assert _build(*arguments, *data_dir) == 2
    line = _line(capsys)
    assert all(word in line for word in words), line
    assert [path.name for path in Path().iterdir()] == ["files"]


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        (lambda: Path("files/labels/val.csv").unlink(), ["dafre"], ["files lacks labels/val.csv; expected: "]),
        (
            lambda: Path("files/faces.tsv").write_text("one column\n"),
            ["dafre/min5"],
            ["faces.tsv line 1: 'one column'"],
        ),
        (lambda: None, ["dafre/min5", "--num_shards=5"], ["'validation'", "(1) < number_of_shards (5); give fewer"]),
        (
            lambda: Path("data/dafre/min5/1.0.0").mkdir(parents=True),
            ["dafre/min5"],
            ["data/dafre/min5/1.0.0 holds no complete data set; remove it, and try again"],
        ),
    ],
)
def test_errors_of_the_builder_are_one_line_and_leave_no_data_set(change, arguments, words, capsys):
    change()
    assert _build(*arguments, "--manual_dir=files", "--data_dir=data") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert all(word in line.replace('"', "'") for word in words), line
    assert not list(Path("data").rglob("dataset_info.json")) + list(Path("data").rglob("incomplete*"))


def test_folder_of_a_killed_build_is_named_and_does_not_stop_the_next_build(capsys, caplog):
    rest = Path("data [x]/dafre/min5/incomplete.AB12CD_1.0.0")
    rest.mkdir(parents=True)
    (rest / "dataset_info.json").write_text("{}", encoding="utf-8")
    with caplog.at_level(logging.INFO):
        assert _build("dafre/min5", "--manual_dir=files", "--data_dir=data [x]") == 0
    assert f"{rest} is from a build that was killed or is still running" in caplog.text
    assert "is built: data [x]/dafre/min5/1.0.0" in capsys.readouterr().out


def test_help_and_tables_agree_with_the_builders(capsys):
    with pytest.raises(SystemExit):
        _build("--help")
    text = " ".join(capsys.readouterr().out.split())
    for name, builder in (("dafre", dafre.Builder), ("moeimouto", moeimouto.Builder)):
        assert all(f"{name}/{config.name}" in text for config in builder.BUILDER_CONFIGS)
    assert f"default: {FIELDS['data_dir'].default}" in text
    assert list(TRAINED_BY) == list(BUILDERS)
    for name, config in TRAINED_BY.items():
        assert load_config(config.replace("MODEL", "resnet18")).dataset.partition("/")[0] == name
