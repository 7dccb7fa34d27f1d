"""A bundle of toyfaces goes to a hub on loopback and comes back: push, download, predict, all as commands."""

import hashlib
import json
import re
import shlex
from types import SimpleNamespace
from typing import NamedTuple

import onnx
import pytest
import yaml

from animesion_jax.bundle import load_bundle
from animesion_jax.inference.recognizer import load
from animesion_jax.main import main
from tests.hub.hub_server import READ_ONLY, HubServer
from tfds_builders.toyfaces.draw import write_new_faces

# Runs commands one after the other; prints [status, stdout, stderr] of each as a line of JSON.
COMMANDS = """
import contextlib, io, json, sys
from animesion_jax.main import main
for words in json.loads(sys.argv[1]):
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = main(["animesion", *words])
    for stream in streams:
        stream.flush()
    print(json.dumps([status, *(stream.buffer.getvalue().decode() for stream in streams)]))
"""


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture(scope="module")
def hub(trained, calibrated, toyfaces_dir, tmp_path_factory):
    """A hub to which two commands have pushed, their outcomes, and `run(command, ...)` for more commands."""
    home = tmp_path_factory.mktemp("home")
    with HubServer() as server:

        def run(*commands, **variables):
            lines = server.run(COMMANDS, home, json.dumps([shlex.split(each) for each in commands]), **variables)
            return [Outcome(*json.loads(line)) for line in lines]

        faces = write_new_faces(home / "faces", per_class=1)
        outcomes = run(
            f"export --workdir={trained[0]} --data_dir={toyfaces_dir} --push=hf://me/toy --licence=cc-by-nc-4.0",
            f"export --bundle={calibrated[0]} --push=hf://me/open@v1 --public",
        )
        yield SimpleNamespace(server=server, run=run, home=home, faces=faces, outcomes=outcomes)
        server.shutdown()


def _files(hub, repo, branch="main"):
    stored = hub.server.repos[repo]
    return stored.commits[stored.branches[branch]]


def test_push_prints_repository_files_and_checksum(hub, calibrated):
    run, bundle = hub.outcomes
    assert [run.status, bundle.status] == [0, 0], (run.err, bundle.err)
    for outcome, repo, branch in ((run, "me/toy", "main"), (bundle, "me/open", "v1")):
        files, sizes = _files(hub, repo, branch), dict(re.findall(r"  (\S+) +([\d,]+) bytes", outcome.out))
        assert {name: int(size.replace(",", "")) for name, size in sizes.items()} == {
            name: len(content) for name, content in files.items() if name != ".gitattributes"
        }
        assert f"SHA-256 of bundle.msgpack: {hashlib.sha256(files['bundle.msgpack']).hexdigest()}" in outcome.out
        commit = hub.server.repos[repo].branches[branch]
        assert outcome.out.endswith(f"address of this version is hf://{repo}@{commit}\n")
    assert f"to {hub.server.url}/me/toy, a new private repository; --public makes" in run.out
    assert "\n  branch main\n" in run.out and "calibrated on 192 images" in run.out
    assert f"to {hub.server.url}/me/open, a new public repository\n  new branch v1\n" in bundle.out
    assert [hub.server.repos[repo].private for repo in ("me/toy", "me/open")] == [True, False]
    assert _files(hub, "me/open", "v1")["bundle.msgpack"] == calibrated[0].read_bytes()
    assert set(_files(hub, "me/open")) == {".gitattributes"}


def test_pushed_run_is_calibrated_and_says_where_it_came_from(hub, calibrated, trained, tmp_path):
    (tmp_path / "toy.msgpack").write_bytes(_files(hub, "me/toy")["bundle.msgpack"])
    bundle, expected = load_bundle(str(tmp_path / "toy.msgpack")), load_bundle(str(calibrated[0]))
    assert bundle.calibration == expected.calibration and bundle.classes == expected.classes and not bundle.origin
    best = trained[1]["best"]
    assert bundle.training["metrics"] == best and bundle.training["images"] == {
        "train": 1411, "validation": 192, "test": best["examples"]
    }  # fmt: skip
    recipe = bundle.training["config"]
    assert (recipe["seed"], recipe["epochs"], recipe["learning_rate"], recipe["model"]) == (0, 3, 0.02, "shallownet")
    assert not {"data_dir", "folder", "log_every_steps"} & set(recipe)


