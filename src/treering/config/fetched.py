"""Which files of a run were left out when it was fetched from where it is published."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from treering.config.digests import DATA
from treering.errors import FormatError
from treering.provenance.canonical import read_record, write_record

FETCHED = "fetched.json"
_FORMAT = ("fetched", 1)
_OPTIONS = {"checkpoints": ["--checkpoints"], "revisions": ["--revisions", "all"]}


def write_fetched(folder: Path, left_out: Mapping[str, Sequence[str]], about: Mapping[str, Any]) -> None:
    """Write down in a run's folder where it was fetched from, and the files of each stage that were left out.

    Args:
        about: `release`, its name; `endpoint`, the Hub's address or None; and what else is to be remembered.

    Raises:
        StorageError: When it cannot be written.
    """
    write_record(folder / FETCHED, *_FORMAT, {**about, "left_out": {stage: list(paths) for stage, paths in left_out.items()}})


def read_left_out(folder: Path) -> dict[str, list[str]]:
    """Return the files of each stage that were left out when a run was fetched; of a run that was made here there are none.

    Raises:
        FormatError: When the record cannot be read.
    """
    if not (folder / FETCHED).exists():
        return {}
    found = read_record(folder / FETCHED, *_FORMAT).get("left_out")
    if not isinstance(found, dict) or not all(isinstance(paths, list) for paths in found.values()):
        raise FormatError("this record does not say what was left out", where=folder / FETCHED)
    return {stage: [str(path) for path in paths] for stage, paths in found.items()}


def fetch_advice(folder: Path, stage: str) -> str:
    """Return how the files of a stage that were left out can be had.

    Raises:
        FormatError: When the record of what was fetched cannot be read.
    """
    about = read_record(folder / FETCHED, *_FORMAT)
    endpoint = ["--endpoint", str(about["endpoint"])] if about.get("endpoint") else []
    options = ["--to", str(folder), *endpoint, *_OPTIONS.get(stage, [])]
    command = shlex.join(["treering", "fetch", str(about.get("release")), *options])
    if stage not in DATA:
        return command
    return (
        f"{command}; or, where texts were not published, from the recipe's sources: treering prepare {shlex.quote(str(folder))}"
    )
