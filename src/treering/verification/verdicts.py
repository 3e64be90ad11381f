"""What a check can end with, and the record of it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from treering.config.run_directory import RunDirectory
from treering.provenance.canonical import write_record

VERIFICATION_RECORD = ("verification", 1)


class Verdict(StrEnum):
    """How a check ended."""

    REPRODUCED = "reproduced"
    CONSISTENT = "consistent"
    DIVERGED = "diverged"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what, how it ended, and what was found, or how much was looked at where it held."""

    name: str
    verdict: Verdict
    found: str | None = None


def write_checks(run: RunDirectory, name: str, checks: list[Check], **about: Any) -> dict[str, Any]:
    """Write the record of some checks into the run's `verification/` and return it.

    Raises:
        StorageError: When it cannot be written.
    """
    body = {**about, "checks": [asdict(check) for check in checks]}
    write_record(run.path / "verification" / f"{name}.json", *VERIFICATION_RECORD, body)
    return body
