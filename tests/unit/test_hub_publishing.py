"""Publishing with Hugging Face's own client to a server of this machine: complete, repeatable, read back."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import RepoCard, snapshot_download
from huggingface_hub.hf_api import RepoFile
from publishing_making import small
from serving_making import NAME, TOKEN, client, lay_out_release, served_store

from treering.config.run_directory import RunDirectory
from treering.errors import EnvironmentMismatch, InputError, ManifestError, PublishError
from treering.hub.pace import Pace
from treering.hub.plan import PlannedRepository, plan_release
from treering.hub.publishing import push, read_back
from treering.hub.remote import Remote, open_remote, open_to_read
from treering.hub.serving.application import Limits, Pushing, make_application
from treering.hub.serving.server import endpoint_of, listening, make_server
from treering.hub.serving.store import Store, open_store


@dataclass
class Hub:
    """A server to push to, and what it keeps."""

    endpoint: str
    store: Store

    def remote(self, planned: PlannedRepository, pace: Pace | None = None) -> Remote:
        return Remote(planned.name, planned.kind, self.endpoint, TOKEN, pace or Pace(None))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A release laid out; not to be changed."""
    quickstart = (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text("utf-8")
    return lay_out_release(tmp_path_factory.mktemp("release") / "run", quickstart)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with served_store(tmp_path / "store") as (endpoint, store):
        yield Hub(endpoint, store)


@pytest.fixture
def model(run: RunDirectory) -> PlannedRepository:
    [planned] = plan_release(run, NAME, data=False, texts=False, moments=False)
    return planned


def test_every_branch_holds_its_files_and_downloads_to_the_same_bytes(
    model: PlannedRepository, hub: Hub, tmp_path: Path
) -> None:
    found = push(model, hub.remote(model), ("release-0123456789ab",))
    assert found.pushed == len(model.branches)
    refs = client(hub.endpoint).list_repo_refs(NAME)
    assert {branch.name for branch in refs.branches} == {branch.name for branch in model.branches}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("release-0123456789ab", found.commits["main"])]
    for branch in (model.branches[0], model.branches[-1]):
        folder = Path(
            snapshot_download(NAME, revision=branch.name, endpoint=hub.endpoint, token=TOKEN, cache_dir=tmp_path / "cache")
        )
        there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        there.pop(".gitattributes", None)
        assert there == {path: file.read() for path, file in branch.files.items()}


def test_a_second_push_sends_nothing(model: PlannedRepository, hub: Hub) -> None:
    first = push(model, hub.remote(model))
    second = push(model, hub.remote(model))
    assert (second.pushed, second.commits) == (0, first.commits)


def test_what_changed_is_sent_and_what_is_no_more_is_removed(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path / "one", step0={"a.json": b"1", "old.json": b"2"}, main={"a.json": b"3"})
    push(planned, hub.remote(planned))
    changed = small(tmp_path / "two", step0={"a.json": b"4"}, main={"a.json": b"3"})
    assert push(changed, hub.remote(changed)).pushed == 1
    listed = client(hub.endpoint).list_repo_files("acme/small", revision="step0")
    assert [name for name in listed if name != ".gitattributes"] == ["a.json"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda api: api.delete_branch("acme/small", branch="step0"), r"step0: there is no such branch"),
        (
            lambda api: api.upload_file(path_or_fileobj=b"9", path_in_repo="a.json", repo_id="acme/small", revision="step0"),
            r"step0: a\.json is another file",
        ),
        (lambda api: api.delete_file("b.safetensors", "acme/small", revision="step0"), r"step0: b\.safetensors is missing"),
        (
            lambda api: api.upload_file(path_or_fileobj=b"9", path_in_repo="c.json", repo_id="acme/small"),
            r"main: c\.json is no file of the release",
        ),
    ],
    ids=["branch", "changed", "missing", "too many"],
)
def test_reading_back_names_branch_and_file(hub: Hub, tmp_path: Path, change: Any, problem: str) -> None:
    planned = small(
        tmp_path, step0={"a.json": b"1", "b.safetensors": b"2" * 5000}, main={"a.json": b"3", "items.parquet": b"4"}
    )
    push(planned, hub.remote(planned))
    change(client(hub.endpoint))
    with pytest.raises(PublishError, match=problem):
        read_back(planned, hub.remote(planned))
    push(planned, hub.remote(planned))  # mends it


