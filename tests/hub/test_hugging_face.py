"""Downloads through huggingface_hub, from a server on loopback; HF_ENDPOINT is read at import, hence new processes."""

import hashlib

import numpy as np
import pytest

from animesion_jax.errors import InputError
from animesion_jax.hub import file_name
from animesion_jax.hub.hugging_face import Place, parse
from tests.hub.hub_server import HubServer, Repo

BODY, OTHER = np.random.default_rng(0).bytes(300_000), b"another version"
# Prints "file revision sha256" or the error of each address; what was logged comes before it.
FETCH = """
import logging, sys
logging.basicConfig(stream=sys.stdout, format="logged %(message)s")
from animesion_jax import hub
from animesion_jax.errors import InputError
for address in sys.argv[1:]:
    try:
        path, origin = hub.fetch(address, [".npz", ".msgpack"])
        assert origin["address"] == address
        print(origin["file"], origin["revision"], hub.sha256(path))
    except InputError as error:
        print(error)
"""
DIGESTS = [hashlib.sha256(content).hexdigest() for content in (BODY, OTHER)]


@pytest.fixture
def server():
    """A hub with a repository of two commits, one with two readable files, a private and a gated one."""
    with HubServer() as server:
        one = server.repos["me/one"] = Repo()
        one.commit("main", {"README.md": b"", "a/w.npz": OTHER})
        one.commit("v/1", {})
        one.branches["v/1"] = one.branches["refs/pr/2"] = one.branches["main"]
        one.commit("main", {"a/w.npz": BODY})
        server.repos["me/two"] = Repo()
        server.repos["me/two"].commit("main", {"x.npz": BODY, "y.msgpack": OTHER, "z.bin": OTHER})
        server.repos["me/private"], server.repos["me/gated"] = Repo(private=True), Repo(gated=True)
        for name in ("me/private", "me/gated"):
            server.repos[name].commit("main", {"w.npz": BODY})
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("hf://me/one", Place("me/one", "main", "")),
        ("hf://me/one/", Place("me/one", "main", "")),
        ("hf://me/one/w.npz", Place("me/one", "main", "w.npz")),
        ("hf://me/one@v1/a/b.npz", Place("me/one", "v1", "a/b.npz")),
        ("hf://me/one@v%2F1", Place("me/one", "v/1", "")),
        ("hf://me/one@refs/pr/2/w.npz", Place("me/one", "refs/pr/2", "w.npz")),
        ("hf://me/one.tv_in1k/model.safetensors", Place("me/one.tv_in1k", "main", "model.safetensors")),
    ],
)
def test_parse_splits_an_address(address, place):
    assert parse(address) == place and file_name(address) == place.file.rpartition("/")[2]


@pytest.mark.parametrize("address", ["hf://one", "hf:///one", "hf://me/one@", "hf://me/one/../w.npz", "hf://me/one//w"])
def test_parse_refuses_other_texts(address):
    with pytest.raises(InputError, match=r"allowed: hf://OWNER/REPO\[@REVISION\]\[/FILE\]"):
        parse(address)


def test_fetch_takes_the_revision_and_the_only_readable_file(server, tmp_path):
    newest, oldest = (server.repos["me/one"].branches[name] for name in ("main", "v/1"))
    cases = {
        "hf://me/one": (newest, DIGESTS[0]),
        "hf://me/one/a/w.npz": (newest, DIGESTS[0]),
        "hf://me/one@v%2F1": (oldest, DIGESTS[1]),
        "hf://me/one@refs/pr/2/a/w.npz": (oldest, DIGESTS[1]),
        f"hf://me/one@{oldest}": (oldest, DIGESTS[1]),
        "hf://me/private": (server.repos["me/private"].branches["main"], DIGESTS[0]),
    }
    lines = server.run(FETCH, tmp_path, *cases)
    files = ["w.npz" if "private" in address else "a/w.npz" for address in cases]
    assert lines == [f"{file} {commit} {digest}" for file, (commit, digest) in zip(files, cases.values(), strict=True)]
    assert sum(method == "GET" and "/resolve/" in path for method, path in server.requests) == 3  # one per content


