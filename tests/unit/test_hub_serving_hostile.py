"""What a served folder does with hostile, odd, slow and many requests."""

import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_making import NAME, TOKEN, Answer, ask, ask_with_token, client, commit_lines, running, served_store

from treering.hub.serving import arriving, connections
from treering.hub.serving.application import Limits
from treering.hub.serving.objects import Change
from treering.hub.serving.store import Store, open_store
from treering.hub.serving.stored import Message

SECRET = b"what nobody is to read"
WEIGHTS_BYTES = 4 << 20
WEIGHTS = hashlib.sha256(b"weights").digest() * (WEIGHTS_BYTES // 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("around")
    (folder / "secret.txt").write_bytes(SECRET)
    (folder / "store.json").write_bytes(SECRET)
    return folder


@pytest.fixture(scope="module")
def server(folder) -> Iterator[tuple[str, Store]]:
    """A store with one repository; tests add branches of their own."""
    with served_store(folder / "store", Limits(file_bytes=10_000_000, inline_bytes=10_000)) as (endpoint, store):
        repository = store.create("model", NAME)
        files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "deep/er/file.txt": b"deep"}
        changes = [Change(path, store.blobs.add_small(path, content)) for path, content in files.items()]
        repository.push("main", changes, Message("files"))
        yield endpoint, store


def raw(endpoint: str, request: bytes) -> bytes:
    """Send bytes as they are, and return whatever comes back until the connection is closed."""
    address = urlsplit(endpoint)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        received = bytearray()
        try:
            while block := connection.recv(1 << 16):
                received += block
        except ConnectionError:
            pass  # it hung up on bytes that it had not read
    return bytes(received)


def contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


WAYS_OUT = [
    *("../secret.txt", "..%2fsecret.txt", "%2e%2e%2fsecret.txt", "%2e%2e/secret.txt", "..%252fsecret.txt", "..\\secret.txt"),
    *(
        "..%5csecret.txt",
        "/secret.txt",
        "%2fsecret.txt",
        "//secret.txt",
        "secret.txt%00",
        "config.json%00.txt",
        "./config.json",
    ),
    *(
        "deep/../config.json",
        "deep%2f..%2fconfig.json",
        "..;/secret.txt",
        "....//secret.txt",
        "%c0%ae%c0%ae/secret.txt",
        "~",
        "",
    ),
    *("file:///etc/passwd", "config.json/", "deep", "deep/er", "%ff%fe", ".%2e/.%2e/store.json", "%0d%0aX-Injected:1"),
]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_path_of_a_file_leads_out_of_its_commit(server, way):
    endpoint, _ = server
    for _ in range(4):
        answer = ask(endpoint, "GET", f"/{NAME}/resolve/main/{way}")
        assert answer.status == 404 and SECRET not in answer.content
        assert "x-injected" not in answer.headers
        way = f"../{way}"


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_name_of_a_repository_or_a_revision_leads_to_a_file(server, way):
    endpoint, _ = server
    for path in (
        f"/{NAME}/resolve/{way}/config.json",
        f"/{way}/{NAME}/resolve/main/config.json",
        f"/acme/{way}/resolve/main/config.json",
        f"/api/models/{NAME}/tree/{way}",
        f"/api/models/{NAME}/tree/main/{way}x",
        f"/api/{way}/x/refs",
        f"/{way}",
    ):
        answer = ask(endpoint, "GET", path)
        assert answer.status in ((404, 200) if path in ("/", "//") or path.endswith("tree/") else (404,)), path
        assert SECRET not in answer.content


@pytest.mark.parametrize("way", [way for way in WAYS_OUT if way not in ("~", "deep", "deep/er")])
def test_nothing_is_written_where_a_pushed_name_points(server, folder, way):
    endpoint, store = server
    before = contents(folder)
    refs = store.find("model", NAME).refs
    name = way or "."
    lines = commit_lines(("file", {"path": f"../{name}", "content": "eA=="}))
    assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", lines).status == 400
    for path, body in (
        ("/api/repos/create", {"organization": "..", "name": name}),
        ("/api/repos/create", {"organization": name, "name": name}),
        (f"/api/models/{NAME}/branch/{name}/x", {}),
        (f"/api/models/{NAME}/tag/main", {"tag": f"../{name}"}),
    ):
        assert ask_with_token(endpoint, "POST", path, body).status in (400, 403, 404, 405), path
    added = contents(folder).keys() - before.keys()
    assert not added and store.find("model", NAME).refs == refs


