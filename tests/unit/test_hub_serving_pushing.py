"""Pushes of Hugging Face's own client to a served folder, in both of its ways, at once, and cut off."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi, constants
from huggingface_hub.errors import BadRequestError, EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
from serving_making import NAME, TOKEN, ask, ask_with_token, client, commit_lines, served_store

from treering.hub.pace import Pace
from treering.hub.plan import PlannedBranch, PlannedFile, PlannedRepository
from treering.hub.publishing import push
from treering.hub.remote import Remote
from treering.hub.serving.application import Limits
from treering.hub.serving.store import Store, open_store
from treering.provenance.digests import digest_bytes

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own, where it sends a file
INLINE = Limits()
LARGE = Limits(inline_bytes=1000)  # so that weights of some kilobytes come as large files do
CARD = b"---\nlicense: apache-2.0\n---\n# a card\n"


@pytest.fixture(autouse=True)
def _alone(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, Store]]:
    with served_store(tmp_path / "store") as served:
        yield served


@pytest.fixture(scope="module")
def strict(tmp_path_factory) -> Iterator[tuple[str, Store]]:
    """A store whose commits may bring little, with an empty repository that nothing is pushed to."""
    with served_store(tmp_path_factory.mktemp("strict"), Limits(inline_bytes=2000)) as (endpoint, store):
        store.create("model", NAME)
        yield endpoint, store


def files_of(step: int) -> dict[str, bytes]:
    return {
        "README.md": CARD,
        "config.json": b"{}",
        "model.safetensors": hashlib.sha256(b"%d" % step).digest() * 1000,
        "figures/loss.png": b"\x89PNG\0" * 20,
        "empty.bin": b"",
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read(api: HfApi, revision: str, folder: Path) -> dict[str, bytes]:
    downloaded = Path(api.snapshot_download(NAME, revision=revision, cache_dir=folder))
    paths = (path for path in downloaded.rglob("*") if path.is_file())
    found = {path.relative_to(downloaded).as_posix(): path.read_bytes() for path in paths}
    found.pop(".gitattributes")
    return found


@pytest.mark.parametrize(("limits", "no_xet"), [(INLINE, False), (INLINE, True), (LARGE, True)])
def test_a_release_pushed_branch_by_branch_comes_back_byte_for_byte(tmp_path, monkeypatch, limits, no_xet):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", no_xet)
    branches = {name: files_of(step) for step, name in enumerate(("step0", "step1", "seed1/step2"))}
    branches["main"] = branches["step1"]
    with served_store(tmp_path / "store", limits) as (endpoint, _):
        api = client(endpoint)
        assert api.create_repo(NAME).repo_id == NAME
        first = api.list_repo_commits(NAME)[-1].commit_id
        for name, files in branches.items():
            api.create_branch(NAME, branch=name, revision=first, exist_ok=True)
            folder = write(tmp_path / "files" / name, files)
            api.upload_folder(repo_id=NAME, folder_path=folder, revision=name, commit_message=name)
        found = {branch.name: branch.target_commit for branch in api.list_repo_refs(NAME).branches}
        assert found.keys() == branches.keys()
        for name, files in branches.items():
            assert read(api, name, tmp_path / "cache") == files
            assert not api.verify_repo_checksums(NAME, revision=name, cache_dir=tmp_path / "cache").mismatches
        listed = {entry.path: entry for entry in api.list_repo_tree(NAME, revision="step0", recursive=True)}
        assert listed["model.safetensors"].lfs.sha256 == hashlib.sha256(files_of(0)["model.safetensors"]).hexdigest()
        assert listed["config.json"].lfs is None
        assert len(list((tmp_path / "store" / "blobs").rglob("*/*"))) == 8


def test_equal_pushes_have_equal_commits_whichever_way_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    commits = []
    for limits in (INLINE, LARGE):
        with served_store(tmp_path / str(limits.inline_bytes), limits) as (endpoint, _):
            api = client(endpoint)
            api.create_repo(NAME)
            operations = [CommitOperationAdd(path, content) for path, content in files_of(0).items()]
            commits.append(api.create_commit(NAME, operations, commit_message="step0").oid)
    assert commits[0] == commits[1]


@pytest.mark.parametrize("limits", [INLINE, LARGE])
def test_what_is_there_already_is_not_sent_again(tmp_path, monkeypatch, limits):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with served_store(tmp_path / "store", limits) as (endpoint, store):
        api = client(endpoint)
        api.create_repo(NAME)
        folder = write(tmp_path / "files", files_of(0))
        before = api.upload_folder(repo_id=NAME, folder_path=folder)
        assert api.upload_folder(repo_id=NAME, folder_path=folder).oid == before.oid
        repository = store.find("model", NAME)
        assert len(api.list_repo_commits(NAME)) == 2
        (folder / "model.safetensors").write_bytes(files_of(1)["model.safetensors"])  # as long as before
        api.upload_folder(repo_id=NAME, folder_path=folder)
        assert repository.refs.branches["main"] != before.oid


def test_a_published_release_is_what_was_planned(server):
    endpoint, _ = server
    branches = [
        PlannedBranch(
            name, {path: PlannedFile(content, len(content), digest_bytes(content)) for path, content in files_of(step).items()}
        )
        for step, name in enumerate(("step0", "step1", "main"))
    ]
    planned = PlannedRepository(NAME, "model", tuple(branches))
    remote = Remote(NAME, "model", endpoint, TOKEN, Pace(None))
    published = push(planned, remote, ["v1"])
    assert published.pushed == 3
    assert client(endpoint).list_repo_refs(NAME).tags[0].target_commit == published.commits["main"]
    again = push(planned, remote, ["v1"])
    assert (again.pushed, again.commits) == (0, published.commits)


def test_files_are_put_copied_and_deleted_in_one_commit(server):
    api = client(server[0])
    api.create_repo(NAME)
    api.create_commit(NAME, [CommitOperationAdd(path, content) for path, content in files_of(0).items()], commit_message="all")
    operations = [
        CommitOperationCopy("model.safetensors", "old/model.safetensors"),
        CommitOperationDelete("figures/", is_folder=True),
        CommitOperationDelete("config.json"),
        CommitOperationAdd("model.safetensors", b"new"),
    ]
    commit = api.create_commit(NAME, operations, commit_message="changes", commit_description="all of them")
    paths = set(api.list_repo_files(NAME, revision=commit.oid))
    assert paths == {".gitattributes", "README.md", "empty.bin", "model.safetensors", "old/model.safetensors"}
    history = api.list_repo_commits(NAME)
    assert [(one.title, one.message) for one in history][:2] == [("changes", "all of them"), ("all", "")]
    with pytest.raises(EntryNotFoundError):
        api.delete_file("none", NAME)


def test_repositories_branches_and_tags_are_made_and_taken_away(server):
    endpoint, store = server
    api = client(endpoint)
    api.create_repo(NAME)
    assert api.create_repo(NAME, exist_ok=True).repo_id == NAME
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(NAME)
    api.create_repo(NAME, repo_type="dataset")
    api.create_branch(NAME, branch="step0")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_branch(NAME, branch="step0")
    with pytest.raises(BadRequestError):
        api.create_branch(NAME, branch="refs/pr/5")
    with pytest.raises(HfHubHTTPError, match="404"):
        api.create_branch(NAME, branch="step1", revision="none")
    api.create_tag(NAME, tag="v1", revision="step0")
    assert api.model_info(NAME, revision="v1").sha == api.model_info(NAME, revision="step0").sha
    api.delete_tag(NAME, tag="v1")
    api.delete_branch(NAME, branch="step0")
    with pytest.raises(HfHubHTTPError, match="cannot be deleted"):
        api.delete_branch(NAME, branch="main")
    assert [branch.name for branch in api.list_repo_refs(NAME).branches] == ["main"]
    api.delete_repo(NAME)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(NAME)
    api.delete_repo(NAME, missing_ok=True)
    assert list(store.repositories) == [("dataset", NAME)]
    with pytest.raises(BadRequestError, match="type"):
        api.create_repo("acme/space", repo_type="space", space_sdk="static")
    assert api.whoami()["name"] == "local"
    with pytest.raises(BadRequestError, match="no pull requests"):
        client(endpoint).upload_file(path_or_fileobj=b"", path_in_repo="a", repo_id=NAME, repo_type="dataset", create_pr=True)


def test_a_cards_metadata_are_looked_at_before_anything_is_sent(server):
    api = client(server[0])
    api.create_repo(NAME)
    with pytest.raises(ValueError, match="line 2"):
        api.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id=NAME)
    with pytest.warns(UserWarning, match="no metadata"):
        api.upload_file(path_or_fileobj=b"# a card", path_in_repo="README.md", repo_id=NAME)
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=NAME)
    assert api.model_info(NAME).card_data.license == "apache-2.0"


@pytest.mark.parametrize("token", ["wrong", False, TOKEN + "x", "ä"])
def test_who_has_not_the_token_changes_nothing(server, token):
    endpoint, store = server
    client(endpoint).create_repo(NAME)
    before = store.find("model", NAME).refs
    api = client(endpoint, token)
    for change in (
        lambda: api.create_repo("acme/other"),
        lambda: api.delete_repo(NAME),
        lambda: api.create_branch(NAME, branch="new"),
        lambda: api.create_tag(NAME, tag="new"),
        lambda: api.upload_file(path_or_fileobj=b"x", path_in_repo="x", repo_id=NAME),
    ):
        with pytest.raises((HfHubHTTPError, UnicodeError), match=r"401|ascii") as caught:
            change()
        assert not isinstance(caught.value, RepositoryNotFoundError)
    assert (list(store.repositories), store.find("model", NAME).refs) == ([("model", NAME)], before)
    assert client(endpoint, token=False).model_info(NAME).id == NAME


@pytest.mark.parametrize(
    "authorization", [TOKEN, f"bearer {TOKEN}", f"Bearer  {TOKEN}", f"Basic {TOKEN}", "Bearer ", f"Bearer {TOKEN} "[::-1]]
)
def test_only_the_whole_token_counts(server, authorization):
    answer = ask(server[0], "POST", "/api/repos/create", b'{"name": "a"}', Authorization=authorization)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_a_second_push_onto_the_same_commit_is_refused(server):
    api = client(server[0])
    api.create_repo(NAME)
    parent = api.model_info(NAME).sha
    first = api.create_commit(NAME, [CommitOperationAdd("a", b"1")], commit_message="a", parent_commit=parent)
    with pytest.raises(HfHubHTTPError, match="412") as caught:
        api.create_commit(NAME, [CommitOperationAdd("b", b"2")], commit_message="b", parent_commit=parent[:7])
    assert "A commit has happened since" in str(caught.value)
    assert api.model_info(NAME).sha == first.oid
    api.create_commit(NAME, [CommitOperationAdd("b", b"2")], commit_message="b", parent_commit=first.oid)
    assert {"a", "b"} <= set(api.list_repo_files(NAME))


def test_of_pushes_at_once_onto_one_commit_one_is_made_whole(server):
    endpoint, store = server
    api = client(endpoint)
    api.create_repo(NAME)
    parent = api.model_info(NAME).sha

    def attempt(number: int) -> str | int:
        operations = [CommitOperationAdd(f"{part}.txt", b"of %d" % number) for part in "abcdef"]
        try:
            return api.create_commit(NAME, operations, commit_message=f"{number}", parent_commit=parent).oid
        except HfHubHTTPError as error:
            return error.response.status_code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(attempt, range(8)))
    made = [result for result in results if isinstance(result, str)]
    assert len(made) == 1 and sorted(map(str, results))[:7] == ["412"] * 7
    assert api.model_info(NAME).sha == made[0]
    repository = store.find("model", NAME)
    commit = repository.commit(made[0])
    assert commit is not None and commit.parent == parent
    contents = {repository.content(commit.files[f"{part}.txt"]).read_bytes() for part in "abcdef"}
    assert contents == {b"of %d" % results.index(made[0])}


def test_pushes_at_once_that_name_no_parent_all_arrive(server):
    api = client(server[0])
    api.create_repo(NAME)

    def attempt(number: int) -> None:
        api.create_commit(NAME, [CommitOperationAdd(f"{number}.bin", b"%d" % number)], commit_message=f"{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attempt, range(16)))
    assert {f"{number}.bin" for number in range(16)} <= set(api.list_repo_files(NAME))
    assert len(api.list_repo_commits(NAME)) == 17


def test_readers_see_every_push_whole_or_not_at_all(server):
    endpoint, _ = server
    api = client(endpoint)
    api.create_repo(NAME)
    seen, done = set[frozenset[str]](), threading.Event()

    def look() -> None:
        while not done.is_set():
            listed = ask(endpoint, "GET", f"/api/models/{NAME}/tree/main").json()
            seen.add(frozenset(entry["oid"] for entry in listed if entry["path"] != ".gitattributes"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for number in range(12):
            operations = [CommitOperationAdd(f"{part}.txt", b"%d" % number) for part in "abcdef"]
            api.create_commit(NAME, operations, commit_message=f"{number}")
    finally:
        done.set()
        thread.join()
    assert len(seen) > 2 and {len(oids) for oids in seen} <= {0, 1}  # all six files of a push are equal


_SERVER = """
import sys, time
from pathlib import Path
from serving_making import *
from treering.hub.serving.stored import StoredRepository
from treering.provenance import files
import treering.hub.serving.stored as stored

