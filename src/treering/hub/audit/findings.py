"""Findings: what was found, at which branches, by what evidence, how bad it is, and what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_SHOWN_CHARACTERS = 300
_SHOWN_NAMES = 12


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


def shown(text: object, most: int = _SHOWN_CHARACTERS) -> str:
    """Return a stranger's text as it may stand on a terminal: on one line, nothing that is obeyed, and not without end."""
    whole = " ".join(str(text)[: 4 * most].split())
    visible = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in whole)
    return visible if len(visible) <= most else f"{visible[: most - 1]}…"


def named(names: Sequence[str], most: int = _SHOWN_NAMES) -> str:
    """Return names as an enumeration; past so many of them the ones between are left out, and all are counted."""
    safe = [shown(name, 120) for name in names]
    if len(safe) <= most:
        return ", ".join(safe)
    return f"{', '.join(safe[: most - 2])}, … {safe[-1]} ({len(safe):,} in all)"
