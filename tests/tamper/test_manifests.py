"""A lie is seen: whatever is done to a sealed folder, reading it again names what was done."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from treering.errors import FormatError, IntegrityError, ManifestError
from treering.provenance.manifests import MANIFEST, Manifest, find_stage, read_manifest, verify_manifest, write_manifest

READS = {"corpus": "sha256:" + "1" * 64}


def flip(path: Path, position: int = 0) -> None:
    """Flip one bit of a file, keeping its size."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def swap(first: Path, second: Path) -> None:
    """Let two files change places."""
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    """Change a folder's manifest as a JSON document."""
    document = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document), encoding="utf-8")


def let_settle(folder: Path) -> None:
    """Wait until the files are old enough for their times to tell a later change."""
    newest = max(path.stat().st_ctime_ns for path in folder.rglob("*"))
    time.sleep(max(0.0, (newest + 2_100_000_000 - time.time_ns()) / 1e9))


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder with files and its manifest."""
    folder = tmp_path / "tokens"
    (folder / "shards").mkdir(parents=True)
    (folder / "train.bin").write_bytes(bytes(range(200)))
    (folder / "shards" / "a.jsonl").write_text("first\n", encoding="utf-8")
    (folder / "shards" / "b.jsonl").write_text("again\n", encoding="utf-8")
    (folder / "empty").write_bytes(b"")
    write_manifest(folder, "tokens", "sha256:inputs", READS)
    return folder


def test_an_untouched_folder_is_what_its_manifest_says(sealed: Path) -> None:
    manifest = verify_manifest(sealed)
    assert [entry.path for entry in manifest.files] == ["empty", "shards/a.jsonl", "shards/b.jsonl", "train.bin"]
    assert manifest.size_bytes == 212
    assert (manifest.stage, manifest.stage_digest, manifest.reads) == ("tokens", "sha256:inputs", READS)


@pytest.mark.parametrize("position", [0, 100, 199])
def test_one_flipped_bit_is_found(sealed: Path, position: int) -> None:
    flip(sealed / "train.bin", position)
    with pytest.raises(ManifestError, match=r"train\.bin has changed") as caught:
        verify_manifest(sealed)
    assert caught.value.exit_code == 1


TAMPERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda folder: (folder / "train.bin").unlink(), "train.bin is missing"),
    "missing in a subfolder": (lambda folder: (folder / "shards" / "a.jsonl").unlink(), "shards/a.jsonl is missing"),
    "extra": (lambda folder: (folder / "extra.txt").write_text("x"), "extra.txt is not listed"),
    "extra in a subfolder": (lambda folder: (folder / "shards" / "c.jsonl").write_text(""), "shards/c.jsonl is not listed"),
    "extra and hidden": (lambda folder: (folder / ".hidden").write_text("x"), ".hidden is not listed"),
    "a second manifest": (lambda folder: (folder / "shards" / MANIFEST).write_text("{}"), f"shards/{MANIFEST} is not listed"),
    "longer": (lambda folder: (folder / "empty").write_text("x"), "empty has 1 bytes instead of 0"),
    "shorter": (lambda folder: (folder / "train.bin").write_bytes(b""), "train.bin has 0 bytes instead of 200"),
    "renamed": (lambda folder: (folder / "empty").rename(folder / "void"), "empty is missing; void is not listed"),
    "a folder for a file": (
        lambda folder: ((folder / "empty").unlink(), (folder / "empty").mkdir()),
        "empty is missing",
    ),
    "swapped": (
        lambda folder: swap(folder / "shards" / "a.jsonl", folder / "shards" / "b.jsonl"),
        "shards/a.jsonl has changed; shards/b.jsonl has changed",
    ),
}


@pytest.mark.parametrize("kind", TAMPERS)
def test_every_tampering_with_a_file_is_found_and_named(sealed: Path, kind: str) -> None:
    tamper, finding = TAMPERS[kind]
    tamper(sealed)
    with pytest.raises(ManifestError) as caught:
        verify_manifest(sealed)
    assert str(caught.value.found) == finding
    assert str(sealed) in str(caught.value)


@pytest.mark.parametrize("kind", TAMPERS)
def test_tampering_is_found_after_the_folder_was_once_verified(sealed: Path, kind: str) -> None:
    verify_manifest(sealed)
    TAMPERS[kind][0](sealed)
    with pytest.raises(ManifestError):
        verify_manifest(sealed)


def test_a_bit_flipped_at_once_after_verifying_is_found(sealed: Path) -> None:
    for _ in range(20):
        verify_manifest(sealed)
        flip(sealed / "train.bin", 7)
        with pytest.raises(ManifestError):
            verify_manifest(sealed)
        flip(sealed / "train.bin", 7)


def test_a_bit_flipped_behind_a_restored_time_is_found(sealed: Path) -> None:
    let_settle(sealed)
    verify_manifest(sealed)  # from here on, unchanged files are not read again in this process
    path = sealed / "train.bin"
    before = path.stat()
    flip(path, 7)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ManifestError, match=r"train\.bin has changed"):
        verify_manifest(sealed)
    flip(path, 7)
    verify_manifest(sealed)


def test_many_findings_are_counted_but_not_all_shown(sealed: Path) -> None:
    for number in range(30):
        (sealed / f"extra-{number:02}.txt").write_text("x")
    with pytest.raises(ManifestError, match=r"extra-09\.txt is not listed; and 20 more") as caught:
        verify_manifest(sealed)
    assert "extra-10" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["files"].pop(),
        lambda document: document["files"][0].update(path="a.txt"),
        lambda document: document["files"][3].update(size_bytes=199),
        lambda document: document["files"][3].update(digest="sha256:" + "0" * 64),
        lambda document: document["files"].append({"path": "zzz", "size_bytes": 0, "digest": "sha256:"}),
    ],
)
def test_a_manifest_edited_to_list_other_files_is_found(sealed: Path, change: Callable[[dict], object]) -> None:
    verify_manifest(sealed)
    edit(sealed, change)
    with pytest.raises(ManifestError):
        verify_manifest(sealed)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("files"),
        lambda document: document.pop("stage_digest"),
        lambda document: document.pop("reads"),
        lambda document: document["files"].append(document["files"][3]),
        lambda document: document["files"].reverse(),
        lambda document: document.update(files=3),
        lambda document: document.update(files=["train.bin"]),
        lambda document: document.update(reads=3),
        lambda document: document["files"][0].pop("digest"),
        lambda document: document["files"][0].update(size_bytes="many"),
        lambda document: document["files"][0].update(size_bytes=None),
        lambda document: document.update(version=2),
        lambda document: document.update(format="treering/card"),
        lambda document: document["files"][0].update(path="../outside"),
        lambda document: document["files"][0].update(path="shards/../../outside"),
        lambda document: document["files"][0].update(path="/etc/passwd"),
    ],
)
def test_a_manifest_that_is_none_is_refused_as_a_format(sealed: Path, change: Callable[[dict], object]) -> None:
    edit(sealed, change)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        verify_manifest(sealed)


@pytest.mark.parametrize("content", [b"", b"null", b"[1]", b"{", b"\xff\xfe"])
def test_a_manifest_that_is_no_record_is_refused(sealed: Path, content: bytes) -> None:
    (sealed / MANIFEST).write_bytes(content)
    with pytest.raises(FormatError):
        verify_manifest(sealed)


def test_a_folder_without_a_manifest_is_no_stage(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no such record"):
        verify_manifest(tmp_path)
    assert find_stage(tmp_path, "sha256:inputs") is None


def test_a_stage_of_the_same_inputs_is_found_and_verified(sealed: Path) -> None:
    assert find_stage(sealed, "sha256:inputs") == read_manifest(sealed)
    flip(sealed / "train.bin")
    for replaceable in (False, True):
        with pytest.raises(ManifestError):
            find_stage(sealed, "sha256:inputs", replaceable=replaceable)


def test_a_stage_of_other_inputs_is_refused_or_where_it_is_cheap_done_again(sealed: Path) -> None:
    with pytest.raises(IntegrityError, match="made from other inputs") as caught:
        find_stage(sealed, "sha256:others")
    assert "sha256:inputs" in str(caught.value) and "sha256:others" in str(caught.value)
    assert find_stage(sealed, "sha256:others", replaceable=True) is None


def test_the_digest_is_of_the_content_and_not_of_where_it_lies_or_what_it_was_made_from(sealed: Path, tmp_path: Path) -> None:
    before = read_manifest(sealed)
    moved = sealed.rename(tmp_path / "elsewhere")
    again = write_manifest(moved, "tokens", "sha256:others", {})
    assert again.digest == before.digest
    flip(moved / "train.bin")
    assert write_manifest(moved, "tokens", "sha256:others", {}).digest != before.digest


def test_the_manifest_of_equal_folders_is_equal_byte_for_byte(tmp_path: Path) -> None:
    contents = []
    for name, order in (("one", ["a", "b", "c"]), ("other", ["c", "a", "b"])):
        folder = tmp_path / name
        folder.mkdir()
        for file in order:
            (folder / file).write_text(file)
        write_manifest(folder, "tokens", "sha256:inputs", READS)
        contents.append((folder / MANIFEST).read_bytes())
    assert contents[0] == contents[1]


def test_what_an_interrupted_write_left_is_neither_listed_nor_missed(sealed: Path) -> None:
    (sealed / ".train.bin.partial").write_text("half")
    (sealed / "shards" / ".step1.partial").mkdir()
    (sealed / "shards" / ".step1.partial" / "half.txt").write_text("half")
    (sealed / ".old.retired").mkdir()
    (sealed / ".old.retired" / "old.txt").write_text("old")
    assert isinstance(verify_manifest(sealed), Manifest)
