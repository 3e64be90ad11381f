"""Exact values: a changed bit is a changed release, on whatever machine the test runs."""

import json

import pytest
from golden_making import FOLDER, MAKERS


@pytest.mark.parametrize("name", MAKERS)
def test_the_values_are_those_kept(name: str) -> None:
    assert MAKERS[name]() == json.loads((FOLDER / f"{name}.json").read_bytes())


def test_every_file_is_read() -> None:
    files = sorted(path.relative_to(FOLDER.parent).as_posix() for path in FOLDER.parent.rglob("*.json"))
    assert files == sorted(f"any/{name}.json" for name in MAKERS)