@pytest.mark.parametrize(
    "host",
    [
        *("elsewhere.example", "elsewhere.example:80", "localhost.elsewhere.example", "127.0.0.1.elsewhere.example", ""),
        *("127.0.0.1@elsewhere.example", "elsewhere.example#127.0.0.1", "[::1", "127.0.0.1:80:80", "a b", "127.1.elsewhere"),
    ],
)
def test_who_calls_the_server_by_another_name_is_sent_away(server, host):
    answer = ask(server[0], "GET", "/", Host=host)
    assert answer.status in (400, 421) and b"sapling" not in answer.content
    assert server[1].find("model", NAME)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:7", "[::1]:80", "192.0.2.7"])
def test_who_calls_it_by_an_address_is_let_in(server, host):
    assert ask(server[0], "GET", "/", Host=host).status == 200


def test_no_page_elsewhere_may_read_an_answer(server):
    answer = ask(server[0], "GET", f"/api/models/{NAME}", Origin="http://elsewhere.example")
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert ask(server[0], "OPTIONS", f"/api/models/{NAME}", Origin="http://elsewhere.example").status == 405


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET http://elsewhere.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000,
        b"POST /api/repos/create HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/lfs/verify HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
        b"Connection: close\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_as_such(server, request_bytes):
    answered = raw(server[0], request_bytes)
    status = int(answered.split()[1])
    assert 400 <= status < 500
    assert ask(server[0], "GET", "/").status == 200


@pytest.mark.parametrize(
    ("method", "path", "size", "status"),
    [
        ("POST", f"/api/models/{NAME}/paths-info/main", 5 << 20, 413),
        ("POST", "/api/validate-yaml", 5 << 20, 413),
        ("POST", "/api/repos/create", 9 << 20, 413),
        ("POST", f"/api/models/{NAME}/preupload/main", 9 << 20, 413),
        ("POST", f"/api/models/{NAME}/commit/main", 1 << 20, 413),
        ("POST", f"/{NAME}.git/info/lfs/objects/batch", 2 << 20, 413),
    ],
)
def test_a_body_that_is_too_long_is_not_taken(server, method, path, size, status):
    answer = _sent_as_far_as_taken(server[0], method, path, size)
    assert answer.status == status and "more than" in answer.json()["error"]
    assert ask(server[0], "GET", "/").status == 200


def _sent_as_far_as_taken(endpoint: str, method: str, path: str, size: int) -> Answer:
    """Send a body until the server hangs up, and return what it answered."""
    address = urlsplit(endpoint)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode())
        try:
            for _ in range(0, size, 1 << 16):
                connection.sendall(b"x" * (1 << 16))
        except OSError:
            pass
        received = bytearray()
        while b"}" not in received and (block := connection.recv(1 << 16)):
            received += block
    return Answer(int(received.split()[1]), bytes(received.partition(b"\r\n\r\n")[2]))


def test_too_many_paths_and_changes_are_not_taken(server):
    endpoint, store = server
    store.find("model", NAME).add_branch("many", "main")
    assert (
        ask(endpoint, "POST", f"/api/models/{NAME}/paths-info/main", json.dumps({"paths": ["a"] * 2001}).encode()).status == 413
    )
    lines = commit_lines(*[("deletedFile", {"path": "config.json"})] * 25_001)
    assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/many", lines).status == 413


SEGMENTS = st.one_of(
    st.sampled_from(
        [
            *("api", "models", "datasets", "spaces", "acme-lab", "sapling", "sapling.git", "resolve", "tree", "main", "refs"),
            *("commits", "commit", "revision", "paths-info", "preupload", "branch", "tag", "repos", "create", "delete", "lfs"),
            *(
                "info",
                "objects",
                "batch",
                "verify",
                "validate-yaml",
                "whoami-v2",
                "xet-write-token",
                "config.json",
                "deep",
                "er",
            ),
            *("..", "%2e%2e", "%2f", "%00", "%0a", "%ff", "%", "%zz", "a" * 40, "0" * 64, "", "~", "*", ":", "\\", "?x=", "#"),
        ]
    ),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
)
ROUTES = st.sampled_from(
    [
        *(
            f"/api/models/{NAME}{end}"
            for end in ("", "/refs", "/commits/main", "/revision/main", "/tree/main", "/tree/main/deep")
        ),
        *(
            f"/api/models/{NAME}/{verb}/fuzz"
            for verb in ("commit", "preupload", "branch", "tag", "paths-info", "commits", "tree")
        ),
        *("/", "/api/repos/create", "/api/repos/delete", "/api/validate-yaml", "/api/lfs/verify", "/api/whoami-v2"),
        *(f"/{NAME}.git/info/lfs/objects/batch", f"/{NAME}/resolve/main/config.json", f"/api/lfs/{'0' * 64}/7"),
    ]
)
PATHS = st.one_of(ROUTES, st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts)))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["main", NAME]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMED = ("name", "organization", "type", "startingPoint", "tag", "files", "paths", "path", "size", "sample", "oid", "objects")
BODIES = st.one_of(
    st.binary(max_size=100),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from([*NAMED, "operation", "content", "key", "value"]), VALUES, max_size=5).map(
        lambda value: json.dumps(value).encode()
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["file", "lfsFile", "deletedFile", "deletedFolder", "header", "other"]),
            st.dictionaries(st.sampled_from(["path", "content", "oid", "size", "summary", "parentCommit"]), VALUES, max_size=4),
        ),
        max_size=3,
    ).map(lambda lines: commit_lines(*lines)),
)


