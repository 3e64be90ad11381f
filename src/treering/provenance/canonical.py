"""One byte string for one JSON value, and records: JSON documents that say what they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treering.errors import FormatError
from treering.provenance.files import write_atomically


def canonical_json(value: object) -> bytes:
    """Return the one compact byte string for a JSON value: keys sorted, floats in shortest exact form.

    Raises:
        ValueError: When a number is not finite.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def record_bytes(name: str, version: int, body: Mapping[str, Any]) -> bytes:
    """Return a record as readable JSON that opens with its format and version, other keys sorted.

    Raises:
        ValueError: When a number is not finite, or the body has a `format` or `version` of its own.
    """
    if taken := {"format", "version"} & body.keys():
        raise ValueError(f"a record's body cannot have {sorted(taken)}")
    sorted_body = json.loads(canonical_json(body))
    document = {"format": f"treering/{name}", "version": version, **sorted_body}
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def write_record(path: Path, name: str, version: int, body: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all.

    Raises:
        ValueError: When a number is not finite.
        StorageError: When the disk is full or the folder cannot be written.
    """
    write_atomically(path, record_bytes(name, version, body))


def read_record(path: Path, name: str, version: int) -> dict[str, Any]:
    """Read a record back, without its format and version.

    Raises:
        FormatError: When the file is missing, is not JSON, or is another format or version.
    """
    try:
        document = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise FormatError("there is no such record", where=path, expected=f"treering/{name} version {version}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError("this is not a JSON document", where=path, found=error) from error
    if not isinstance(document, dict):
        raise FormatError("this is not a record", where=path, expected="a JSON object", found=type(document).__name__)
    found = (document.pop("format", None), document.pop("version", None))
    if found != (f"treering/{name}", version):
        raise FormatError(
            "this record cannot be read by this version of treering",
            where=path,
            expected=f"treering/{name} version {version}",
            found=f"{found[0]} version {found[1]}",
        )
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")