def test_push_checks_before_it_writes_and_refuses_an_ambiguous_address(hub, calibrated):
    push = f"export --bundle={calibrated[0]} --push="
    other = hub.server.repos["me/toy"]
    other.commit("other", {"x.msgpack": b""})
    cases = {
        f"{push}hf://{READ_ONLY}/toy": [f"hf://{READ_ONLY}/toy: the hub refuses your token (", "403", "rights"],
        f"{push}hf://me/toy@other": ["hf://me/toy@other has x.msgpack", "allowed: another repository"],
        f"{push}hf://me/toy --public": ["me/toy is private", f"{hub.server.url}/me/toy/settings"],
        f"{push}hf://me/toy/x.msgpack": ["--push=hf://me/toy/x.msgpack", "without a file"],
        f"{push}me/toy": ["--push=me/toy; allowed: hf://OWNER/REPO[@BRANCH]"],
        f"{push}hf://me/toy --format=onnx": ["--push uploads a bundle, not --format=onnx"],
        f"{push}hf://me/toy --output=gs://b/x.msgpack": ["--output=gs://b/x.msgpack with --push"],
        f"{push}hf://me/toy --licence='All mine'": ["--licence=All mine; allowed: an identifier such as apache-2.0"],
        f"{push}hf://me/typo --licence=apache2": ["Invalid metadata", '"license" must be one of', "another --licence"],
        f"export --bundle={calibrated[0]} --public": ["--public is for --push; give both"],
        f"export --bundle={calibrated[0]}": ["--output is missing"],
    }
    before = dict(other.branches)
    for (line, words), outcome in zip(cases.items(), hub.run(*cases), strict=True):
        message = outcome.err.splitlines()[-1]
        assert outcome.status == 2 and all(word in message for word in words), (line, outcome.err)
        assert ("uploading to" in outcome.out) == (READ_ONLY in line or "apache2" in line), line
    assert f"{READ_ONLY}/toy" not in hub.server.repos and other.branches == before
    (offline,) = hub.run(f"{push}hf://me/toy", HF_HUB_OFFLINE="1")
    assert offline.err.endswith("hf://me/toy: HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE\n")
    (without,) = hub.run(f"{push}hf://me/toy", token=None)
    assert "hf://me/toy needs a token that may write; log in with `hf auth login`, or set HF_TOKEN" in without.err


def test_second_push_replaces_the_first(hub, calibrated):
    first = hub.server.repos["me/open"].branches["v1"]
    (outcome,) = hub.run(f"export --bundle={calibrated[0]} --push=hf://me/open@v1 --licence=apache-2.0")
    assert outcome.status == 0 and "a public repository\n  branch v1\n" in outcome.out, outcome.err
    assert outcome.out.count(", replaces the one there") == 2
    assert hub.server.repos["me/open"].branches["v1"] != first
    assert b"license: apache-2.0" in _files(hub, "me/open", "v1")["README.md"]