@settings(max_examples=700)
@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "X"]),
    path=PATHS,
    body=BODIES,
    with_token=st.booleans(),
    header=st.tuples(
        st.sampled_from(["Range", "If-Range", "Content-Type", "Accept", "X-Forwarded-Host"]),
        st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=20) | st.just("bytes=0-1"),
    ),
)
def test_no_request_is_more_than_the_server_can_answer(server, folder, method, path, body, with_token, header):
    headers = {header[0]: header[1], **({"Authorization": f"Bearer {TOKEN}"} if with_token else {})}
    answer = ask(server[0], method, path, None if method in ("GET", "HEAD") else body, **headers)
    assert answer.status < 500, answer
    assert SECRET not in answer.content
    if answer.status >= 400 and method != "HEAD":
        assert answer.json()["error"]
    assert sorted(path.name for path in folder.iterdir()) == ["secret.txt", "store", "store.json"]
    if (repository := server[1].repositories.get(("model", NAME))) is not None:
        assert "main" in repository.refs.branches


def test_sixty_four_downloads_at_once_are_each_the_file(server):
    endpoint, _ = server

    def download(number: int) -> bool:
        if number % 2:
            return ask(endpoint, "GET", f"/{NAME}/resolve/main/model.safetensors").content == WEIGHTS
        half = len(WEIGHTS) // 2
        halves = [
            ask(endpoint, "GET", f"/{NAME}/resolve/main/model.safetensors", Range=asked).content
            for asked in (f"bytes=0-{half - 1}", f"bytes={half}-")
        ]
        return b"".join(halves) == WEIGHTS

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(download, range(64)))


def stalled(endpoint: str, request: bytes, receives_bytes: int = 4096) -> socket.socket:
    """A connection that has sent this, and then neither sends nor reads any more."""
    address = urlsplit(endpoint)
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives_bytes)
    connection.sendall(request)
    return connection


def test_slow_clients_keep_nobody_waiting_and_are_not_kept(server, monkeypatch):
    monkeypatch.setattr(arriving, "_IDLE_SECONDS", 5)
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 5)
    endpoint, store = server
    store.find("model", NAME).add_branch("slow", "main")
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    kept = [
        *[f"GET /{NAME}/resolve/main/model.safetensors HTTP/1.1\r\n{head}\r\n"] * 60,
        *[f"POST /api/models/{NAME}/commit/slow HTTP/1.1\r\n{head}Content-Length: 9999\r\n\r\n{{"] * 40,  # four at a time
    ]
    ended = [
        *[f"POST /api/repos/create HTTP/1.1\r\n{head}Content-Length: 9999\r\n\r\n{{"] * 40,
        *[f"POST /api/models/{NAME}/paths-info/main HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\n{{"] * 20,
        *["GET / HTTP/1.1\r\nHost:"] * 40,
    ]
    objects = [{"oid": hashlib.sha256(b"%d" % number).hexdigest(), "size": 9999} for number in range(30)]
    batch = {"operation": "upload", "objects": objects}
    for told in ask_with_token(endpoint, "POST", f"/{NAME}.git/info/lfs/objects/batch", batch).json()["objects"]:
        href = told["actions"]["upload"]["href"].removeprefix(endpoint)
        ended.append(f"PUT {href} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\nx")
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(stalled(endpoint, request.encode()))) for request in (*kept, *ended)]
        time.sleep(0.3)
        start = time.monotonic()
        for _ in range(5):
            assert ask(endpoint, "GET", f"/{NAME}/resolve/main/model.safetensors").content == WEIGHTS
            assert ask(endpoint, "GET", f"/api/models/{NAME}/tree/main?recursive=true").status == 200
            assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/tag/main", {"tag": f"t{_}"}).status == 200
        assert time.monotonic() - start < 10
        for connection in slow[len(kept) :]:
            assert received(connection) < 1000
        assert time.monotonic() - start < 20
    line = ("file", {"path": "after", "content": ""})
    assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/slow", commit_lines(line)).status == 200


