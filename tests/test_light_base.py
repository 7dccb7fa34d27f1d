"""The base predicts without the extras' packages; a command that needs an extra says which."""

import ast
import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import setuptools
from PIL import Image

from animesion_jax.cli import COMMANDS
from animesion_jax.errors import EXTRAS
from tests.conftest import ROOT
from tfds_builders.toyfaces.draw import write_new_faces

# Packages that prediction may not import, installed or not. flax brings orbax and optax, and imports absl.
HEAVY = {"apache_beam", "mlcroissant", "tensorstore", *(name for names in EXTRAS.values() for name in names)} - {"absl"}

# Runs commands in one process: standard input has the heavy packages, those to hide as if they were not installed, and
# the arguments of each command. Prints exit status, stdout and stderr of each, and the heavy packages that are
# imported. A command "python" runs code.
RUN = """
import io, json, logging, sys

heavy, hidden, commands = json.load(sys.stdin)

class Hiding:
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self._finder.find_spec(name, path, target)

sys.meta_path[:] = map(Hiding, sys.meta_path)
import animesion_jax
from animesion_jax.main import main
assert "jax" not in sys.modules

def run(arguments):
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        status = exec(arguments[1], {}) if arguments[0] == "python" else main(["animesion", *arguments])
    except SystemExit as exit:
        status = exit.code
    printed = []
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        printed.append(stream.buffer.getvalue().decode())
    logging.root.handlers.clear()
    return [status, *printed]

results = [run(arguments) for arguments in commands]
json.dump([results, [name for name in heavy if name in sys.modules]], sys.__stdout__)
"""

PYTHON = """
import animesion_jax
from animesion_jax.models import abstract_variables
from animesion_jax.pretrained import load_pretrained
print(animesion_jax.load({bundle!r}).predict({image!r})[0][0]["class"])
model = animesion_jax.create_model("shallownet", num_classes=20, image_size=32)
print(load_pretrained({bundle!r}, model, abstract_variables(model, 32), keep_head=True)["params"]["head"]["bias"].shape)
"""

# etils reads gs:// through fsspec's file system "gcs", unless TensorFlow is installed. This one is a dict.
STORE = """
import io

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

class Buckets(MemoryFileSystem):
    protocol, store, pseudo_dirs = ("gcs", "gs"), {}, [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://"))

    def _open(self, path, mode="rb", **options):
        opened = super()._open(path, mode, **options)
        # All readers of a memory file share its position.
        return io.BytesIO(opened.getvalue()) if mode == "rb" else opened

fsspec.register_implementation("gcs", Buckets, clobber=True)
"""
LIST_STORE = "import fsspec; print(sorted(fsspec.get_filesystem_class('gcs').store))"


def run(
    commands: list[list[str]], folder: Path, hidden: set[str] = HEAVY, **environment: str
) -> tuple[list[tuple[int | None, str, str]], list[str]]:
    """Returns (exit status, stdout, stderr) of each command, and the heavy packages that were imported."""
    result = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps([sorted(HEAVY), sorted(hidden), commands]),
        capture_output=True, text=True, check=False, cwd=folder, env=os.environ | environment,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def faces(calibrated, tmp_path):
    """A folder with a bundle, toy.msgpack, and a folder of faces for each of two characters, faces/."""
    (tmp_path / "toy.msgpack").write_bytes(Path(calibrated[0]).read_bytes())
    write_new_faces(tmp_path / "drawn", 1)
    for file in sorted((tmp_path / "drawn").iterdir())[:2]:
        folder = tmp_path / "faces" / file.stem.rpartition("_")[0]
        folder.mkdir(parents=True)
        file.rename(folder / file.name)
    return tmp_path


