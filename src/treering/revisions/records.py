"""The records of revisions, by name and version, and reading the one that lists them."""

import re
from pathlib import Path
from typing import Any

from treering.errors import FormatError
from treering.provenance.canonical import read_record

REVISION_RECORD = ("revision", 1)
REVISIONS_RECORD = ("revisions", 1)
_NAME = re.compile(r"step(0|[1-9]\d*)")


def read_revisions(folder: Path) -> dict[str, Any]:
    """Return the record of a run's revisions; each name in it is that of a folder beside it and of a branch.

    Raises:
        FormatError: When it is missing, cannot be read, or has a name that is no revision's.
    """
    path = folder / "revisions.json"
    record = read_record(path, *REVISIONS_RECORD)
    names = [str(revision["name"]) for revision in record["revisions"]]
    if odd := [name for name in (*names, str(record["main"])) if not _NAME.fullmatch(name)]:
        raise FormatError("this is no revision's name", where=path, expected="step0, step1, …", found=odd[0])
    if record["main"] not in names:
        raise FormatError("`main` is not one of the revisions", where=path, expected=names, found=record["main"])
    return record