with served_store(Path(sys.argv[1])) as (endpoint, store):
    if sys.argv[2] == "stall":
        def stalled(*arguments):
            print("moving", flush=True)
            time.sleep(600)
        stored._write_refs = stalled
    print(endpoint, flush=True)
    time.sleep(600)
"""


def start(folder: Path, how: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, which can be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_a_server_killed_just_before_the_branch_moves_shows_the_old_state(tmp_path):
    with served_store(tmp_path) as (endpoint, _):
        api = client(endpoint)
        api.create_repo(NAME)
        before = api.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=NAME).oid
    process, endpoint = start(tmp_path, "stall")
    try:
        body = commit_lines(("file", {"path": "a.txt", "content": "Mg=="}), ("file", {"path": "b.txt", "content": "Mg=="}))
        pool = ThreadPoolExecutor(1)
        pushing = pool.submit(ask_with_token, endpoint, "POST", f"/api/models/{NAME}/commit/main", body)
        assert process.stdout is not None and process.stdout.readline() == "moving\n"
        shown = ask(endpoint, "GET", f"/api/models/{NAME}").json()
        assert (shown["sha"], [one["rfilename"] for one in shown["siblings"]]) == (before, [".gitattributes", "a.txt"])
    finally:
        kill(process)
    with pytest.raises(OSError):
        pushing.result(timeout=30)
    pool.shutdown()
    with served_store(tmp_path) as (endpoint, _):
        assert client(endpoint).model_info(NAME).sha == before
        assert ask(endpoint, "GET", f"/{NAME}/resolve/main/a.txt").content == b"1"
        assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", body).status == 200
        assert ask(endpoint, "GET", f"/{NAME}/resolve/main/b.txt").content == b"2"


def test_a_server_killed_again_and_again_loses_nothing_that_was_answered(tmp_path):
    with open_store(tmp_path, writable=True) as store:
        store.create("model", NAME)
    answered: list[str] = []
    for attempt in range(3):
        process, endpoint = start(tmp_path, "plain")
        timer = threading.Timer(0.15 + 0.1 * attempt, process.kill)
        timer.start()
        try:
            for number in range(10_000):
                content = {"path": f"{attempt}-{number}.bin", "content": "Mg=="}
                answer = ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", commit_lines(("file", content)))
                answered.append(answer.json()["commitOid"])
        except OSError:
            pass
        finally:
            timer.cancel()
            kill(process)
        with open_store(tmp_path, writable=True) as store:
            repository = store.find("model", NAME)
            commit = repository.commit(repository.refs.branches["main"])
            history = []
            while commit is not None:
                assert all(repository.content(file).stat().st_size == file.size_bytes for file in commit.files.values())
                history.append(commit.id)
                commit = None if commit.parent is None else repository.commit(commit.parent)
            assert set(answered) <= set(history)
            assert len(history) <= len(answered) + 2 + attempt  # one more of each attempt, whose answer was lost
    assert answered


def test_an_upload_that_is_cut_off_leaves_nothing_and_can_be_repeated(tmp_path):
    with served_store(tmp_path, LARGE) as (endpoint, store):
        store.create("model", NAME)
        content = b"x" * 200_000
        sha256 = hashlib.sha256(content).hexdigest()
        batch = {"operation": "upload", "objects": [{"oid": sha256, "size": len(content)}]}
        told = ask_with_token(endpoint, "POST", f"/{NAME}.git/info/lfs/objects/batch", batch).json()
        href = told["objects"][0]["actions"]["upload"]["href"].removeprefix(endpoint)
        with pytest.raises(OSError):
            _cut_off(endpoint, href, content)
        assert wait_until(lambda: not list((tmp_path / "incoming").glob(".*")))
        assert store.blobs.size(sha256) is None
        line = ("lfsFile", {"path": "a.bin", "oid": sha256, "size": len(content)})
        refused = ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", commit_lines(line))
        assert (refused.status, "not been uploaded" in refused.json()["error"]) == (400, True)
        assert ask_with_token(endpoint, "POST", "/api/lfs/verify", {"oid": sha256, "size": len(content)}).status == 404
        assert ask(endpoint, "PUT", href, content).status == 200
        assert ask_with_token(endpoint, "POST", "/api/lfs/verify", {"oid": sha256, "size": len(content)}).status == 200
        assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", commit_lines(line)).status == 200
        assert ask(endpoint, "GET", f"/{NAME}/resolve/main/a.bin").content == content
        again = ask_with_token(endpoint, "POST", f"/{NAME}.git/info/lfs/objects/batch", batch).json()
        assert "actions" not in again["objects"][0]


def _cut_off(endpoint: str, href: str, content: bytes) -> None:
    """Announce all of a content, send half of it, and hang up."""

    def half() -> Iterator[bytes]:
        yield content[: len(content) // 2]
        time.sleep(0.2)
        raise ConnectionResetError

    ask(endpoint, "PUT", href, half(), Content_Length=str(len(content)))  # type: ignore[arg-type]


def wait_until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def test_an_upload_goes_only_where_it_was_told_to_and_is_what_it_said(tmp_path):
    with served_store(tmp_path, Limits(file_bytes=1000)) as (endpoint, store):
        store.create("model", NAME)
        sha256, other = hashlib.sha256(b"content").hexdigest(), hashlib.sha256(b"another").hexdigest()
        objects = [{"oid": sha256, "size": 7}, {"oid": other, "size": 1001}]
        body = {"operation": "upload", "objects": objects}
        told = ask_with_token(endpoint, "POST", f"/datasets/{NAME}.git/info/lfs/objects/batch", body)
        assert told.status == 404
        told = ask_with_token(endpoint, "POST", f"/{NAME}.git/info/lfs/objects/batch", body)
        assert "too long" in told.json()["objects"][1]["error"]["message"]
        href = told.json()["objects"][0]["actions"]["upload"]["href"].removeprefix(endpoint)
        for wrong in (
            href.replace(sha256, other),
            href.replace("/7?", "/8?"),
            href.partition("?")[0],
            href[:-1] + ("0" if href[-1] != "0" else "1"),
            href.replace("/7?", "/x?"),
            f"/api/lfs/..%2f..%2fx/7?permit={href[-64:]}",
        ):
            assert ask(endpoint, "PUT", wrong, b"content").status == 403
        assert ask(endpoint, "PUT", href, b"another").status == 400
        assert ask(endpoint, "PUT", href, b"content and more").status == 413
        assert ask(endpoint, "PUT", href, b"cont").status == 400
        assert [path for path in tmp_path.rglob("*") if path.is_file() and "content" in path.read_text("latin-1")] == []
        assert ask(endpoint, "PUT", href, b"content").status == 200
        for odd in ({"operation": "download", "objects": objects}, {**body, "hash_algo": "sha1"}):
            assert ask_with_token(endpoint, "POST", f"/{NAME}.git/info/lfs/objects/batch", odd).status == 422


def test_what_needs_xet_is_told_how_to_do_without(server):
    client(server[0]).create_repo(NAME)
    answer = ask_with_token(server[0], "GET", f"/api/models/{NAME}/xet-write-token/main")
    assert (answer.status, "HF_HUB_DISABLE_XET=1" in answer.json()["error"]) == (404, True)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"", 400),
        (b"not JSON\n", 400),
        (b"\xff\xfe\n", 400),
        (b"[" * 10_000 + b"\n", 400),
        (b'{"key": "other", "value": {}}\n', 400),
        (b'{"key": "header", "value": {"summary": ""}}\n', 400),
        (b'{"key": "header", "value": {"summary": "\\ud800"}}\n', 400),
        (commit_lines(("file", {"path": "a", "content": "&&&"})), 400),
        (commit_lines(("file", {"path": "a", "content": "ä"})), 400),
        (commit_lines(("file", {"path": "a", "content": "", "encoding": "utf-8"})), 400),
        (commit_lines(("lfsFile", {"path": "a", "oid": "a" * 64, "size": 1})), 400),
        (commit_lines(("lfsFile", {"path": "a", "oid": "../" * 20, "size": 1})), 400),
        (commit_lines(("file", {"path": "a", "content": ""}), ("file", {"path": "a/b", "content": ""})), 400),
        (commit_lines(("deletedFile", {"path": "none"})), 404),
        (commit_lines(("deletedFolder", {"path": "none/"})), 404),
        (commit_lines(("file", {"path": "a", "content": "QUFB" * 1000})), 413),
        (commit_lines(("file", {"path": "a", "content": "Q" * 200_000})), 413),
        (commit_lines(("file", {"path": "a", "content": ""}), parentCommit="zzz"), 400),
        (commit_lines(("file", {"path": "a", "content": ""}), parentCommit="0" * 40), 412),
        *(
            (commit_lines(("file", {"path": path, "content": ""})), 400)
            for path in ("../a", "/a", "a\\b", "a\0b", "a//b", ".git/x")
        ),
    ],
)
def test_a_commit_that_is_none_changes_nothing(strict, lines, status):
    endpoint, store = strict
    before = store.find("model", NAME).refs
    answer = ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/main", lines)
    assert (answer.status, bool(answer.json()["error"])) == (status, True)
    assert store.find("model", NAME).refs == before


def test_a_commit_may_come_in_pieces_of_any_size(server):
    endpoint, store = server
    store.create("model", NAME)
    lines = commit_lines(("file", {"path": "größer.txt", "content": "Mg=="}), ("file", {"path": "b", "content": ""}))

    def trickle() -> Iterator[bytes]:
        for start in range(0, len(lines), 7):
            yield lines[start : start + 7]

    answer = ask(endpoint, "POST", f"/api/models/{NAME}/commit/main", trickle(), Authorization=f"Bearer {TOKEN}")  # type: ignore[arg-type]
    assert answer.status == 200
    assert ask(endpoint, "GET", f"/{NAME}/resolve/main/gr%C3%B6%C3%9Fer.txt").content == b"2"
    assert json.loads(json.dumps(answer.json()))["commitOid"] == store.find("model", NAME).refs.branches["main"]
    assert ask_with_token(endpoint, "POST", f"/api/models/{NAME}/commit/none", lines).status == 404
