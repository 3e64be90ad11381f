"""The whole way, stage after stage, with what each took."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from treering.card.stage import write_card
from treering.corpus.stage import prepare_corpus
from treering.evaluation.stage import evaluate
from treering.neox.training import import_training
from treering.order.stage import prepare_order
from treering.provenance.canonical import canonical_json
from treering.provenance.manifests import Manifest
from treering.provenance.progress import Progress
from treering.revisions.stage import export
from treering.tokens.stage import prepare_tokens
from treering.training.meeting import open_ranks
from treering.training.run import train

if TYPE_CHECKING:
    from treering.config.run_directory import RunDirectory

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _train(run: "RunDirectory", progress: Progress) -> Manifest:
    if run.recipe.training.imported:
        return import_training(run, progress)
    with open_ranks(run.recipe) as ranks:
        return train(run, progress, ranks)


STAGES = {
    "corpus": prepare_corpus,
    "tokens": prepare_tokens,
    "order": prepare_order,
    "training": _train,
    "revisions": export,
    "evaluation": evaluate,
    "card": write_card,
}


def walk(run: "RunDirectory", progress: Progress) -> list[Manifest]:
    """Do every stage that is not done, and return all manifests; time and memory of each go to `observe/stages.jsonl`."""
    manifests = []
    for name, stage in STAGES.items():
        counted, start = _reset_peak_memory(), time.monotonic()
        manifests.append(stage(run, progress))
        _observe(run, name, time.monotonic() - start, _peak_memory_bytes() if counted else None)
    return manifests


def _observe(run: "RunDirectory", stage: str, elapsed_seconds: float, peak_memory_bytes: int | None) -> None:
    run.observe.mkdir(exist_ok=True)
    line = {"stage": stage, "elapsed_seconds": elapsed_seconds, "peak_memory_bytes": peak_memory_bytes}
    with (run.observe / "stages.jsonl").open("ab") as file:
        file.write(canonical_json(line) + b"\n")


def _reset_peak_memory() -> bool:
    """Have Linux count this process's peak from now on; return whether it does."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False  # another system, or not allowed here
    return True


def _peak_memory_bytes() -> int:
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024