def test_a_push_that_was_killed_goes_on(hub: Hub, tmp_path: Path) -> None:
    branches = {f"step{step}": {"model.safetensors": bytes([step]) * 4000, "config.json": b"{}"} for step in range(12)}
    planned = small(tmp_path / "files", **branches, main={"a.json": b"1"})
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from publishing_making import planned_folder
from treering.hub.plan import PlannedRepository
from treering.hub.publishing import push
from treering.hub.pace import Pace
from treering.hub.remote import Remote
root = Path({str(tmp_path / "files")!r})
names = [*(f"step{{step}}" for step in range(12)), "main"]
branches = tuple(planned_folder(root / name, name) for name in names)
print("begun", flush=True)
push(PlannedRepository("acme/small", "model", branches), Remote("acme/small", "model", {hub.endpoint!r}, {TOKEN!r}, Pace(None)))
"""
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        try:
            child.wait(0.15)
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
        child.stdout.close()
    push(planned, hub.remote(planned))
    read_back(planned, hub.remote(planned))
    for name in branches:
        commits = client(hub.endpoint).list_repo_commits("acme/small", revision=name)
        assert len(commits) == 2  # the repository's first, and the one of this branch


def test_a_branch_that_somebody_else_moves_is_an_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = small(tmp_path, main={"a.json": b"1"})
    remote, commit = hub.remote(planned), Remote.commit

    def after_another(self: Remote, *given: Any) -> bool:
        client(hub.endpoint).upload_file(path_or_fileobj=b"x", path_in_repo="x.json", repo_id="acme/small")
        return commit(self, *given)

    monkeypatch.setattr(Remote, "commit", after_another)
    with pytest.raises(PublishError, match="changed by somebody else"):
        push(planned, remote)


class Flaky:
    """A server that is busy some times, or whose answers to commits are lost."""

    def __init__(self, application: Any, statuses: list[int], *, lost: bool = False, seconds: int | None = 7) -> None:
        self.application, self.statuses, self.lost, self.seconds = application, statuses, lost, seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_commit = scope["type"] == "http" and "/commit/" in scope["path"]
        if is_commit and self.statuses:
            told = [] if self.seconds is None else [(b"retry-after", str(self.seconds).encode())]
            headers = [*told, (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": self.statuses.pop(0), "headers": headers})
            await send({"type": "http.response.body", "body": b""})
        elif is_commit and self.lost:
            self.lost = False
            await self.application(scope, receive, _nowhere)  # the commit is made; uvicorn then cuts the line
        else:
            await self.application(scope, receive, send)


async def _nowhere(message: Any) -> None:
    pass


@contextmanager
def flaky(tmp_path: Path, statuses: list[int], *, lost: bool = False, seconds: int | None = 7) -> Iterator[str]:
    with open_store(tmp_path / "store", writable=True) as store, listening("127.0.0.1", 0) as listener:
        application = Flaky(make_application(store, Pushing(store, TOKEN, Limits())), statuses, lost=lost, seconds=seconds)
        server = make_server(application)  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.002)
            yield endpoint_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def test_a_busy_hub_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    planned = small(tmp_path / "files", step0={"a.json": b"1"}, main={"a.json": b"2"})
    waits: list[float] = []
    with flaky(tmp_path, [429, 503, 429]) as endpoint:
        remote = Remote(planned.name, "model", endpoint, TOKEN, Pace(None, sleep=waits.append))
        assert push(planned, remote).pushed == 2
    assert waits == [8.0, 8.0, 8.0]


def test_commits_refused_without_a_word_are_waited_for_until_the_hour_is_over(tmp_path: Path) -> None:
    planned = small(tmp_path / "files", main={"a.json": b"2"})
    waits, told = list[float](), list[str]()
    with flaky(tmp_path, [429] * 13, seconds=None) as endpoint:
        remote = Remote(planned.name, "model", endpoint, TOKEN, Pace(None, sleep=waits.append), tell=told.append)
        push(planned, remote)
    assert sum(waits) > 3600
    assert any("waiting 2048 s" in line for line in told)
    with flaky(tmp_path / "again", [429] * 40, seconds=None) as endpoint, pytest.raises(EnvironmentMismatch):
        push(planned, Remote(planned.name, "model", endpoint, TOKEN, Pace(None, sleep=lambda _: None)))


def test_a_busy_hub_that_answers_with_errors_is_given_up_after_some_attempts(tmp_path: Path) -> None:
    planned, waits = small(tmp_path / "files", main={"a.json": b"2"}), list[float]()
    with flaky(tmp_path, [503] * 40, seconds=None) as endpoint, pytest.raises(EnvironmentMismatch):
        push(planned, Remote(planned.name, "model", endpoint, TOKEN, Pace(None, sleep=waits.append)))
    assert len(waits) == 11


def test_a_commit_whose_answer_was_lost_counts(tmp_path: Path) -> None:
    planned = small(tmp_path / "files", main={"a.json": b"2"})
    with flaky(tmp_path, [], lost=True) as endpoint:
        remote = Remote(planned.name, "model", endpoint, TOKEN, Pace(None, sleep=lambda _: None))
        assert push(planned, remote).pushed == 1
        assert len(client(endpoint).list_repo_commits("acme/small")) == 2


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the client's own
def test_a_hub_without_xet_gets_large_files_the_plain_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    planned = small(tmp_path / "files", step0={"model.safetensors": b"1" * 5000}, main={"model.safetensors": b"1" * 5000})
    with served_store(tmp_path / "store", Limits(inline_bytes=10)) as (endpoint, _):
        push(planned, Remote(planned.name, "model", endpoint, TOKEN, Pace(None)))
        [file] = [entry for entry in client(endpoint).list_repo_tree("acme/small") if entry.path == "model.safetensors"]
        assert isinstance(file, RepoFile)
        assert file.lfs is not None
        assert file.lfs.sha256 == hashlib.sha256(b"1" * 5000).hexdigest()


def test_a_wrong_token_ends_with_what_to_do(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path, main={"a.json": b"1"})
    with pytest.raises(InputError, match="does not let you write"):
        push(planned, Remote(planned.name, planned.kind, hub.endpoint, "another", Pace(None)))


def test_an_address_named_by_hand_gets_no_token_but_its_own(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gets no token of another's"):
        open_remote("acme/small", "model", "http://127.0.0.1:9", None, Pace(None))
    (tmp_path / "token").write_text("its-own\n", encoding="utf-8")
    assert open_remote("acme/small", "model", "http://127.0.0.1:9", tmp_path / "token", Pace(None)).token == "its-own"
    with pytest.raises(InputError, match="there is no token"):
        open_remote("acme/small", "model", None, tmp_path / "absent", Pace(None))


def test_a_hub_that_is_not_there_is_said_after_some_attempts() -> None:
    waits: list[float] = []
    remote = Remote("acme/small", "model", "http://127.0.0.1:9", TOKEN, Pace(None, sleep=waits.append))
    with pytest.raises(EnvironmentMismatch, match="cannot be reached"):
        remote.branches()
    assert waits == [1.0, 2.0, 4.0]


def test_commits_beyond_what_a_hub_takes_wait_for_the_hour() -> None:
    now, waits = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    pace = Pace(3, sleep=sleep, clock=lambda: now[0])
    for _ in range(7):
        while seconds := pace.take():
            sleep(seconds)
        now[0] += 10
    assert waits == [3570.0, 3570.0]
    assert Pace(None).expected_seconds(500) == 0
    assert pace.expected_seconds(7) == 7200


def test_what_changes_after_it_was_planned_is_not_published(run: RunDirectory, hub: Hub, tmp_path: Path) -> None:
    for number, name in enumerate(("model.safetensors", "config.json")):
        copy = RunDirectory(tmp_path / str(number), run.recipe)
        shutil.copytree(run.path, copy.path)
        [planned] = plan_release(copy, f"acme/of{number}", data=False, texts=False, moments=False)
        path = copy.stage("revisions") / planned.branches[1].name / name
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises((PublishError, ManifestError), match=name):
            push(planned, hub.remote(planned))


def test_a_branch_of_a_step_that_was_not_planned_is_named(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path, step0={"a.json": b"1"}, main={"a.json": b"3"})
    push(planned, hub.remote(planned))
    client(hub.endpoint).create_branch("acme/small", branch="notes")
    read_back(planned, hub.remote(planned))  # whatever else somebody keeps there
    client(hub.endpoint).create_branch("acme/small", branch="step513")
    with pytest.raises(PublishError, match="step513 is no branch of the release"):
        read_back(planned, hub.remote(planned))


def test_a_tag_that_was_moved_is_named_and_put_back(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path, step0={"a.json": b"1"}, main={"a.json": b"3"})
    commits = push(planned, hub.remote(planned), ("release-0",)).commits
    read_back(planned, hub.remote(planned), ("release-0",))
    api = client(hub.endpoint)
    api.delete_tag("acme/small", tag="release-0")
    api.create_tag("acme/small", tag="release-0", revision=commits["step0"])
    with pytest.raises(PublishError, match="release-0 is not that of main"):
        read_back(planned, hub.remote(planned), ("release-0",))
    push(planned, hub.remote(planned), ("release-0",))
    read_back(planned, hub.remote(planned), ("release-0",))


def test_waiting_is_told_before_it_begins_and_not_for_what_is_there(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path, step0={"a.json": b"1"}, step1={"a.json": b"2"}, main={"a.json": b"3"})
    now, told = [0.0], list[str]()

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def remote() -> Remote:
        return Remote(planned.name, "model", hub.endpoint, TOKEN, Pace(1, sleep=sleep, clock=lambda: now[0]), tell=told.append)

    push(planned, remote())
    assert told[0] == "acme/small: 3 commits at 1 an hour, about 2 h"
    assert told[1:] == ["acme/small: so many commits an hour, waiting 3600 s"] * 2
    told.clear()
    push(planned, remote())
    assert told == []


@pytest.mark.parametrize("content", ["", "two words", "caf\u00e9"])
def test_what_is_no_token_is_refused_before_anything_is_asked(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="this is no token"):
        open_remote("acme/small", "model", "http://127.0.0.1:9", tmp_path / "token", Pace(None))


def test_reading_back_takes_no_token_and_an_endpoint_may_end_with_a_slash(hub: Hub, tmp_path: Path) -> None:
    planned = small(tmp_path, main={"a.json": b"3"})
    push(planned, hub.remote(planned))
    read_back(planned, open_to_read("acme/small", "model", f"{hub.endpoint}/", None, Pace(None)))


def test_companions_have_cards_that_lead_back_to_the_model(run: RunDirectory) -> None:
    data, checkpoints, _ = plan_release(run, NAME, data=True, texts=False, moments=True)
    for one in (data, checkpoints):
        card = one.branches[-1].files["README.md"].read().decode()
        assert f"[{NAME}](https://huggingface.co/{NAME})" in card
        assert "treering" in RepoCard(card).data.to_dict()["tags"]
    assert f"license: {run.recipe.card.license}" in data.branches[0].files["README.md"].read().decode()
    [texts, _] = plan_release(run, NAME, data=True, texts=True, moments=False)
    assert "treering prepare" in data.branches[0].files["README.md"].read().decode()
    assert "treering prepare" not in texts.branches[0].files["README.md"].read().decode()
    assert "license:" not in texts.branches[0].files["README.md"].read().decode()


def test_the_plan_has_what_is_asked_for(run: RunDirectory) -> None:
    names = [repository.name for repository in plan_release(run, NAME, data=True, texts=False, moments=False)]
    assert names == [f"{NAME}-data", NAME]  # what the card speaks of is there before it
    [data, _] = plan_release(run, NAME, data=True, texts=False, moments=False)
    [branch] = data.branches
    assert data.kind == "dataset"
    assert {"order/order.json", "corpus/corpus.json", "tokens/tokens.json"} <= set(branch.files)
    assert not [path for path in branch.files if path.endswith((".bin", ".idx")) or "train-" in path]


def test_a_dry_run_sends_nothing_and_tells_sizes(treering, run: RunDirectory) -> None:
    code, out, _ = treering("publish", run.path, "--dry-run", "--json")
    assert code == 0
    planned = json.loads(out)["repositories"]
    assert [one["repository"] for one in planned] == [f"{NAME}-data", NAME]
    assert planned[1]["branches"][-1]["name"] == "main"
    assert all(branch["size_bytes"] > 0 for one in planned for branch in one["branches"])
    code, out, _ = treering("publish", run.path, "--dry-run")
    assert "main" in out


def test_publish_and_verify_only_from_the_command_line(
    treering, run: RunDirectory, model: PlannedRepository, hub: Hub, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    where = ("--endpoint", hub.endpoint, "--token-file", tmp_path / "token")
    code, _, err = treering("publish", run.path, *where, "--verify-only")
    assert code in (1, 2)
    code, out, err = treering("publish", run.path, *where)
    assert (code, err) == (0, "")
    assert f"{NAME}: {len(model.branches)} branches read back, each file as it is here; {len(model.branches)} sent now" in out
    code, out, _ = treering("publish", run.path, *where, "--verify-only")
    assert code == 0
    client(hub.endpoint).delete_file("README.md", NAME)
    code, _, err = treering("publish", run.path, *where, "--verify-only")
    assert code == 1
    assert "main: README.md is missing" in err
