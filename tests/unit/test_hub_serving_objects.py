"""Ids, names and stores: what a served repository is made of."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering.errors import FormatError, InputError, IntegrityError, StorageError
from treering.hub.serving.access import new_token, read_token
from treering.hub.serving.blobs import Blobs
from treering.hub.serving.names import refuse_path, refuse_repository_name, refuse_revision_name
from treering.hub.serving.objects import Change, Commit, changed, describe, is_large, pointer
from treering.hub.serving.refusals import Refusal
from treering.hub.serving.store import Store, open_store
from treering.hub.serving.stored import Message

FILES = {
    "README.md": b"# a card",
    "a.b/c": b"sorted before a/",
    "a/z": b"one",
    "a/deep/er/still.txt": "größer".encode(),
    "a-b": b"",
    "model.safetensors": b"weights",
    "ä/ö.json": b"{}",
}


def git(folder: Path, *words: str, stdin: bytes = b"") -> str:
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _IDENTITY.items()}
    result = subprocess.run(["git", *words], cwd=folder, input=stdin, capture_output=True, check=True, env=identity)
    return result.stdout.decode().strip()


_IDENTITY = {"NAME": "treering", "EMAIL": "treering@localhost", "DATE": "1970-01-01T00:00:00+0000"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not on this machine")
def test_ids_are_those_that_git_gives(tmp_path):
    git(tmp_path, "init", "--quiet")
    files = {path: describe(path, content) for path, content in FILES.items()}
    for path, content in FILES.items():
        stored = pointer(hashlib.sha256(content).hexdigest(), len(content)) if files[path].large else content
        assert git(tmp_path, "hash-object", "-w", "--stdin", stdin=stored) == files[path].git_id
        git(tmp_path, "update-index", "--add", "--cacheinfo", f"100644,{files[path].git_id},{path}")
    tree = git(tmp_path, "write-tree")
    first = Commit(None, "first", "", files)
    assert first.trees[""] == tree
    assert first.trees["a/deep"] == git(tmp_path, "rev-parse", f"{tree}:a/deep")
    assert first.id == git(tmp_path, "commit-tree", tree, stdin=b"first\n")
    second = Commit(first.id, "second", "with more\nto say", files)
    assert second.id == git(tmp_path, "commit-tree", tree, "-p", first.id, stdin=b"second\n\nwith more\nto say\n")


@pytest.mark.parametrize(
    ("path", "size_bytes", "sample", "large"),
    [
        ("model.safetensors", 1, b"x", True),
        ("MODEL.SAFETENSORS", 1, b"x", True),
        ("model.safetensors", 0, b"", False),
        ("README.md", 100, b"# a card", False),
        ("README.md", 11 << 20, b"# a card", True),
        ("figure.png", 100, b"\x89PNG\0", True),
        ("model.safetensors.index.json", 100, b"{}", False),
    ],
)
def test_large_files_are_told_by_name_size_and_beginning(path, size_bytes, sample, large):
    assert is_large(path, size_bytes, sample) is large


def test_changes_are_made_one_after_the_other():
    files = {path: describe(path, content) for path, content in FILES.items()}
    new = describe("x", b"new")
    after = changed(files, [Change("a", None, folder=True), Change("a", new), Change("a-b", None), Change("a-b", new)], "head")
    assert after == {path: file for path, file in files.items() if not path.startswith("a/")} | {"a": new, "a-b": new}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (Change("none", None), 404),
        (Change("a", None), 404),
        (Change("a/z", None, folder=True), 404),
        (Change("a", describe("a", b"")), 400),
        (Change("README.md/x", describe("x", b"")), 400),
    ],
)
def test_what_cannot_be_changed_is_refused(change, status):
    files = {path: describe(path, content) for path, content in FILES.items()}
    with pytest.raises(Refusal) as caught:
        changed(files, [change], "head")
    assert caught.value.status == status


@pytest.mark.parametrize(
    "path",
    [
        *("", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\\b", "..\\a", "C:\\a", "a\0", "a\nb", "\x1b[31m", "a\x7fb"),
        *(".git/config", "a/.GIT/x", ".cache/x", "\ud800", "a" * 241, "/".join("a" * 25), "a/" * 500 + "a", "a\u202eb"),
    ],
)
def test_a_path_that_could_lead_elsewhere_is_refused(path):
    with pytest.raises(Refusal, match="no path of a file"):
        refuse_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "größer.txt", ".gitattributes", "...", "a b", "~", "model-00001-of-00002.safetensors"]
)
def test_a_path_of_a_file_is_allowed(path):
    refuse_path(path)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a..b", "/a", "a/", "a//b", "-a", "a b", "a\\b", "refs/heads/a", "a.lock", "a" * 251, "a" * 40, "ä", "a\n"],
)
def test_a_branch_may_not_have_every_name(name):
    with pytest.raises(Refusal, match="no name of a branch"):
        refuse_revision_name(name)


@pytest.mark.parametrize("name", ["main", "step0", "seed1/step1000", "step5-tokens2B", "v1.0+cpu", "a" * 250])
def test_a_branch_may_have_these_names(name):
    refuse_revision_name(name)


@pytest.mark.parametrize(
    "name",
    ["sapling", "a/b/c", "a--b/c", "a/..", "-a/b", "a/b.git", "a b/c", "api/b", "datasets/b", "a/" + "b" * 97, "", "ä/b"],
)
def test_a_repository_may_not_have_every_name(name):
    with pytest.raises(Refusal, match="no name of a repository"):
        refuse_repository_name(name)


@given(st.text())
def test_names_are_allowed_or_refused_whatever_they_are(name):
    for refuse in (refuse_path, refuse_revision_name, refuse_repository_name):
        try:
            refuse(name)
        except Refusal as refusal:
            assert refusal.status == 400


def test_a_content_is_kept_whole_or_not_at_all(tmp_path):
    blobs = Blobs(tmp_path)

    def cut_off():
        yield b"a half"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        blobs.add(cut_off(), 100)
    with pytest.raises(Refusal, match="too long"):
        blobs.add([b"12345", b"6"], 5)
    with pytest.raises(Refusal, match="changed on the way"):
        blobs.add([b"other"], 5, hashlib.sha256(b"this").hexdigest())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    sha256 = blobs.add([b"123", b"45"], 5)
    assert sha256 == hashlib.sha256(b"12345").hexdigest()
    assert blobs.path(sha256).read_bytes() == b"12345"
    assert Blobs(tmp_path).size(sha256) == 5


def filled(folder: Path) -> tuple[str, str]:
    """Make a store with one repository of two commits, and return the commits."""
    with open_store(folder, writable=True) as store:
        repository = store.create("model", "acme/sapling")
        first = repository.push("main", [Change("a", store.blobs.add_small("a", b"1"))], Message("first"))
        repository.add_branch("step0", "main")
        repository.add_tag("v1", first)
        return first, repository.push("step0", [Change("b", store.blobs.add_small("b", b"2"))], Message("second"))


def test_a_store_is_the_same_when_it_is_opened_again(tmp_path):
    first, second = filled(tmp_path)
    with open_store(tmp_path, writable=False) as store:
        repository = store.find("model", "acme/sapling")
        assert repository.refs.branches == {"main": first, "step0": second}
        assert repository.refs.tags == {"v1": first}
        commit = repository.commit(second)
        assert commit is not None and commit.parent == first
        assert repository.content(commit.files["b"]).read_bytes() == b"2"


def test_a_changed_commit_is_seen(tmp_path):
    first, _ = filled(tmp_path)
    path = next(tmp_path.rglob(f"{first}.json"))
    path.write_text(path.read_text().replace('"first"', '"other"'))
    with pytest.raises(IntegrityError, match="not what its name says"), open_store(tmp_path, writable=False):
        pass


def test_a_commit_without_its_fields_is_seen(tmp_path):
    first, _ = filled(tmp_path)
    path = next(tmp_path.rglob(f"{first}.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "files": {"a": {}}}))
    with pytest.raises(FormatError, match="lacks a field"), open_store(tmp_path, writable=False):
        pass


def test_a_deleted_repository_is_gone_and_can_be_made_anew(tmp_path):
    filled(tmp_path)
    with open_store(tmp_path, writable=True) as store:
        old = store.find("model", "acme/sapling")
        store.delete("model", "acme/sapling")
        store.create("model", "acme/sapling")
        for late in (lambda: old.add_tag("v2", "main"), lambda: old.push("main", [], Message("late")), old.remove):
            with pytest.raises(Refusal, match="no repository"):
                late()
    with open_store(tmp_path, writable=False) as store:
        assert store.find("model", "acme/sapling").refs.branches.keys() == {"main"}


def test_what_was_cut_off_leaves_nothing(tmp_path):
    first, _ = filled(tmp_path)
    (tmp_path / "incoming").mkdir(exist_ok=True)
    (tmp_path / "incoming" / ".half.partial").write_bytes(b"half")
    commits = next(tmp_path.rglob(f"{first}.json")).parent
    (commits / f"{'e' * 40}.json").write_bytes(b"half")
    (tmp_path / "repositories" / "begun" / "commits").mkdir(parents=True)
    with open_store(tmp_path, writable=True) as store:
        assert list(store.repositories) == [("model", "acme/sapling")]
        assert store.find("model", "acme/sapling").commit("e" * 40) is None
        assert not (tmp_path / "incoming").exists()


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (True, True)])
def test_while_one_process_writes_no_other_opens_it(tmp_path, first, second):
    filled(tmp_path)
    opened = pytest.raises(InputError, match="another treering process")
    with open_store(tmp_path, writable=first), opened, open_store(tmp_path, writable=second):
        pass


def test_several_processes_may_read(tmp_path):
    filled(tmp_path)
    with open_store(tmp_path, writable=False) as one, open_store(tmp_path, writable=False) as other:
        assert one.repositories.keys() == other.repositories.keys()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_bytes(b"")
    with pytest.raises(InputError, match="neither a run nor"), open_store(tmp_path, writable=True):
        pass
    with pytest.raises(InputError, match="nothing to serve"), open_store(tmp_path / "none", writable=False):
        pass
    with pytest.raises(InputError, match="neither a run nor"), open_store(tmp_path / "thesis.tex", writable=True):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.tex"]


def test_a_store_that_cannot_be_written_is_said_to_be_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError), open_store(tmp_path / "file" / "store", writable=True):
        pass
    with open_store(tmp_path / "store", writable=True) as store:
        (tmp_path / "store" / "repositories").write_bytes(b"")
        with pytest.raises(StorageError, match="a file stands"):
            store.create("model", "acme/sapling")
        assert isinstance(store, Store) and not store.repositories


def test_a_token_is_read_from_its_file(tmp_path):
    (tmp_path / "token").write_text(f"  {'t' * 16}\n")
    assert read_token(tmp_path / "token") == "t" * 16
    assert len({new_token() for _ in range(100)}) == 100
    for odd in (b"", b"short", b"t" * 2000, b"two words of some length", b"\xff" * 20, "ä".encode() * 20):
        (tmp_path / "token").write_bytes(odd)
        with pytest.raises(InputError, match="no token"):
            read_token(tmp_path / "token")
    with pytest.raises(InputError, match="cannot be read"):
        read_token(tmp_path / "none")