@pytest.mark.parametrize("hidden", [HEAVY, set()], ids=["without the extras", "with the extras"])
def test_base_commands_import_no_package_of_an_extra(faces, hidden):
    image = str(next((faces / "faces").rglob("*.png")))
    bundle = "--bundle=toy.msgpack"
    commands = [
        ["predict", bundle, "--output=named.jsonl", "faces"],
        ["embed", bundle, "--output=faces.npz", "faces"],
        ["explain", bundle, "--output=explained", "faces"],
        ["enroll", bundle, "--name=New", "--output=new.msgpack", image],
        ["evaluate", bundle, "faces"],
        ["python", PYTHON.format(bundle="toy.msgpack", image=image)],
    ]
    results, imported = run(commands, faces, hidden)
    assert [status for status, *_ in results] == [0, 0, 0, 0, 0, None], results
    # HEIC is read wherever its package is installed.
    assert set(imported) <= {"pillow_heif"}
    assert len((faces / "named.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert len(list((faces / "explained").iterdir())) == 2
    assert json.loads(results[4][1])["examples"] == 2
    assert results[5][1].splitlines()[1] == "(20,)"


def test_commands_name_the_extra_that_they_lack(faces, trained):
    bundle, workdir, config = "--bundle=toy.msgpack", f"--workdir={trained[0]}", "--config=demo"
    needing = {
        "train": [
            ["train", config, "--workdir=new"],
            ["train", "--config=folder", "--config.folder=faces", "--workdir=new"],
            ["sweep", "--config=sweep_size:shallownet", "--workdir=new"],
            ["evaluate", workdir],
            ["export", workdir, "--output=new.msgpack"],
            ["calibrate", bundle, workdir],
            ["figures", "--dataset=toyfaces", "--data_dir=data", "--output=new"],
            ["report", str(trained[0]), "--output=new"],
            ["build", "toyfaces", "--data_dir=new"],
        ],
        "detect": [
            ["find", "--detector=d.onnx", "--output=new.jsonl", "faces"],
            ["find", "--detector=d.xml", "--output=new.jsonl", "faces"],
            ["predict", bundle, "--detector=d.onnx", "faces"],
            ["calibrate", bundle, "--detector=d.xml", "--pictures=faces"],
            ["explain", bundle, "--detector=d.xml", "--output=new", "faces"],
            ["embed", bundle, "--detector=d.onnx", "--output=new.npz", "faces"],
            ["enroll", bundle, "--detector=d.onnx", "--name=New", "--output=new.msgpack", "faces"],
        ],
        "onnx": [["export", bundle, "--format=onnx", "--output=new.onnx"], ["predict", "--bundle=toy.onnx", "faces"]],
        "parquet": [["embed", bundle, "--output=new.parquet", "faces"]],
        "serve": [["serve", bundle, "--port=0"]],
        "gcs": [["predict", "--bundle=gs://bucket/toy.msgpack", "faces"]],
    }
    commands = [(extra, arguments) for extra, lists in needing.items() for arguments in lists]
    for name in ("d.xml", "d.onnx"):
        (faces / name).write_text("a detector")
    before = sorted(faces.rglob("*"))
    results, _ = run([arguments for _, arguments in commands], faces)
    for (extra, arguments), (status, out, err) in zip(commands, results, strict=True):
        assert (status, out) == (2, ""), (arguments, err)
        line = rf"animesion {arguments[0]}: error: (this|\S+) needs the package \w+; install it: pip install "
        assert re.fullmatch(rf"{line}'animesion-jax\[{extra}\]'\n", err), (arguments, err)
    assert sorted(faces.rglob("*")) == before


def test_help_and_the_row_of_a_heic_file_need_no_extra(faces):
    (faces / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    wanted = [[command, "--help"] for command in COMMANDS]
    results, _ = run([*wanted, ["predict", "--bundle=toy.msgpack", "--format=jsonl", "a.heic"]], faces)
    assert [status for status, *_ in results] == [0] * len(COMMANDS) + [1], results
    assert "pip install 'animesion-jax[heic]'" in json.loads(results[-1][1])["error"]


def test_python_functions_name_the_extra_that_they_lack(tmp_path):
    code = "import animesion_jax\ntry: animesion_jax.{}\nexcept ImportError as error: print(error)"
    results, _ = run([["python", code.format(name)] for name in ("train", "evaluate", "export_bundle")], tmp_path)
    assert all("pip install 'animesion-jax[train]'" in out for _, out, _ in results), results


def test_bundles_on_gs_need_no_tensorflow(faces):
    remote = "gs://bucket/characters/new.msgpack"
    commands = [
        ["python", STORE],
        ["enroll", "--bundle=toy.msgpack", "--name=New", f"--output={remote}", "faces"],
        ["enroll", f"--bundle={remote}", "--name=Other", f"--output={remote}", "faces"],
        ["predict", f"--bundle={remote}", "--format=jsonl", "--top_k=22", "faces"],
        ["python", LIST_STORE],
        ["predict", "--bundle=gs://bucket/absent.msgpack", "faces"],
    ]
    results, _ = run(commands, faces)
    assert [status for status, *_ in results] == [None, 0, 0, 0, None, 2], results[2:4]
    assert {"New", "Other"} <= {each["class"] for each in json.loads(results[3][1].splitlines()[0])["predictions"]}
    assert ast.literal_eval(results[4][1]) == ["/bucket/characters/new.msgpack"]
    assert "no bundle at gs://bucket/absent.msgpack" in results[5][2]


class Forbidding(BaseHTTPRequestHandler):
    """Answers like Cloud Storage to a request without access."""

    def do_GET(self):
        self.send_error(403)

    def log_message(self, *_):
        pass


def test_refused_access_to_gs_is_one_line(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "face.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        predict = ["predict", "--bundle=gs://bucket/toy.msgpack", "face.png"]
        ((status, _, err),), _ = run([predict], tmp_path, HEAVY - {"gcsfs"}, STORAGE_EMULATOR_HOST=address)
        server.shutdown()
    assert status == 2 and len(err.splitlines()) == 1, err
    assert re.search("OSError: Forbidden.*; check the address, the network and the credentials, and try again", err)


def _normalized(requirement: str) -> str:
    """Returns the name of a requirement as in PEP 503."""
    return re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", requirement).group()).lower()


def _with_dependencies(requirements: list[str]) -> set[str]:
    """Returns the names of distributions and of those that they require themselves."""
    names = {_normalized(requirement) for requirement in requirements}
    return names | {_normalized(each) for name in names for each in importlib.metadata.requires(name) or ()}


def test_every_import_is_of_the_base_or_of_the_extra_that_the_table_names(monkeypatch):
    monkeypatch.chdir(ROOT)
    described = {}
    monkeypatch.setattr(setuptools, "setup", described.update)
    runpy.run_path("setup.py")
    base = _with_dependencies(described["install_requires"])
    extras = {extra: _with_dependencies(described["extras_require"][extra]) for extra in EXTRAS}
    distributions = importlib.metadata.packages_distributions()
    imported = {
        name.partition(".")[0]
        for folder in ("animesion_jax", "tfds_builders", "configs")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    # Reading torchvision's pickled files needs torch, which no extra brings.
    third_parties = imported - sys.stdlib_module_names - {"animesion_jax", "tfds_builders", "torch"}
    named = {name for names in EXTRAS.values() for name in names}
    brought = {name: {_normalized(each) for each in distributions.get(name, ())} for name in third_parties | named}
    assert {name for name in third_parties - named if not brought[name] & base} == set()
    assert {name for extra, names in EXTRAS.items() for name in names if not brought[name] & extras[extra]} == set()
