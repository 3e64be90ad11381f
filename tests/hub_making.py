"""A small Hub on this machine, for the real client to read from: model repositories, their branches and files.

Of the Hub's protocol it has what reading needs: refs, a commit's tree, files with HEAD and GET. It sends no `X-Xet` headers, so
files come over plain HTTP.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_LARGE_SUFFIXES = (".safetensors", ".bin")
_REFS = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/refs")
_TREE = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Failure:
    """An answer instead of the right one, so many times, to requests whose line has this in it."""

    part: str
    status: int
    times: int
    headers: Mapping[str, str]


@dataclass
class Hub:
    """What the server serves, and what it has been asked."""

    endpoint: str
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    commits: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def add(self, repository: str, branch: str, files: Mapping[str, bytes]) -> str:
        """Have a branch point to a commit of these files, and return the commit."""
        listed = sorted((path, hashlib.sha256(content).hexdigest()) for path, content in files.items())
        commit = hashlib.sha1(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()
        self.branches.setdefault(repository, {})[branch] = commit
        self.commits[repository, commit] = dict(files)
        return commit

    def fail(self, part: str, status: int, times: int = 1_000_000, **headers: str) -> None:
        """Answer requests whose line has this part in it with an error; a header's `_` is sent as `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures.append(Failure(part, status, times, sent))

    def asked(self, part: str) -> list[str]:
        """Return the requests whose lines have this part in them."""
        return [request for request in self.requests if part in request]

    def files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return the commit and the files of a branch or a commit."""
        commit = self.branches.get(repository, {}).get(revision, revision)
        return None if (repository, commit) not in self.commits else (commit, self.commits[repository, commit])


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty Hub until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        server.hub = hub  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def object_id(path: str, content: bytes) -> str:
    """Return what the Hub calls a file's content: its SHA-256 if it is kept as a large file, else git's name of it."""
    if path.endswith(_LARGE_SUFFIXES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    """One request: its line is kept, then it is answered."""

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        hub.tokens |= {self.headers["Authorization"]} if "Authorization" in self.headers else set()
        if failure := _failure_of(hub, f"{self.command} {path}"):
            self._send(failure.status, b"{}", **failure.headers)
        elif match := _REFS.fullmatch(path):
            self._send_refs(hub, match["repository"])
        elif match := _TREE.fullmatch(path):
            self._send_tree(hub, match["repository"], unquote(match["revision"]))
        elif match := _FILE.fullmatch(path):
            self._send_file(hub, match["repository"], unquote(match["revision"]), unquote(match["path"]))
        else:
            self._send(404, b"{}")

    do_HEAD = do_GET

    def _send_refs(self, hub: Hub, repository: str) -> None:
        if repository not in hub.branches:
            self._send(404, b"{}", **{"X-Error-Code": "RepoNotFound"})
            return
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}
            for name, commit in hub.branches[repository].items()
        ]
        self._send_json({"branches": branches, "tags": [], "converts": []})

    def _send_tree(self, hub: Hub, repository: str, revision: str) -> None:
        if (found := hub.files(repository, revision)) is None:
            self._send(404, b"{}", **{"X-Error-Code": "RevisionNotFound"})
            return
        self._send_json([_entry(path, content) for path, content in found[1].items()])

    def _send_file(self, hub: Hub, repository: str, revision: str, path: str) -> None:
        found = hub.files(repository, revision)
        if found is None or path not in found[1]:
            self._send(404, b"{}", **{"X-Error-Code": "EntryNotFound" if found else "RevisionNotFound"})
            return
        commit, files = found
        self._send(200, files[path], **{"X-Repo-Commit": commit, "ETag": f'"{object_id(path, files[path])}"'})

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), **{"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def _failure_of(hub: Hub, line: str) -> Failure | None:
    for failure in hub.failures:
        if failure.part in line and failure.times > 0:
            failure.times -= 1
            return failure
    return None


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": object_id(path, content), "size": len(content)}
    if path.endswith(_LARGE_SUFFIXES):
        entry["lfs"] = {"oid": object_id(path, content), "size": len(content), "pointerSize": 134}
    return entry
