"""Canonical JSON and records."""

import json
from pathlib import Path

import pytest

from treering.errors import FormatError
from treering.provenance.canonical import canonical_json, read_record, record_bytes, write_record


def test_canonical_json_is_compact_sorted_utf8_with_shortest_floats() -> None:
    value = {"é": [1, 1.0, 1e-5, 0.1, 1e22, -0.0], "a": None, "B": True}
    assert canonical_json(value) == '{"B":true,"a":null,"é":[1,1.0,1e-05,0.1,1e+22,-0.0]}'.encode()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_has_no_canonical_form(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json([number])


def test_a_record_opens_with_its_format_and_version_and_ends_with_a_newline() -> None:
    content = record_bytes("order", 3, {"b": 1, "a": {"d": 2, "c": 3}})
    assert list(json.loads(content)) == ["format", "version", "a", "b"]
    assert list(json.loads(content)["a"]) == ["c", "d"]
    assert content.startswith(b'{\n  "format": "treering/order",\n  "version": 3,') and content.endswith(b"}\n")


def test_a_record_is_read_back_without_its_format_and_version(tmp_path: Path) -> None:
    write_record(tmp_path / "new" / "order.json", "order", 1, {"seed": 7})
    assert read_record(tmp_path / "new" / "order.json", "order", 1) == {"seed": 7}


def test_a_body_that_would_hide_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format"):
        record_bytes("order", 1, {"format": "treering/card"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff{}",
        b"[]",
        b"3",
        b"{}",
        b'{"format": "treering/card", "version": 1}',
        b'{"format": "treering/order", "version": 2}',
        b'{"format": "treering/order", "version": 1, "loss": NaN}',
        b'{"format": "treering/order", "version": 1, "loss": -Infinity}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_such_record_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "order.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"order\.json") as caught:
        read_record(path, "order", 1)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("place", ["absent.json", "absent/order.json", "file/order.json", "folder"])
def test_a_missing_record_is_a_format_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FormatError, match="no such record"):
        read_record(tmp_path / place, "order", 1)