HEAD = "Host: 127.0.0.1\r\n"
STOPPED_BODIES = [
    *(f"POST /api/models/{NAME}/paths-info/main HTTP/1.1\r\n{HEAD}Content-Length: 99\r\n\r\n{sent}" for sent in ("", '{"pa')),
    f"POST /api/models/{NAME}/paths-info/main HTTP/1.1\r\n{HEAD}Content-Length: 99\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n\r\npaths=a",
    f"POST /api/validate-yaml HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\n{{",
    *(
        f"POST {path} HTTP/1.1\r\n{HEAD}Authorization: Bearer {TOKEN}\r\nContent-Length: 99\r\n\r\n{{"
        for path in ("/api/repos/create", f"/api/models/{NAME}/preupload/main", f"/api/models/{NAME}/commit/idle")
    ),
]


@pytest.mark.parametrize("request_text", STOPPED_BODIES)
def test_a_body_that_stops_coming_is_given_up_and_its_connection_ended(server, monkeypatch, request_text):
    monkeypatch.setattr(arriving, "_IDLE_SECONDS", 0.2)
    endpoint, store = server
    if "idle" not in store.find("model", NAME).refs.branches:
        store.find("model", NAME).add_branch("idle", "main")
    answered = raw(endpoint, request_text.encode())
    assert answered.startswith(b"HTTP/1.1 408") and b"nothing has come" in answered


def test_a_body_that_comes_slowly_is_taken(server, monkeypatch):
    monkeypatch.setattr(arriving, "_IDLE_SECONDS", 1)
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 1)
    body = b'{"paths": ["deep"]}'
    head = f"POST /api/models/{NAME}/paths-info/main HTTP/1.1\r\n{HEAD}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    with closing(stalled(server[0], head.encode())) as connection:
        for end in range(len(body)):
            connection.sendall(body[end : end + 1])
            time.sleep(0.1)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")


STOPPED_HEADS = [
    "",
    "G",
    "GET / HTTP/1.1\r\nHost:",
    f"GET / HTTP/1.1\r\n{HEAD}",
    f"GET /none HTTP/1.1\r\n{HEAD}\r\nGET / HTTP/1.1\r\nHost:",
    f"POST /none HTTP/1.1\r\n{HEAD}Content-Length: 9999\r\n\r\n",
]


@pytest.mark.parametrize("request_text", STOPPED_HEADS)
def test_a_connection_is_ended_where_a_whole_head_does_not_come_however_its_bytes_drip(server, monkeypatch, request_text):
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.5)
    with closing(stalled(server[0], request_text.encode())) as connection:
        start = time.monotonic()
        assert "none" not in request_text or connection.recv(1 << 16).startswith(b"HTTP/1.1 404")
        for _ in range(50):
            time.sleep(0.1)
            try:
                connection.sendall(b"x" if request_text else b"")
            except OSError:
                break
            if not request_text and not connection.recv(1):
                break
        assert 0.4 < time.monotonic() - start < 4


def test_between_two_requests_a_connection_may_wait_longer_than_a_head_may_take(server, monkeypatch):
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.2)
    address = urlsplit(server[0])
    with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)) as connection:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("GET", f"/api/models/{NAME}/refs")
            assert connection.getresponse().read().startswith(b"{")
            time.sleep(0.5)
        assert connection.sock is first  # the client would have opened another


LONG_ANSWERS = [f"/{NAME}/resolve/main/model.safetensors", f"/api/models/{NAME}/commits/long"]


def add_long_answer(store: Store) -> None:
    """Have the server give an answer of a single piece, which it has ended long before it is sent."""
    repository = store.find("model", NAME)
    if "long" not in repository.refs.branches:
        repository.add_branch("long", "main")
        repository.push("long", [], Message("x", "y" * WEIGHTS_BYTES))