MISSING = {
    "hf://me/none": "no repository me/none; check its name",
    "hf://me/one@v9": "me/one has no revision 'v9'; allowed: a branch, tag or commit of {url}/me/one/commits",
    "hf://me/one/w.npz": "me/one has no file 'w.npz'; allowed: a file of {url}/me/one/tree/main",
    "hf://me/two": "2 files that end in .npz or .msgpack: x.npz, y.msgpack; allowed: the address of a file, such as "
    "hf://me/two/x.npz",
    "hf://me/two/..": "'..' is not the path of a file",
    "hf://me/gated": "it is gated, and your token has no access; accept its terms on {url}/me/gated, then log in",
}


def test_fetch_says_in_one_line_what_is_missing(server, tmp_path):
    lines = server.run(FETCH, tmp_path, *MISSING)
    for line, (address, words) in zip(lines, MISSING.items(), strict=True):
        assert line.startswith(address) and words.format(url=server.url) in line, line


def test_fetch_says_in_one_line_that_a_token_is_missing_or_wrong(server, tmp_path):
    log_in = "log in with `hf auth login`, or set HF_TOKEN"
    private, gated = server.run(FETCH, tmp_path, "hf://me/private", "hf://me/gated", token=None)
    assert "a request without a token finds no repository me/private" in private and log_in in private
    assert "gated, and a request without a token has no access" in gated and log_in in gated
    (wrong,) = server.run(FETCH, tmp_path, "hf://me/one", token="hf_wrong")
    assert "hf://me/one: the hub refuses your token" in wrong and log_in in wrong


def test_fetch_without_the_hub_takes_the_cache(server, tmp_path):
    online = server.run(FETCH, tmp_path, "hf://me/one", "hf://me/one@v%2F1")
    asked = len(server.requests)
    missing = ["hf://me/one/b.npz", "hf://me/two"]
    offline = server.run(FETCH, tmp_path, "hf://me/one", "hf://me/one@v%2F1", *missing, HF_HUB_OFFLINE="1")
    assert offline[:2] == online and len(server.requests) == asked
    for line, address in zip(offline[2:], missing, strict=True):
        assert line.startswith(f"{address}: HF_HUB_OFFLINE is set, and {tmp_path}/hub does not have it; unset HF"), line
    server.shutdown()
    server.server_close()
    logged, cached, unreachable = server.run(FETCH, tmp_path, "hf://me/one", "hf://me/two")
    assert cached == online[0] and "taking the copy in the cache" in logged and "cannot be reached" in logged
    assert (
        unreachable.startswith(f"hf://me/two: {server.url} cannot be reached (Connect") and "try again" in unreachable
    )


def test_pretrained_takes_the_readable_file_of_a_repository(server, tmp_path):
    code = (
        "import sys\nfrom animesion_jax.pretrained import READERS, sources\n"
        "for address in sys.argv[1:]:\n"
        "    try: print(sources.locate(address, READERS).origin['file'])\n"
        "    except ValueError as error: print(error)\n"
    )
    found, refused = server.run(code, tmp_path, "hf://me/one", "hf://me/two/z.bin")
    assert found == "a/w.npz" and "cannot tell the layout of hf://me/two/z.bin from its ending '.bin'" in refused
    assert not any("two" in path for _, path in server.requests)


def test_fetch_again_after_an_interrupted_download_has_the_whole_file(server, tmp_path):
    """The connection ends after half of the file, once. Newer releases of huggingface_hub try again by themselves."""
    server.cut_after = len(BODY) // 2
    *_, line = server.run(FETCH, tmp_path, "hf://me/private", "hf://me/private")
    assert line.endswith(DIGESTS[0]) and server.cut_after is None