def test_commands_take_the_address_of_a_bundle(hub, tmp_path):
    face, faces = hub.faces[0], hub.home / "faces"
    labelled = tmp_path / "labelled" / face.stem.partition("_")[0]
    labelled.mkdir(parents=True)
    (labelled / face.name).write_bytes(face.read_bytes())
    predict = f"predict --bundle=hf://me/toy --format=json {face}"
    outcomes = hub.run(
        predict,
        f"enroll --bundle=hf://me/toy --name=miku --output={tmp_path}/more.msgpack {faces}",
        f"enroll --bundle={tmp_path}/more.msgpack --name=rin --output={tmp_path}/more.msgpack {faces}",
        f"export --bundle=hf://me/toy --output={tmp_path}/copy.msgpack",
        f"export --bundle=hf://me/toy --format=onnx --output={tmp_path}/toy.onnx",
        f"embed --bundle=hf://me/open@v1 --output={tmp_path}/faces.npz {faces}",
        f"explain --bundle=hf://me/toy --output={tmp_path} {face}",
        f"evaluate --bundle=hf://me/toy {tmp_path}/labelled",
    )
    assert [outcome.status for outcome in outcomes] == [0] * 8, [outcome.err for outcome in outcomes]
    content = _files(hub, "me/toy")["bundle.msgpack"]
    (tmp_path / "local.msgpack").write_bytes(content)
    (expected,) = load(str(tmp_path / "local.msgpack"), 1).predict([face])
    (row,) = json.loads(outcomes[0].out)
    assert [each["class"] for each in row["predictions"]] == [each["class"] for each in expected]
    origin = {
        "address": "hf://me/toy", "file": "bundle.msgpack", "revision": hub.server.repos["me/toy"].branches["main"],
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert load_bundle(str(tmp_path / "more.msgpack")).origin == origin
    assert load_bundle(str(tmp_path / "more.msgpack")).enrolled.names == ("miku", "rin")
    assert load_bundle(str(tmp_path / "copy.msgpack")).origin == origin
    metadata = {each.key: each.value for each in onnx.load(str(tmp_path / "toy.onnx")).metadata_props}
    assert json.loads(metadata["origin"]) == origin
    asked = len(hub.server.requests)
    (offline,) = hub.run(predict, HF_HUB_OFFLINE="1")
    assert offline.out == outcomes[0].out and len(hub.server.requests) == asked


@pytest.mark.parametrize("line", ["calibrate --workdir=run", "enroll --name=miku --output=hf://me/toy FACES"])
def test_bundle_of_an_address_is_changed_into_a_local_file_only(line, tmp_path, capsys):
    write_new_faces(tmp_path, per_class=1)
    status = main(["animesion", *line.replace("FACES", str(tmp_path)).split(), "--bundle=hf://me/toy"])
    assert status == 2 and "--output=hf://me/toy cannot be written to; allowed: a local file" in capsys.readouterr().err


def test_model_card_describes_the_bundle_and_its_examples_run(hub, tmp_path):
    card = _files(hub, "me/toy")["README.md"].decode()
    _, header, text = card.split("---\n", 2)
    data = yaml.safe_load(header)
    assert (data["library_name"], data["pipeline_tag"], data["license"], data["datasets"]) == (
        "animesion_jax", "image-classification", "cc-by-nc-4.0", ["toyfaces"]
    )  # fmt: skip
    (tmp_path / "toy.msgpack").write_bytes(_files(hub, "me/toy")["bundle.msgpack"])
    bundle, face = load(str(tmp_path / "toy.msgpack"), 1), hub.faces[0]
    test = bundle.bundle.training["metrics"]
    results = {each["dataset"]["split"]: each["metrics"] for each in data["model-index"][0]["results"]}
    assert [each["value"] for each in results["test"]] == pytest.approx(
        [test["top1_accuracy"], test["top5_accuracy"]], abs=1e-4
    )
    assert f"| `test` | 420 | {100 * test['top1_accuracy']:.1f} %" in text and "training run with seed 0" in text
    assert f"| threshold | {bundle.bundle.calibration.threshold:.4f} |" in text and "192 images of `validation`" in text
    assert all(name in text for name in bundle.bundle.classes) and '"learning_rate": 0.02' in text

    (hub.home / "face.png").write_bytes(face.read_bytes())
    blocks = re.findall(r"```(python)?\n(.*?)```", text.split("## Metrics")[0], re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "", "", "python"]
    commands = [block.removeprefix("animesion ") for language, block in blocks if not language]
    predicted, converted = hub.run(*commands)
    assert (predicted.status, converted.status) == (0, 0), (predicted.err, converted.err)
    ((named, *_),) = bundle.predict([face], top_k=1)
    assert named["class"] in predicted.out
    for block in (block for language, block in blocks if language):
        first, *_, last = hub.server.run(block, hub.home)
        name, probability = first.split()
        assert name == named["class"] and float(probability) == pytest.approx(named["probability"], abs=0.02)
        assert last in ("known", "unknown") or "is_unknown" not in block
