"""Findings: what was found, at which branches, by what evidence, how bad it is, and what to do."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How bad a finding is: an error makes results wrong, a warning misleads or locks out, a note is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `check` names the kind, the same for every release."""

    check: str
    severity: Severity
    branches: tuple[str, ...]
    problem: str
    evidence: tuple[str, ...]
    advice: str

    def record(self) -> dict[str, Any]:
        """Return it as a record has it."""
        lists = {"branches": list(self.branches), "evidence": list(self.evidence)}
        return {**asdict(self), **lists, "severity": str(self.severity)}


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first, otherwise in the order in which they came."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
