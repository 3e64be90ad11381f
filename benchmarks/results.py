"""What benchmarks found: one file each under `results/`, a list of runs to which each run adds itself."""

import datetime
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from treering.provenance.environment import describe_machine, describe_software

RESULTS = Path(__file__).parent / "results"


def record(benchmark: str, settings: dict[str, Any], rows: list[dict[str, Any]], software: Sequence[str]) -> None:
    """Add a run to a benchmark's file."""
    path = RESULTS / f"{benchmark}.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else []
    found.append(
        {"date": str(datetime.datetime.now(datetime.UTC).date()), **made_on(software), "settings": settings, "rows": rows}
    )
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


def made_on(software: Sequence[str]) -> dict[str, Any]:
    """Return machine and versions."""
    versions = {name: version for name, version in describe_software().items() if name in {"treering", "python", *software}}
    return {"machine": {**describe_machine(), "processors": os.cpu_count()}, "software": versions}


def spread(numbers: Sequence[float]) -> dict[str, float]:
    """Return the median and the ends of some measurements."""
    return {"median": statistics.median(numbers), "lowest": min(numbers), "highest": max(numbers)}