@pytest.mark.parametrize("asked", LONG_ANSWERS)
def test_an_answer_that_nobody_reads_is_cut_off(server, monkeypatch, asked):
    endpoint, store = server
    add_long_answer(store)
    request = f"GET {asked} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode()
    for seconds, whole in ((0.3, False), (10, True)):
        monkeypatch.setattr(connections, "_UNREAD_SECONDS", seconds)
        with closing(stalled(endpoint, request, 1 << 16)) as connection:
            time.sleep(1)
            assert (received(connection) > WEIGHTS_BYTES) is whole


@pytest.mark.parametrize("asked", LONG_ANSWERS)
def test_an_answer_that_is_read_slowly_comes_whole(server, monkeypatch, asked):
    monkeypatch.setattr(connections, "_UNREAD_SECONDS", 0.8)
    endpoint, store = server
    add_long_answer(store)
    request = f"GET {asked} HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n"
    with closing(stalled(endpoint, request.encode(), 1 << 16)) as connection:
        assert received(connection, at_a_time=WEIGHTS_BYTES // 16, wait_seconds=0.1) > WEIGHTS_BYTES


def test_however_little_of_an_answer_is_not_read_its_connection_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "_UNREAD_SECONDS", 1)
    with open_store(tmp_path, writable=True) as store, running(store) as (endpoint, server), ExitStack() as stack:
        file = store.blobs.add_small("model.safetensors", WEIGHTS)
        store.create("model", NAME).push("main", [Change("model.safetensors", file)], Message("files"))
        for last in range(1 << 15, 3 << 20, 1 << 15):  # of some, only a little is more than the system takes
            asked = f"GET /{NAME}/resolve/main/model.safetensors HTTP/1.1\r\n{HEAD}Range: bytes=0-{last}\r\n"
            stack.enter_context(closing(stalled(endpoint, f"{asked}Connection: close\r\n\r\n".encode())))
        kept = server.server_state.connections
        assert within(15, lambda: len(kept) > 10)
        assert within(15, lambda: not kept)


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Say whether something comes to hold within a time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def received(connection: socket.socket, at_a_time: int = 1 << 16, wait_seconds: float = 0) -> int:
    """How many bytes come before the connection ends, or is cut off."""
    count = 0
    try:
        while block := connection.recv(at_a_time, socket.MSG_WAITALL):
            count += len(block)
            time.sleep(wait_seconds)
    except ConnectionError:
        pass
    return count


def test_there_are_no_more_connections_than_a_limit_and_room_comes_again(server, monkeypatch):
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 2)
    monkeypatch.setattr(connections, "_MOST_CONNECTIONS", 8)
    endpoint, _ = server
    with ExitStack() as stack:
        held = [stack.enter_context(closing(stalled(endpoint, b"G"))) for _ in range(8)]
        turned_away = stack.enter_context(closing(stalled(endpoint, b"")))
        answered = turned_away.recv(1 << 16)
        assert answered.startswith(b"HTTP/1.1 503") and b"Retry-After" in answered
        assert turned_away.recv(1) == b""
        assert all(connection.recv(1) == b"" for connection in held)
        assert ask(endpoint, "GET", "/").status == 200


class Cutting:
    """Passes bytes on between a client and a server, and cuts the first answers off after so many bytes."""

    def __init__(self, endpoint: str, cut_after: list[int]) -> None:
        self._target = (urlsplit(endpoint).hostname, urlsplit(endpoint).port)
        self._cut_after, self.requests = cut_after, list[bytes]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> "Cutting":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            threads.append(threading.Thread(target=self._pass_on, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _pass_on(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(self._target) as server:
            while request := _receive(connection):
                self.requests.append(request)
                server.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                weights = b"GET" in request[:3] and b"model.safetensors" in request.split(b"\r\n")[0]
                left = self._cut_after.pop(0) if weights and self._cut_after else 1 << 40
                while left > 0 and (block := _receive(server)):
                    connection.sendall(block[:left])
                    left -= len(block)
                return


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 14)
    except OSError:
        return b""


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(server, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 18)
    huggingface_hub.close_session()
    with Cutting(server[0], [1 << 20, 1 << 20]) as proxy:
        got = client(proxy.endpoint, False).hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path)
        huggingface_hub.close_session()
    assert Path(got).read_bytes() == WEIGHTS
    ranges = [line for request in proxy.requests for line in request.lower().split(b"\r\n") if line.startswith(b"range:")]
    assert len(ranges) == 2 and ranges[0] != ranges[1]
