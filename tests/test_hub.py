"""Downloads against a server on loopback that misbehaves as real ones do."""

import contextlib
import hashlib
import http.server
import io
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from animesion_jax import hub as module
from animesion_jax.errors import InputError
from animesion_jax.pretrained import sources

BODY = np.random.default_rng(0).bytes(300_000)
SUFFIXES = (".npz", ".pth", ".safetensors")


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.body` by `server.answers`, one set of modes for each request, the last one for all that follow.

    Modes: "break" sends half of what it announced; "404", "503", "403" refuse; "no-range" ignores Range, "no-if-range"
    only If-Range; "no-length" tells none, "chunked" sends chunks; "swap" changes body and tag first, "hang-up" closes
    without an answer, "stall" sends half and waits for `server.gate`.
    """

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        modes = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        server.requests.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
        self.close_connection = True
        if "swap" in modes:
            server.body, server.tag = server.next_body, server.next_tag
        refusal = next((mode for mode in modes if mode.isdigit()), None)
        if refusal:
            return self.send_error(int(refusal))
        if "hang-up" in modes:
            return None
        return self._send(modes, self._start(modes))

    def _start(self, modes):
        """Returns the first byte to send."""
        told = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        condition = self.headers.get("If-Range")
        matches = condition in (None, self.server.tag, self.server.date) or "no-if-range" in modes
        return int(told.group(1)) if told and matches and "no-range" not in modes else None

    def _send(self, modes, start):
        server, body = self.server, self.server.body
        if start is not None and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start is not None else 200)
        rest = body[start or 0 :]
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        if server.date:
            self.send_header("Last-Modified", server.date)
        if "chunked" in modes:
            self.send_header("Transfer-Encoding", "chunked")
        elif "no-length" not in modes:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        sent = rest[: len(rest) // 2] if modes & {"break", "stall"} else rest
        server.served.append(len(sent))
        if "chunked" in modes:
            for piece in (sent[i : i + 50_000] for i in range(0, len(sent), 50_000)):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            sent = b"" if "break" in modes else b"0\r\n\r\n"
        self.wfile.write(sent)
        if "stall" in modes:
            server.gate.wait(20)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The misbehaving server; the cache is tmp_path/cache and no time is spent between attempts."""
    monkeypatch.setenv(sources.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.tag, server.date = BODY, '"one"', ""
        server.next_body, server.next_tag = BODY[::-1], '"two"'
        server.answers, server.requests, server.served = [set()], [], []
        server.gate = threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def _files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def _join(threads):
    for thread in threads:
        if not thread.ident:
            thread.start()
    for thread in threads:
        thread.join(20)


def _wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _fetch(server, name="w.npz"):
    return sources.locate(f"{server.url}/{name}", SUFFIXES)


def _fail(server, *words, name="w.npz"):
    with pytest.raises(InputError) as caught:
        _fetch(server, name)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    return message


def test_a_file_is_downloaded_once_and_then_taken_from_the_cache(server, tmp_path, capsys):
    file = _fetch(server, "a/R50%2Bx.npz")
    assert file == tmp_path / "cache" / f"127.0.0.1:{server.server_port}" / "a" / "R50+x.npz"
    assert file.read_bytes() == BODY
    assert _fetch(server, "a/R50%2Bx.npz") == file and len(server.requests) == 1
    assert _files(tmp_path) == ["R50+x.npz"]
    assert capsys.readouterr().err == f"downloading {server.url}/a/R50%2Bx.npz to {file}\n"  # no bar: no terminal


@pytest.mark.parametrize(("tag", "date"), [('"one"', ""), ("", "Tue, 01 Dec 2020 00:00:00 GMT"), ('W/"weak"', "Tue")])
def test_what_breaks_off_once_goes_on_where_it_was(server, tag, date, capsys):
    server.tag, server.date, server.answers = tag, date, [{"break"}, set()]
    assert _fetch(server).read_bytes() == BODY
    assert [request[1:] for request in server.requests] == [(None, None), ("bytes=150000-", date or tag)]
    assert server.served == [150_000, 150_000]
    assert "broke off after 150,000 of 300,000 bytes" in capsys.readouterr().err


def test_what_always_breaks_off_goes_on_at_the_next_start(server, tmp_path):
    server.answers = [{"break"}] * module.ATTEMPTS + [set()]
    _fail(server, f"{server.url}/w.npz", str(tmp_path / "cache"), "your copy instead of", "281,250 of 300,000")
    assert _files(tmp_path) == ["w.npz.part", "w.npz.part.json"]
    assert _fetch(server).read_bytes() == BODY
    assert server.requests[-1][1] == "bytes=281250-" and sum(server.served) == len(BODY)
    assert _files(tmp_path) == ["w.npz"]


def test_a_whole_part_needs_no_server(server):
    """As after a kill between the last byte and the renaming."""
    file = _fetch(server)
    file.rename(f"{file}.part")
    Path(f"{file}.part.json").write_text(f'[{len(BODY)}, "x"]')
    server.answers = [{"404"}]
    assert _fetch(server).read_bytes() == BODY


@pytest.mark.parametrize("note", [None, "", "{}", "[300000]", "null"])
def test_a_part_of_unknown_origin_is_not_continued(server, tmp_path, note):
    target = tmp_path / "w.npz"
    target.with_name("w.npz.part").write_bytes(b"something else")
    if note is not None:
        target.with_name("w.npz.part.json").write_text(note)
    module.download(f"{server.url}/w.npz", target)
    assert target.read_bytes() == BODY and server.requests == [("/w.npz", None, None)]
    assert _files(tmp_path) == ["w.npz"]


@pytest.mark.parametrize(
    ("tag", "answer"),
    [('"one"', {"no-range"}), ("", set()), ('W/"weak"', set())],
    ids=["Range ignored", "no validator", "weak validator alone"],
)
def test_without_ranges_or_a_validator_it_starts_anew(server, tag, answer):
    server.tag, server.answers = tag, [{"break"}, answer]
    assert _fetch(server).read_bytes() == BODY
    assert server.served == [150_000, 300_000]


@pytest.mark.parametrize("body", [BODY[::-1], BODY[::-1] + b"more", BODY[:200_000], BODY[:1000], BODY[:150_000]])
@pytest.mark.parametrize("mode", ["no-if-range", "no-range", "obeys"])
@pytest.mark.parametrize("at_once", [True, False], ids=["between attempts", "between starts"])
def test_a_file_that_changed_is_never_spliced(server, tmp_path, body, mode, at_once):
    server.next_body, swap = body, {"swap", mode}
    server.answers = [{"break"}, swap, set()] if at_once else [*[{"break"}] * module.ATTEMPTS, swap, set()]
    if not at_once:
        _fail(server)
    assert _fetch(server).read_bytes() == body
    assert _files(tmp_path) == ["w.npz"]


def test_a_file_that_changed_only_in_length_is_never_spliced(server):
    """A server that confirms whatever validator it is asked for."""
    server.next_body, server.next_tag = BODY[::-1] + b"x", server.tag
    server.answers = [{"break"}, {"swap"}, set()]
    assert _fetch(server).read_bytes() == server.next_body and len(server.requests) == 3


def test_a_file_of_untold_length_is_refused_and_chunks_are_checked(server, tmp_path):
    server.answers = [{"no-length"}]
    _fail(server, "length")
    assert len(server.requests) == 1 and not _files(tmp_path)
    server.answers = [{"chunked", "break"}]
    _fail(server)
    assert "w.npz" not in _files(tmp_path)
    server.answers = [{"chunked", "break"}, {"chunked"}]
    assert _fetch(server).read_bytes() == BODY


def test_refusals_are_final_and_overload_is_not(server, tmp_path):
    server.answers = [{"404"}]
    message = _fail(server, f"{server.url}/w.npz", "404", "your copy instead of")
    assert str(tmp_path / "cache" / f"127.0.0.1:{server.server_port}" / "w.npz") in message
    assert len(server.requests) == 1 and not _files(tmp_path)
    server.answers = [{"503"}, {"hang-up"}, {"429"}, set()]
    assert _fetch(server).read_bytes() == BODY
    server.answers = [{"503"}]
    _fail(server, "503", name="other.npz")
    assert len(server.requests) == 1 + 4 + module.ATTEMPTS and _files(tmp_path) == ["w.npz"]


def test_without_a_network_nothing_is_tried_again(server, tmp_path, monkeypatch):
    server.shutdown()
    server.server_close()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("waited"))
    target = tmp_path / "cache" / f"127.0.0.1:{server.server_port}" / "w.npz"
    _fail(
        server,
        f"{server.url}/w.npz",
        "refused",
        f"put the file at {target}",
        f"your copy instead of {server.url}/w.npz",
    )
    assert not _files(tmp_path)
    target.write_bytes(BODY)
    assert _fetch(server) == target


class Bucket:
    """A gs:// path as etils gives it, of a file that breaks off after a chunk unless it is whole."""

    def __init__(self, whole, cache):
        self.whole, self.cache, self.notes, self.length = whole, cache, [], len(BODY)

    def open(self, _):
        self.file = io.BytesIO(BODY[::-1])
        return contextlib.nullcontext(self)

    def stat(self):
        return self

    def read(self, size):
        self.notes += self.cache.rglob("*.json")
        if self.file.tell() and not self.whole:
            raise RuntimeError("reset by peer\nand more")
        return self.file.read(size)


@pytest.mark.parametrize("whole", [True, False])
def test_a_bucket_that_is_not_public_is_read_with_the_users_credentials(server, tmp_path, monkeypatch, whole):
    bucket = Bucket(whole, tmp_path)
    monkeypatch.setattr(sources, "BUCKETS", server.url)
    monkeypatch.setattr(module.epath, "Path", lambda path: {"gs://b/x y+.npz": bucket}[path])
    server.answers = [{"break"}, {"403"}]
    if whole:
        assert sources.locate("gs://b/x y+.npz", SUFFIXES).read_bytes() == BODY[::-1]
    else:
        with pytest.raises(InputError, match=r"gs://b/x y.+ is not public, and reading it failed: reset by peer.; put"):
            sources.locate("gs://b/x y+.npz", SUFFIXES)
    assert server.requests[0][0] == "/b/x%20y%2B.npz" and not bucket.notes
    assert _files(tmp_path) == ["x y+.npz"] * whole
    server.answers = [{"403"}]
    _fail(server, "403")


def test_several_threads_bring_one_file(server, tmp_path):
    target, start = tmp_path / "w.npz", threading.Barrier(3)
    server.answers = [{"break"}, set()]

    def run():
        start.wait()
        module.download(f"{server.url}/w.npz", target)

    _join([threading.Thread(target=run) for _ in range(3)])
    assert target.read_bytes() == BODY and sum(server.served) == len(BODY)
    assert _files(tmp_path) == ["w.npz"]


def test_who_waits_takes_over_from_a_process_that_is_killed(server, tmp_path):
    target, part = tmp_path / "w.npz", tmp_path / "w.npz.part"
    server.answers = [{"stall"}, set()]
    code = "import sys, pathlib; from animesion_jax.hub import download as d; "
    code += "d(sys.argv[1], pathlib.Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, f"{server.url}/w.npz", str(target)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as first:
        assert "downloading" in first.stderr.readline()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as second:
            assert "waiting for another process" in second.stderr.readline()
            _wait_until(lambda: part.stat().st_size == 2 * module.CHUNK)
            assert not target.exists()
            first.kill()
            assert second.wait(20) == 0
    server.gate.set()
    assert target.read_bytes() == BODY and _files(tmp_path) == ["w.npz"]
    assert [request[1] for request in server.requests] == [None, f"bytes={2 * module.CHUNK}-"]


def test_who_waits_goes_on_when_the_first_gives_up(server, tmp_path, monkeypatch):
    """The first removes its empty part, on which the second waits."""
    server.answers = [{"404"}, set()]
    target, results, said = tmp_path / "w.npz", [], []
    monkeypatch.setattr(module, "print", lambda line, file: said.append(line), raising=False)

    def run():
        try:
            module.download(f"{server.url}/w.npz", target)
        except OSError as error:
            results.append(error.code)

    with module._locked(tmp_path / "w.npz.part"):
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        _wait_until(lambda: sum("waiting" in line for line in said) == len(threads))
        (tmp_path / "w.npz.part").unlink()
        # They wait on a file that is not at its path any more when they get the lock.
    _join(threads)
    assert results == [404] and target.read_bytes() == BODY and _files(tmp_path) == ["w.npz"]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "path",
    ["/../../x.npz", "/%2e%2e/%2e%2e/x.npz", "//etc/x.npz", "/%2Fetc/x.npz", "/a/..%2f..%2f../x.npz", "/%00x.npz"],
)
def test_no_address_leaves_the_cache_folder(server, tmp_path, path):
    folder = (tmp_path / "cache").resolve()
    file = sources.locate(f"{server.url}{path}", SUFFIXES)
    assert file.resolve().is_relative_to(folder) and file.read_bytes() == BODY
    assert all(each.is_relative_to(folder) for each in tmp_path.rglob("*.npz"))
    assert sources.cache_path("https://../x.npz").resolve().is_relative_to(folder)
    assert sources.cache_path("https://./../../x.npz").resolve().is_relative_to(folder)


def test_addresses_do_not_share_a_file(server):
    paths = ["a..b.npz", "a_b.npz", "../a.npz", "_/a.npz", "a.npz", "a.npz?v=1", "a.npz?v=2", "%5Fa.npz", "\\a.npz"]
    assert len({sources.cache_path(f"https://h/{path}") for path in paths}) == len(paths)
    server.answers = [set()]
    assert _fetch(server, "é ü.npz?x=1").read_bytes() == BODY


@pytest.mark.parametrize("query", ["", "?download=true"])
def test_torchvisions_names_tell_the_digest(server, tmp_path, query):
    digest = hashlib.sha256(BODY).hexdigest()[:8]
    assert _fetch(server, f"resnet18-{digest}.pth{query}").read_bytes() == BODY
    _fail(server, digest, "01234567", name=f"resnet18-01234567.pth{query}")
    assert len(_files(tmp_path)) == 1 and len(server.requests) == 2


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("file:///etc/passwd.npz", ["no weights at", "allowed"]),
        ("ftp://127.0.0.1/x.npz", ["no weights at", "allowed"]),
        ("google/imagenet21k/ViT-B_61", ["google/imagenet21k/ViT-B_16"]),
        ("~nobody-of-this-name/x.npz", ["~nobody-of-this-name/x.npz"]),
        ("https://127.0.0.1:1/weights.h5", ["weights.h5", "'.h5'", ".safetensors"]),
        ("https://127.0.0.1:1/", ["127.0.0.1:1", ".safetensors"]),
        ("https://[x/y.npz", ["https://[x/y.npz", "https://HOST"]),
        ("https://127.0.0.1:port/y.npz", ["port"]),
        (f"https://127.0.0.1:1/{'x' * 300}.npz", ["too long"]),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(server, tmp_path, path, words):
    with pytest.raises(InputError) as caught:
        sources.locate(path, SUFFIXES)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words), message
    assert not _files(tmp_path) and not server.requests
