"""A server on loopback that speaks the Hugging Face Hub's API, as far as huggingface_hub asks for it here."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field

import yaml

TOKEN = "hf_writes"
# An owner whose repositories the token may read only.
READ_ONLY = "others"
LICENCES = ("unknown", "apache-2.0", "cc-by-nc-4.0")


@dataclass
class Repo:
    """A repository: commits by hash, each a dict of path to content, and branches to hashes."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        """Adds files to a branch; returns the new commit's hash."""
        before = self.commits.get(self.branches.get(branch, ""), {})
        sha = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = before | files, sha
        return sha


class HubServer(http.server.ThreadingHTTPServer):
    """The server; `environment` makes huggingface_hub in a new process use it.

    Attributes:
      repos: by OWNER/REPO.
      requests: (method, path) of each request.
      refused: paths of files that no download gets.
      cut_after: bytes of the next download after which the connection ends, once; None for none.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.cut_after: int | None = None
        self.uploads: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def run(self, code: str, home: os.PathLike, *arguments: str, **variables: str) -> list[str]:
        """Runs Python code in a new process with `environment`; returns the lines that it prints to stdout."""
        environment = self.environment(home, **variables)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, cwd=home, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def environment(self, home: os.PathLike, token: str | None = TOKEN, **variables: str) -> dict[str, str]:
        """Returns the environment of a process whose hub is this server, and whose cache is below `home`."""
        given = {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
        hub = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        kept = {name: value for name, value in os.environ.items() if name not in ("HF_TOKEN", "HF_HUB_CACHE")}
        return kept | hub | {"HF_HUB_DISABLE_TELEMETRY": "1"} | given | variables


def _card(files: dict[str, bytes]) -> dict:
    """Returns the metadata at the start of README.md."""
    parts = files.get("README.md", b"").decode().split("---\n")
    return yaml.safe_load(parts[1]) if len(parts) > 2 else {}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def _answer(self):
        self.server.requests.append((self.command, self.path))
        path = urllib.parse.urlsplit(self.path).path
        length, chunks = self.headers["Content-Length"], []
        if length is None and self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        self.body = b"".join(chunks) or self.rfile.read(int(length or 0))
        token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if token not in ("", TOKEN):
            return self._send(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        self.knows = token == TOKEN
        for pattern, method in _ROUTES.items():
            if found := re.fullmatch(pattern, path):
                return getattr(self, method)(*map(urllib.parse.unquote, found.groups()))
        raise AssertionError(f"huggingface_hub asks for {self.command} {self.path}")

    def _send(self, status=200, headers=(), body=b"", value=None):
        body = json.dumps(value).encode() if value is not None else body
        self.send_response(status)
        for name, content in dict(headers).items():
            self.send_header(name, content)
        if "Content-Length" not in dict(headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _repo(self, name):
        """Returns a repository that the token may see; answers otherwise."""
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and not self.knows):
            return self._send(404 if self.knows else 401, {"X-Error-Code": "RepoNotFound"})
        return repo

    def _commit(self, repo, revision):
        """Returns the hash of a revision; answers otherwise."""
        sha = repo.branches.get(revision, revision)
        return sha if sha in repo.commits else self._send(404, {"X-Error-Code": "RevisionNotFound"})

    def create(self):
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if not self.knows or asked["organization"] == READ_ONLY:
            return self._send(403, {"X-Error-Message": "You don't have the rights to create a model"})
        assert name not in self.server.repos
        repo = self.server.repos[name] = Repo(asked.get("private") or asked.get("visibility") == "private")
        repo.commit("main", {".gitattributes": b"*.msgpack filter=lfs\n"})
        return self._send(value={"url": f"{self.server.url}/{name}"})

    def info(self, name, revision="main"):
        if (repo := self._repo(name)) and (sha := self._commit(repo, revision)):
            files = [{"rfilename": path} for path in repo.commits[sha]]
            found = {"id": name, "sha": sha, "private": repo.private, "siblings": files}
            if card := _card(repo.commits[sha]):
                found["cardData"] = card
            self._send(value=found)

    def branch(self, name, branch):
        repo = self._repo(name)
        repo.branches[branch] = repo.branches["main"]
        self._send()

    def validate(self):
        content = json.loads(self.body)["content"]
        header = yaml.safe_load(content.split("---\n")[1])
        wrong = [] if header["license"] in LICENCES else [{"message": '"license" must be one of ...'}]
        self._send(400 if wrong else 200, value={"errors": wrong, "warnings": []})

    def preupload(self, name, revision):
        files = json.loads(self.body)["files"]
        modes = {True: "lfs", False: "regular"}
        self._send(value={"files": [
            {"path": each["path"], "uploadMode": modes[each["path"].endswith(".msgpack")], "shouldIgnore": False}
            for each in files
        ]})  # fmt: skip

    def batch(self, name):
        objects = json.loads(self.body)["objects"]
        self._send(value={"transfer": "basic", "objects": [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}} for each in objects
        ]})  # fmt: skip

    def put(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.uploads[oid] = self.body
        self._send()

    def commit(self, name, revision):
        if not (self.knows and (repo := self._repo(name))):
            return self._send(403, {"X-Error-Message": "you may not write"})
        files = {}
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        sha = repo.commit(revision, files)
        return self._send(value={"commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def resolve(self, name, revision, file):
        if not ((repo := self._repo(name)) and (sha := self._commit(repo, revision))):
            return None
        if repo.gated:
            return self._send(403 if self.knows else 401, {"X-Error-Code": "GatedRepo"})
        if file in self.server.refused:
            return self._send(418)
        content = repo.commits[sha].get(file)
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha}
        start = int(re.sub(r"\D", "", self.headers["Range"] or "0"))
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and self.server.cut_after is not None:
            headers["Content-Length"], content = str(len(content)), content[: self.server.cut_after]
            self.server.cut_after, self.close_connection = None, True
        return self._send(206 if start else 200, headers, content[start:])


_ROUTES = {
    "/api/repos/create": "create",
    "/api/validate-yaml": "validate",
    "/api/models/([^/]+/[^/]+)": "info",
    "/api/models/([^/]+/[^/]+)/revision/([^/]+)": "info",
    "/api/models/([^/]+/[^/]+)/branch/([^/]+)": "branch",
    "/api/models/([^/]+/[^/]+)/preupload/([^/]+)": "preupload",
    "/api/models/([^/]+/[^/]+)/commit/([^/]+)": "commit",
    "/([^/]+/[^/]+)[.]git/info/lfs/objects/batch": "batch",
    "/lfs/([0-9a-f]+)": "put",
    "/([^/]+/[^/]+)/resolve/([^/]+)/(.+)": "resolve",
}
