"""What tests of serving share: the real server on a free port, and releases and stores to be served."""

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from card_making import lay_out_run, recipe_with_card, seal
from huggingface_hub import HfApi
from uvicorn import Server

from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory
from treering.hub.serving.application import Limits, Pushing, make_application
from treering.hub.serving.server import endpoint_of, listening, make_server
from treering.hub.serving.shelf import Shelf
from treering.hub.serving.store import Store, open_store

TOKEN = "a-token-of-these-tests"
NAME = "acme-lab/sapling"


@dataclass
class Answer:
    """What a server has answered."""

    status: int
    content: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.content)


@contextmanager
def running(shelf: Shelf, pushing: Pushing | None = None) -> Iterator[tuple[str, Server]]:
    """Serve a shelf until the block ends; gives the address and the server."""
    with listening("127.0.0.1", 0) as listener:
        server = make_server(make_application(shelf, pushing))
        endpoint = endpoint_of(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.002)
            yield endpoint, server
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def served(shelf: Shelf, pushing: Pushing | None = None) -> Iterator[str]:
    """Serve a shelf until the block ends; gives the address."""
    with running(shelf, pushing) as (endpoint, _):
        yield endpoint


@contextmanager
def served_store(folder: Path, limits: Limits | None = None) -> Iterator[tuple[str, Store]]:
    """Serve a folder to push to until the block ends; gives the address and the store."""
    with open_store(folder, writable=True) as store, served(store, Pushing(store, TOKEN, limits or Limits())) as endpoint:
        yield endpoint, store


def client(endpoint: str, token: str | bool = TOKEN) -> HfApi:
    """Hugging Face's own client."""
    return HfApi(endpoint=endpoint, token=token)


def ask(endpoint: str, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    """Send one request as it is, its path unchanged; a header's `_` is sent as `-`."""
    address = urlsplit(endpoint)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return Answer(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})
    finally:
        connection.close()


def ask_with_token(endpoint: str, method: str, path: str, body: Any = None) -> Answer:
    """Send one request with the token; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return ask(endpoint, method, path, content, Authorization=f"Bearer {TOKEN}")


def commit_lines(*lines: tuple[str, dict[str, Any]], **header: Any) -> bytes:
    """A commit as it is sent: a header, and one line for each change."""
    opening = ("header", {"summary": "a commit", "description": "", **header})
    return b"".join(json.dumps({"key": key, "value": value}).encode() + b"\n" for key, value in (opening, *lines))


def lay_out_checkpoint(folder: Path) -> None:
    """A checkpoint with a few bytes for weights and moments."""
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(json.dumps({"of": folder.name}))
    for name in ("weights", "optimizer"):
        (folder / f"{name}.safetensors").write_bytes(f"{name} of {folder.name}".encode() * 1000)


def lay_out_release(folder: Path, quickstart: str, **changes: Any) -> RunDirectory:
    """A finished run with a card, whose revisions and checkpoints have a few bytes for weights, and texts for tokens."""
    run = lay_out_run(folder, recipe_with_card(quickstart, **changes))
    revisions = run.stage("revisions")
    names = [entry["name"] for entry in json.loads((revisions / "revisions.json").read_bytes())["revisions"]]
    for number, name in enumerate(names):
        (revisions / name).mkdir(exist_ok=True)
        (revisions / name / "config.json").write_text((revisions / names[-1] / "config.json").read_text())
        (revisions / name / "model.safetensors").write_bytes(f"weights of {name}".encode() * 1000)
        (revisions / name / "tokenizer.json").write_bytes(b'{"version": "1.0"}')
        (revisions / name / "manifest.json").write_bytes(b"{}")
        (revisions / name / "revision.json").write_text(json.dumps({"number": number}))
        lay_out_checkpoint(run.stage("checkpoints") / name)
    (run.stage("tokens") / "train.bin").write_bytes(b"tokens" * 1000)
    for split, text in (("train", "an oak"), ("validation", "an ash")):
        (run.stage("corpus") / f"{split}-00000.jsonl").write_text(json.dumps({"text": text}) + "\n")
    figures = run.stage("evaluation") / "figures"
    figures.mkdir(exist_ok=True)
    (figures / "overview.png").write_bytes(b"\x89PNG\r\n\x1a\nnot quite a picture")
    seal(run)
    write_card(run)
    return run
