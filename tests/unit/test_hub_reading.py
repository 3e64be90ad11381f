"""Releases read with Hugging Face's own client from a Hub on this machine, and from folders."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
import pytest
import torch
from hub_making import Hub, serving
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from treering.errors import EnvironmentMismatch, InputError, StorageError, TreeringError
from treering.hub.reading import Release, ReleaseRevision, open_release
from treering.revisions.loading import load_model

NAME = "acme-lab/sapling"
CONFIG = json.dumps({"model_type": "gpt_neox"}).encode()
INDEX = "model.safetensors.index.json"


def model_files(step: int, **changes: bytes | None) -> dict[str, bytes]:
    """The files of a branch as releases have them, weights by way of a few bytes; None leaves one out."""
    files: dict[str, bytes | None] = {
        ".gitattributes": b"*.safetensors filter=lfs",
        "README.md": b"# a card",
        "config.json": CONFIG,
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b"{}",
        "model.safetensors": b"weights of step %d" % step,
        "pytorch_model.bin": b"a pickle",
        "modeling_sapling.py": b"raise SystemExit",
        "onnx/model.safetensors": b"the same once more",
        **{name.replace("__", "."): content for name, content in changes.items()},
    }
    return {name: content for name, content in files.items() if content is not None}


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # the client would ask another address what runs it
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    with serving() as served:
        yield served
    huggingface_hub.close_session()


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "home" / "of" / "one" / "user" / "cache"  # deep enough for a way out of it to be seen


def names(release: Release) -> list[str]:
    return [revision.name for revision in release.revisions]


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def refused(kind: type[TreeringError], *parts: str) -> Iterator[None]:
    """Expect exactly this kind of error, with all of these parts in its message and nothing that a terminal would obey."""
    with pytest.raises(TreeringError) as caught:
        yield
    assert type(caught.value) is kind
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    assert [part for part in parts if part not in str(caught.value)] == []


def test_revisions_are_the_branches_named_for_steps_in_the_order_of_the_training(hub, cache):
    commits = {name: hub.add(NAME, name, model_files(number)) for number, name in enumerate(("step10", "main", "step9", "dev"))}
    release = open_release(NAME, hub.endpoint, cache=cache)
    assert release.name == NAME
    assert release.revisions == tuple(
        ReleaseRevision(name, step, commits[name]) for name, step in (("step9", 9), ("step10", 10))
    )


def test_stages_come_one_after_the_other_and_branches_of_one_step_are_all_kept(hub, cache):
    expected = ["stage1-step5-tokens9B", "stage1-step70-tokens99B", "stage2-ingredient1-step5", "stage2-ingredient2-step5"]
    for name in reversed(expected):
        hub.add(NAME, name, model_files(0))
    release = open_release(NAME, hub.endpoint, cache=cache)
    assert names(release) == expected
    assert [revision.name for revision in release.select([5])] == [expected[0], *expected[2:]]
    assert [revision.name for revision in release.select("last")] == expected[3:]


def test_a_repository_without_steps_has_the_one_revision_main(hub, cache):
    commit = hub.add(NAME, "main", model_files(0))
    hub.add(NAME, "epoch-3", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    assert release.revisions == (ReleaseRevision("main", None, commit),)
    assert release.select("last") == release.select("all") == release.revisions
    assert names(open_release(NAME, hub.endpoint, r"epoch-(?P<step>\d+)", cache)) == ["epoch-3"]


def test_a_repository_with_neither_steps_nor_main_is_refused(hub, cache):
    hub.add(NAME, "epoch-3", model_files(1))
    with refused(InputError, "no branch is named for a step", NAME):
        open_release(NAME, hub.endpoint, cache=cache)


def test_only_what_loading_needs_is_downloaded(hub, cache):
    commit = hub.add(NAME, "step3", model_files(3, generation_config__json=b"{}", merges__txt=b"a b"))
    release = open_release(NAME, hub.endpoint, cache=cache)
    folder = release.folder_of(release.revisions[0])
    assert folder == cache / "models--acme-lab--sapling" / "snapshots" / commit
    assert tree(folder) == {
        *("config.json", "generation_config.json", "model.safetensors", "merges.txt"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    assert (folder / "model.safetensors").read_bytes() == b"weights of step 3"
    assert not any(hub.asked(part) for part in (".bin", ".py", "onnx", "README"))


def test_files_are_those_of_the_commit_that_was_listed_even_if_the_branch_moves_on(hub, cache):
    first = hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.add(NAME, "step3", model_files(4))
    assert (release.folder_of(release.revisions[0]) / "model.safetensors").read_bytes() == b"weights of step 3"
    assert hub.asked("/resolve/")
    assert all(f"/resolve/{first}/" in request for request in hub.asked("/resolve/"))
    moved = open_release(NAME, hub.endpoint, cache=cache)
    assert (moved.folder_of(moved.revisions[0]) / "model.safetensors").read_bytes() == b"weights of step 4"


def test_a_second_time_nothing_is_downloaded(hub, cache):
    hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint, cache=cache)
    folder = release.folder_of(release.revisions[0])
    hub.requests.clear()
    again = open_release(NAME, hub.endpoint, cache=cache)
    assert again.folder_of(again.revisions[0]) == folder
    assert hub.requests == [f"GET /api/models/{NAME}/refs"]


def test_files_are_kept_where_hugging_face_keeps_them(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint)
    assert release.folder_of(release.revisions[0]).is_relative_to(cache)


def test_files_that_two_revisions_share_are_downloaded_once(hub, cache):
    for step in (3, 4):
        hub.add(NAME, f"step{step}", model_files(step))
    release = open_release(NAME, hub.endpoint, cache=cache)
    for revision in release.revisions:
        release.folder_of(revision)
    gets = [request.rpartition("/")[2] for request in hub.asked("GET") if "/resolve/" in request]
    assert (gets.count("tokenizer.json"), gets.count("model.safetensors")) == (1, 2)


def test_sharded_weights_come_with_their_index(hub, cache):
    shards = {f"model-0000{part}-of-00002.safetensors": b"shard %d" % part for part in (1, 2)}
    index = json.dumps({"metadata": {}, "weight_map": dict(zip("ab", shards, strict=True))}).encode()
    hub.add(NAME, "step3", {**model_files(3, model__safetensors=None), INDEX: index, **shards})
    release = open_release(NAME, hub.endpoint, cache=cache)
    assert tree(release.folder_of(release.revisions[0])) >= {INDEX, *shards}


@pytest.mark.parametrize(
    "shard", ["model-00002-of-00002.safetensors", "../../model.safetensors", "onnx/model.safetensors", "pytorch_model.bin"]
)
def test_an_index_that_names_what_is_no_shard_of_the_revision_is_refused(hub, cache, shard):
    first = "model-00001-of-00002.safetensors"
    index = json.dumps({"weight_map": {"a": first, "b": shard}}).encode()
    hub.add(NAME, "step3", {**model_files(3, model__safetensors=None), INDEX: index, first: b"shard"})
    release = open_release(NAME, hub.endpoint, cache=cache)
    with refused(InputError, "names a shard that is not here", shard):
        release.folder_of(release.revisions[0])


@pytest.mark.parametrize("index", [b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}'])
def test_an_index_without_shards_is_refused(hub, cache, index):
    hub.add(NAME, "step3", {**model_files(3, model__safetensors=None), INDEX: index})
    release = open_release(NAME, hub.endpoint, cache=cache)
    with refused(InputError, "names a shard that is not here", "no shard"):
        release.folder_of(release.revisions[0])


def test_a_revision_of_pickles_alone_is_refused_and_none_is_downloaded(hub, cache):
    hub.add(NAME, "step3", model_files(3, model__safetensors=None))
    release = open_release(NAME, hub.endpoint, cache=cache)
    with refused(InputError, "pickles never are", f"{NAME}, step3", "model.safetensors"):
        release.folder_of(release.revisions[0])
    assert hub.asked("pytorch_model.bin") == []


@pytest.mark.parametrize("file", ["config__json", "tokenizer_config__json", "generation_config__json"])
def test_code_of_a_repository_is_refused_before_the_weights_are_downloaded(hub, cache, file):
    settings = json.dumps({"model_type": "sapling", "auto_map": {"AutoConfig": "modeling_sapling.Config"}}).encode()
    hub.add(NAME, "step3", model_files(3, **{file: settings}))
    release = open_release(NAME, hub.endpoint, cache=cache)
    with refused(InputError, "runs no code of a release", f"{NAME}, step3, {file.replace('__', '.')}", "modeling_sapling"):
        release.folder_of(release.revisions[0])
    assert not hub.asked("model.safetensors") and not hub.asked(".py")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (None, "no config.json"),
        (b"not JSON", "not a JSON document"),
        (b"[" * 200_000, "not a JSON document"),
        (b"[]", "not a JSON object"),
        (b'"auto_map"', "not a JSON object"),
    ],
)
def test_settings_that_are_none_are_refused(hub, cache, config, problem):
    hub.add(NAME, "step3", model_files(3, config__json=config))
    release = open_release(NAME, hub.endpoint, cache=cache)
    with refused(InputError, problem, f"{NAME}, step3"):
        release.folder_of(release.revisions[0])


def test_settings_too_long_to_be_settings_are_not_read(tmp_path):
    (tmp_path / "step0").mkdir()
    with (tmp_path / "step0" / "config.json").open("wb") as file:
        file.truncate(10**9)
    release = open_release(str(tmp_path))
    with refused(InputError, "too long", "1,000,000,000"):
        release.folder_of(release.revisions[0])


def test_no_file_is_written_where_a_hostile_name_points(hub, cache, tmp_path):
    hostile = ("../../evil.safetensors", "model-\\..\\..\\evil.safetensors", "a/../../../model.safetensors", "..")
    hub.add(NAME, "step3", model_files(3) | dict.fromkeys((*hostile, f"{tmp_path}/evil.safetensors"), b"evil"))
    release = open_release(NAME, hub.endpoint, cache=cache)
    folder = release.folder_of(release.revisions[0])
    assert tree(folder) == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert not hub.asked("evil")
    assert {path for path in tree(tmp_path) if not (tmp_path / path).is_relative_to(cache)} == set()
    assert b"evil" not in {(tmp_path / path).read_bytes() for path in tree(tmp_path)}


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    ("header", "value"), [("ETag", "../../../evil"), ("ETag", "{tmp_path}/evil"), ("X_Repo_Commit", "../../evil")]
)
def test_no_file_is_written_where_a_hostile_header_points(hub, cache, tmp_path, file, header, value):
    commit = hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hostile = value.format(tmp_path=tmp_path)
    headers = {"X_Repo_Commit": commit, "ETag": "a" * 40, header: hostile}
    hub.fail(f"HEAD /{NAME}/resolve/{commit}/{file}", 200, **headers)
    with refused(EnvironmentMismatch, "not a Hub's"):
        release.folder_of(release.revisions[0])
    assert not any("evil" in path.name for path in tmp_path.rglob("*"))


def test_no_file_is_made_where_a_missing_files_commit_points(hub, cache, tmp_path):
    hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.fail("HEAD", 404, X_Error_Code="EntryNotFound", X_Repo_Commit="../../../evil")
    with refused(EnvironmentMismatch, "not a Hub's"):
        release.folder_of(release.revisions[0])
    assert not any("evil" in path.name for path in tmp_path.rglob("*"))


def test_hostile_branches_are_no_revisions(hub, cache, tmp_path):
    for name in ("../../step1", "/step1", "step1\x1b[31m", "step" + "1" * 300):
        hub.add(NAME, name, model_files(0))
    hub.add(NAME, "step2", model_files(2))
    assert names(open_release(NAME, hub.endpoint, r"(?s).*step(?P<step>\d).*", cache)) == ["step2"]


@pytest.mark.parametrize("commit", ["main", "../../x", "ABCDEF" * 6 + "ABCD", "a" * 39, "\x1b[31m", 7, None])
def test_a_branch_that_points_to_no_commit_is_no_answer_of_a_hub(hub, cache, commit):
    hub.add(NAME, "step1", model_files(1))
    hub.branches[NAME]["step1"] = commit
    with refused(EnvironmentMismatch, "not a Hub's"):
        open_release(NAME, hub.endpoint, cache=cache)


def test_a_server_that_is_no_hub_is_told_from_one_that_cannot_be_reached(hub, cache):
    hub.fail("/refs", 200)
    with refused(EnvironmentMismatch, "not a Hub's", NAME, hub.endpoint):
        open_release(NAME, hub.endpoint, cache=cache)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with refused(EnvironmentMismatch, "cannot be reached", "run the same command again"):
        open_release(NAME, endpoint, cache=cache)


@pytest.mark.parametrize(
    ("status", "code", "kind", "problem"),
    [
        (404, "RepoNotFound", InputError, "no such repository on the Hub"),
        (401, "RepoNotFound", InputError, "no such repository on the Hub"),
        (403, "GatedRepo", InputError, "gated"),
        (401, "", InputError, "does not let you read this"),
        (403, "", InputError, "does not let you read this"),
        (429, "", EnvironmentMismatch, "too many requests"),
        (500, "", EnvironmentMismatch, "HTTP 500"),
        (404, "", EnvironmentMismatch, "HTTP 404"),
    ],
)
def test_what_the_hub_refuses_is_said_by_whose_it_is_to_mend(hub, cache, status, code, kind, problem):
    hub.add(NAME, "step1", model_files(1))
    hub.fail("/refs", status, X_Error_Code=code, X_Error_Message="\x1b[31mevil")
    with refused(kind, problem, NAME):
        open_release(NAME, hub.endpoint, cache=cache)


def test_a_missing_repository_is_the_users_to_mend(hub, cache):
    with refused(InputError, "no such folder here", "no such repository", NAME):
        open_release(NAME, hub.endpoint, cache=cache)


def test_a_gate_on_the_files_is_seen_though_the_branches_are_public(hub, cache):
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.fail("/resolve/", 403, X_Error_Code="GatedRepo", ETag='W/"2f-of/the+page"')
    with refused(InputError, "gated", "ask for access"):
        release.folder_of(release.revisions[0])


def test_a_commit_that_has_gone_is_said_to_have_gone(hub, cache):
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.commits.clear()
    with refused(InputError, "no longer has this commit"):
        release.folder_of(release.revisions[0])


@pytest.mark.parametrize("status", [429, 500])
def test_the_client_tries_again_where_the_hub_is_busy_for_a_moment(hub, cache, status):
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.fail("/tree/", status, times=1, Retry_After="0")
    assert (release.folder_of(release.revisions[0]) / "model.safetensors").is_file()
    assert len(hub.asked("/tree/")) == 2


def test_after_an_interruption_only_the_rest_is_downloaded(hub, cache):
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    hub.fail("model.safetensors", 410)
    with refused(EnvironmentMismatch, "HTTP 410"):
        release.folder_of(release.revisions[0])
    hub.failures.clear()
    hub.requests.clear()
    release.folder_of(release.revisions[0])
    assert {request.rpartition("/")[2] for request in hub.requests} == {"model.safetensors"}


def test_offline_the_hub_is_not_asked(hub, cache, monkeypatch):
    hub.add(NAME, "step1", model_files(1))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused(EnvironmentMismatch, "offline", "HF_HUB_OFFLINE"):
        open_release(NAME, hub.endpoint, cache=cache)
    assert hub.requests == []


def test_an_address_named_by_hand_gets_no_token_and_the_clients_own_does(hub, cache, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint, cache=cache)
    release.folder_of(release.revisions[0])
    assert hub.tokens == set()
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    open_release(NAME, cache=cache)
    assert hub.tokens == {"Bearer hf_secret"}


def test_a_cache_that_cannot_be_written_is_said_to_be_so(hub, tmp_path):
    hub.add(NAME, "step1", model_files(1))
    (tmp_path / "file").write_bytes(b"")
    release = open_release(NAME, hub.endpoint, cache=tmp_path / "file" / "cache")
    with refused(StorageError, "a file stands where a folder is needed"):
        release.folder_of(release.revisions[0])


@pytest.mark.parametrize(
    "name", ["acme--lab/sapling", "acme/..", "-acme/sapling", "acme/sapling.git", "acme/sap ling", "ac:me/x"]
)
def test_a_name_that_the_hub_allows_in_no_repository_is_refused_unasked(hub, cache, name):
    with refused(InputError, "no name of a repository", name):
        open_release(name, hub.endpoint, cache=cache)
    assert hub.requests == []


@pytest.mark.parametrize(
    "path", ["runs", "./runs/quickstart", "/no/such/folder", "runs/quickstart/revisions", "~/runs", "a/b/", ""]
)
def test_a_path_to_nothing_is_no_repository(hub, cache, path):
    with refused(InputError, "no such folder", "ORG/NAME"):
        open_release(path, hub.endpoint, cache=cache)
    assert hub.requests == []


@pytest.mark.parametrize("endpoint", ["127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://[::", "http://127.0.0.1:port", ""])
def test_an_endpoint_that_is_no_address_is_refused(cache, endpoint):
    with refused(InputError, "no address of a Hub"):
        open_release(NAME, endpoint, cache=cache)


def test_an_address_may_end_in_a_slash(hub, cache):
    hub.add(NAME, "step1", model_files(1))
    release = open_release(NAME, hub.endpoint + "/", cache=cache)
    assert (release.folder_of(release.revisions[0]) / "model.safetensors").is_file()


class Watched:
    """A Progress that keeps what it is told."""

    def __init__(self):
        self.told: dict[str, float] = {}

    @contextmanager
    def task(self, description, total=None, unit=""):
        self.description = f"{description} in {unit}"
        self.told[self.description] = 0
        yield self

    def advance(self, amount=1):
        self.told[self.description] += amount

    def note(self, text):
        pass


def test_bytes_that_arrive_are_told_and_nothing_is_printed(hub, cache, capfd):
    hub.add(NAME, "step3", model_files(3))
    release = open_release(NAME, hub.endpoint, cache=cache)
    watched = Watched()
    folder = release.folder_of(release.revisions[0], watched)
    size_bytes = sum((folder / name).stat().st_size for name in tree(folder))
    assert watched.told == {"download step3 in bytes": size_bytes}
    assert capfd.readouterr() == ("", "")


# Selecting


@pytest.fixture
def steps(tmp_path) -> Release:
    for step in (0, 1, 512, 1000):
        (tmp_path / "steps" / f"step{step}").mkdir(parents=True)
    return open_release(str(tmp_path / "steps"))


def test_revisions_are_selected_by_word_or_by_step(steps):
    assert [revision.step for revision in steps.select("all")] == [0, 1, 512, 1000]
    assert [revision.step for revision in steps.select("last")] == [1000]
    assert [revision.step for revision in steps.select([512, 0, 512])] == [0, 512]


def test_a_step_that_is_no_revision_is_refused_with_those_that_are(steps, tmp_path):
    with refused(InputError, "no revision of this step", "0, 1, 512, 1000", "found:    7"):
        steps.select([0, 7, 1, 8])
    for step in range(2000, 2100):
        (tmp_path / "steps" / f"step{step}").mkdir()
    with refused(InputError, "0, 1, 512, 1000, 2000", "… 2099 (104 steps)"):
        open_release(str(tmp_path / "steps")).select([7])


def test_where_only_main_is_there_no_step_can_be_selected(tmp_path):
    (tmp_path / "config.json").write_bytes(CONFIG)
    with refused(InputError, "no revision of this step", "`all` or `last`"):
        open_release(str(tmp_path)).select([0])


# Folders


def write_model(folder: Path, **changes: bytes | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model_files(0, **changes).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_of_folders_named_for_steps_is_a_release(tmp_path):
    for name in ("step10", "step9", "other", ".step3.partial"):
        write_model(tmp_path / name)
    (tmp_path / "step11").write_bytes(b"no folder")
    release = open_release(str(tmp_path))
    assert release.revisions == (ReleaseRevision("step9", 9, None), ReleaseRevision("step10", 10, None))
    assert [release.folder_of(revision) for revision in release.revisions] == [tmp_path / "step9", tmp_path / "step10"]


def test_a_run_is_the_release_of_its_revisions(tmp_path, monkeypatch):
    write_model(tmp_path / "runs" / "quick" / "revisions" / "step4")
    (tmp_path / "runs" / "quick" / "recipe.yaml").write_text("name: quick\n")
    monkeypatch.chdir(tmp_path)
    for path in ("runs/quick", "runs/quick/revisions", "runs/quick/", "./runs/quick"):
        release = open_release(path)
        assert release.revisions == (ReleaseRevision("step4", 4, None),)
        assert release.folder_of(release.revisions[0]) == Path("runs/quick/revisions/step4")


def test_a_run_without_revisions_is_told_what_makes_them(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: quick\n")
    with refused(InputError, "no revisions yet", f"treering export {tmp_path}"):
        open_release(str(tmp_path))


def test_a_models_folder_is_the_one_revision_main(tmp_path):
    write_model(tmp_path / "model")
    release = open_release(str(tmp_path / "model"))
    assert release.revisions == (ReleaseRevision("main", None, None),)
    assert release.folder_of(release.revisions[0]) == tmp_path / "model"


def test_a_folder_without_models_is_refused(tmp_path):
    with refused(InputError, "this folder has no revisions", "step0", "config.json"):
        open_release(str(tmp_path))


def test_folders_of_steps_may_have_names_of_the_users_own(tmp_path):
    write_model(tmp_path / "checkpoint-500")
    assert names(open_release(str(tmp_path), pattern=r"checkpoint-(?P<step>\d+)")) == ["checkpoint-500"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config__json": None}, "no config.json"),
        ({"config__json": b'{"auto_map": {}}'}, "runs no code of a release"),
        ({"model__safetensors": None}, "pickles never are"),
    ],
)
def test_a_folder_is_looked_at_as_strictly_as_a_repository(tmp_path, changes, problem):
    write_model(tmp_path / "step1", **changes)
    release = open_release(str(tmp_path))
    with refused(InputError, problem, str(tmp_path / "step1")):
        release.folder_of(release.revisions[0])


def test_weights_of_another_revision_are_no_shard_of_this_one(tmp_path):
    write_model(tmp_path / "step1")
    index = json.dumps({"weight_map": {"a": "../step1/model.safetensors"}}).encode()
    write_model(tmp_path / "step2", model__safetensors=None)
    (tmp_path / "step2" / INDEX).write_bytes(index)
    release = open_release(str(tmp_path))
    with refused(InputError, "names a shard that is not here", "../step1"):
        release.folder_of(release.revisions[1])


def test_a_folder_comes_before_a_repository_of_its_name(hub, cache, tmp_path, monkeypatch):
    hub.add(NAME, "step1", model_files(1))
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / NAME / "step2")
    assert names(open_release(NAME, hub.endpoint, cache=cache)) == ["step2"]
    assert hub.requests == []


# Weights, all the way


def test_a_downloaded_revision_is_loaded_with_the_weights_that_were_published(hub, cache, tmp_path):
    config = GPTNeoXConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    published = {}
    for step in (0, 1):
        torch.manual_seed(step)
        GPTNeoXForCausalLM(config).save_pretrained(tmp_path / f"step{step}")
        files = {path.name: path.read_bytes() for path in (tmp_path / f"step{step}").iterdir()}
        hub.add(NAME, f"step{step}", files)
        published[step] = load_file(tmp_path / f"step{step}" / "model.safetensors")
    release = open_release(NAME, hub.endpoint, cache=cache)
    for revision in release.revisions:
        folder = release.folder_of(revision)
        model = load_model(folder, torch.float32)
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "loaded")
        loaded = load_file(tmp_path / "loaded")
        loaded["embed_out.weight"] = loaded.pop("lm_head.weight")  # transformers 5 renames it in memory
        expected = published[revision.step]
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)
    assert not torch.equal(published[0]["embed_out.weight"], published[1]["embed_out.weight"])
