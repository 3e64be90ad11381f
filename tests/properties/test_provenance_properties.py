"""What holds of canonical JSON, keys, manifests and files for every input."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treering.errors import ManifestError
from treering.provenance.canonical import canonical_json, read_record, write_record
from treering.provenance.digests import derive_key, digest_bytes, digest_file
from treering.provenance.files import whole_directory, write_atomically
from treering.provenance.manifests import verify_manifest, write_manifest

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
COUNTERS = st.lists(st.integers() | TEXT, max_size=3).map(tuple)
NAMES = st.from_regex(r"[a-c]{1,2}(/[d-f]{1,2})?\.txt", fullmatch=True)
FILES = st.dictionaries(NAMES, st.binary(max_size=40), min_size=1, max_size=5)


@contextmanager
def folder_with(files: dict[str, bytes]) -> Iterator[Path]:
    """Give a fresh folder with these files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stage"
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        yield folder


def shuffled(value: object) -> object:
    """The same JSON value with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(inner) for key, inner in reversed(value.items())}
    return [shuffled(inner) for inner in value] if isinstance(value, list) else value


@given(JSON)
def test_canonical_json_gives_the_value_back_and_is_a_fixed_point(value: object) -> None:
    content = canonical_json(value)
    assert json.loads(content) == value
    assert canonical_json(json.loads(content)) == content


@given(JSON)
def test_the_order_of_keys_does_not_change_the_bytes(value: object) -> None:
    assert canonical_json(shuffled(value)) == canonical_json(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_comes_back_to_the_bit(number: float) -> None:
    assert json.loads(canonical_json(number)).hex() == number.hex()


@settings(max_examples=30)  # each writes and syncs files
@given(st.dictionaries(TEXT.filter(lambda name: name not in ("format", "version")), JSON, max_size=4))
def test_a_record_is_read_back_as_it_was_written(body: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "record.json"
        write_record(path, "any", 1, body)
        assert canonical_json(read_record(path, "any", 1)) == canonical_json(body)


@given(TEXT, st.integers(0, 2**63 - 1), COUNTERS, TEXT, st.integers(0, 2**63 - 1), COUNTERS)
def test_different_uses_of_seeds_have_different_keys(
    domain: str, seed: int, counters: tuple, other_domain: str, other_seed: int, other_counters: tuple
) -> None:
    key, other = derive_key(domain, seed, *counters), derive_key(other_domain, other_seed, *other_counters)
    assert 0 <= key < 2**64
    assert (key == other) == ((domain, seed, counters) == (other_domain, other_seed, other_counters))


@settings(max_examples=30)  # each writes and syncs files
@given(st.binary(max_size=200))
def test_a_file_written_whole_has_the_digest_of_its_content(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_atomically(Path(name) / "file", content)
        assert digest_file(Path(name) / "file") == digest_bytes(content)
        assert [path.name for path in Path(name).iterdir()] == ["file"]


@settings(max_examples=30)  # each writes and syncs files
@given(FILES, st.data())
def test_any_one_byte_changed_in_any_file_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    with folder_with(files) as folder:
        write_manifest(folder, "any", "sha256:inputs", {})
        assert [entry.path for entry in verify_manifest(folder).files] == sorted(files)
        path = folder / data.draw(st.sampled_from(sorted(files)))
        content = bytearray(path.read_bytes())
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        else:
            content += b"x"
        path.write_bytes(content)
        with pytest.raises(ManifestError):
            verify_manifest(folder)


@settings(max_examples=30)  # each writes and syncs files
@given(FILES)
def test_a_copied_folder_has_the_same_digest(files: dict[str, bytes]) -> None:
    with folder_with(files) as folder, tempfile.TemporaryDirectory() as elsewhere:
        manifest = write_manifest(folder, "any", "sha256:inputs", {})
        with whole_directory(Path(elsewhere) / "copy") as partial:
            shutil.copytree(folder, partial, dirs_exist_ok=True)
        assert verify_manifest(Path(elsewhere) / "copy") == manifest
