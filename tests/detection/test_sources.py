"""Detectors at addresses, from a hub on loopback."""

import pytest

from tests.detection.onnx_files import write_blob_detector
from tests.hub.hub_server import HubServer, Repo

# Prints the public name of each detector, and its number of heads on a picture with scores below 0.5.
LOAD = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="logged %(message)s")
logging.getLogger("animesion_jax").setLevel("INFO")
from animesion_jax.detection import load_detector
from animesion_jax.errors import InputError
from tests.detection.onnx_files import draw_blobs
for name in sys.argv[1:]:
    try:
        detect = load_detector(name)
        print(detect.name, len(detect(draw_blobs((64, 64), [(0, 0, 16, 16)]))))
    except InputError as error:
        print(error)
"""
CARD = b"---\nlicense: mit\n---\n# Heads\n"


@pytest.fixture
def server(tmp_path):
    content = write_blob_detector(tmp_path / "d.onnx", score=0.5).read_bytes()
    with HubServer() as server:
        usual = server.repos["deepghs/anime_head_detection"] = Repo()
        usual.commit("main", {
            "README.md": CARD, "head_detect_v2.0_s/model.onnx": content, "head_detect_v2.0_n/model.onnx": b"other",
            "head_detect_v2.0_s/threshold.json": b'{"threshold": 0.6}', "threshold.json": b'{"threshold": 0.1}',
        })  # fmt: skip
        server.repos["me/one"] = Repo()
        server.repos["me/one"].commit("main", {"README.md": b"", "d.onnx": content})
        server.repos["me/two"] = Repo()
        server.repos["me/two"].commit("main", {"a.onnx": content, "b.xml": b""})
        yield server
        server.shutdown()


def _load(server, home, *names, **variables):
    from tests.conftest import ROOT

    return server.run(LOAD, home, *names, PYTHONPATH=str(ROOT), **variables)


def test_known_repository_gives_its_usual_file_its_threshold_and_its_licence(server, tmp_path):
    commit = server.repos["deepghs/anime_head_detection"].branches["main"]
    address = "hf://deepghs/anime_head_detection/head_detect_v2.0_s/model.onnx"
    expected = [
        f"logged detector {address}, revision {commit[:8]}; licence: mit; trained with Ultralytics' code, whose vendor "
        "claims AGPL-3.0 for such models",
        f"{address} 0",
    ]
    assert _load(server, tmp_path, "hf://deepghs/anime_head_detection") == expected
    # The name can be loaded again.
    assert _load(server, tmp_path, address) == expected
    assert not [path for _, path in server.requests if "v2.0_n" in path and "resolve" in path]
    # Without the hub, the cache has all but the licence.
    offline = _load(server, tmp_path, "hf://deepghs/anime_head_detection", HF_HUB_OFFLINE="1")
    assert offline == [expected[0].replace("licence: mit", "licence: unknown"), expected[1]]


def test_other_repository_gives_its_only_detector(server, tmp_path):
    commit = server.repos["me/one"].branches["main"]
    logged, loaded, two = _load(server, tmp_path, "hf://me/one", "hf://me/two")
    assert logged == f"logged detector hf://me/one, file d.onnx, revision {commit[:8]}; licence: unknown"
    assert loaded == "hf://me/one 1"
    # That it has no threshold.json is known without the hub.
    assert _load(server, tmp_path, "hf://me/one", HF_HUB_OFFLINE="1") == [logged, loaded]
    assert two.startswith("hf://me/two has 2 files that end in .onnx or .xml: a.onnx, b.xml; allowed: the address of a")


def test_threshold_that_cannot_be_downloaded_is_warned_of(server, tmp_path):
    server.refused.add("head_detect_v2.0_s/threshold.json")
    warned, _, loaded = _load(server, tmp_path, "hf://deepghs/anime_head_detection")
    assert warned.startswith("logged hf://deepghs/anime_head_detection/head_detect_v2.0_s/model.onnx: "), warned
    assert warned.endswith("; going on without its head_detect_v2.0_s/threshold.json"), warned
    assert loaded.endswith("model.onnx 1")
    # The next run has it, and then no hub is needed.
    server.refused.clear()
    for offline in "01":
        _, loaded = _load(server, tmp_path, "hf://deepghs/anime_head_detection", HF_HUB_OFFLINE=offline)
        assert loaded.endswith("model.onnx 0")
