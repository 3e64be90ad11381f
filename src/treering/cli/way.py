"""The whole way, stage after stage, with what each took."""

import resource
import sys
import time
from typing import TYPE_CHECKING

from treering.card.stage import write_card
from treering.corpus.stage import prepare_corpus
from treering.evaluation.stage import evaluate
from treering.order.stage import prepare_order
from treering.provenance.canonical import canonical_json
from treering.provenance.manifests import Manifest
from treering.provenance.progress import Progress
from treering.revisions.stage import export
from treering.tokens.stage import prepare_tokens
from treering.training.run import train

if TYPE_CHECKING:
    from treering.config.run_directory import RunDirectory

STAGES = {
    "corpus": prepare_corpus,
    "tokens": prepare_tokens,
    "order": prepare_order,
    "training": train,
    "revisions": export,
    "evaluation": evaluate,
    "card": write_card,
}


def walk(run: "RunDirectory", progress: Progress) -> list[Manifest]:
    """Do every stage that is not done, and return all manifests; time and memory of each go to `observe/stages.jsonl`."""
    manifests = []
    for name, stage in STAGES.items():
        start = time.monotonic()
        manifests.append(stage(run, progress))
        _observe(run, name, time.monotonic() - start)
    return manifests


def _observe(run: "RunDirectory", stage: str, elapsed_seconds: float) -> None:
    # The peak is the process's so far, in KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    run.observe.mkdir(exist_ok=True)
    with (run.observe / "stages.jsonl").open("ab") as file:
        file.write(
            canonical_json({"stage": stage, "elapsed_seconds": elapsed_seconds, "peak_memory_bytes": peak_bytes}) + b"\n"
        )
