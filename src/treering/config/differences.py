"""The difference of two recipes, field by field."""

from collections.abc import Iterator, Mapping
from typing import Any

from treering.config.digests import resolved
from treering.config.schema import Recipe


def differences(first: Recipe, second: Recipe) -> list[str]:
    """Return one line for each field that differs: its path and both values."""
    return list(_differences(resolved(first), resolved(second), ""))


def _differences(first: Any, second: Any, path: str) -> Iterator[str]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in dict.fromkeys([*first, *second]):
            yield from _differences(first.get(key), second.get(key), f"{path}.{key}" if path else key)
    elif first != second:
        yield f"{path}: {first!r} ≠ {second!r}"
