"""GPT-NeoX's order at Pythia's scale: `make bench-neox-order`, or `python benchmarks/neox_order.py`.

Index maps of 147,164,160 samples of 2,048 tokens, Pythia's, and of a thousandth, a hundredth and a tenth of it: written with
`order.index_maps`, compared with the data set by `order.map_checks`, a batch's samples and a document's steps looked up. The
documents are made up: 211 million at full scale, log-normal lengths, 207 billion tokens, so that two epochs are needed, as for
the Pile. Each scale in a process of its own. The peer, at the smallest scale alone, is the plain walk of the tests, which goes
from sample to sample in Python as GPT-NeoX's compiled helper does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results import made_on, record
from trainers import highest_memory

from treering.corpus.indexed import IndexedData
from treering.order.index_maps import KINDS, Plan, map_path, open_index_maps, write_index_maps
from treering.order.map_checks import check_index_maps, check_seed
from treering.order.neox_batches import NeoXBatches

DOCUMENTS, TOKENS_A_DOCUMENT, SAMPLES, LENGTH, BATCH, SEED = 211_000_000, 980, 147_164_160, 2048, 1024, 1234
SCALES = (0.001, 0.01, 0.1, 1.0)
LOOKUPS = 20


def sizes_of(scale: float) -> np.ndarray:
    """Return made-up lengths of documents."""
    drawn = np.random.RandomState(0).lognormal(0.0, 1.2, int(DOCUMENTS * scale)).astype(np.float32)
    return np.maximum(drawn * np.float32(TOKENS_A_DOCUMENT / float(drawn.mean(dtype=np.float64))), 1).astype(np.int32)


def measure(scale: float, folder: Path) -> dict[str, Any]:
    """Build, check and look up at one scale."""
    sizes = sizes_of(scale)
    plan = Plan(sizes, int(SAMPLES * scale), LENGTH, SEED)
    prefix, taken = folder / plan.name, {}
    for name, act in (
        ("build_seconds", lambda: write_index_maps(plan, prefix)),
        ("check_seconds", lambda: check_index_maps(open_index_maps(prefix), sizes)),
        ("seed_seconds", lambda: check_seed(open_index_maps(prefix), sizes)),
    ):
        start = time.perf_counter()
        act()
        taken[name] = time.perf_counter() - start
    memory, maps = highest_memory(), open_index_maps(prefix)
    batches = NeoXBatches(_sizes_alone(sizes), maps, BATCH, len(maps.shuffled) // BATCH)
    drawn = np.random.RandomState(2)
    return {
        "scale": scale,
        "documents": len(sizes),
        "epochs": plan.epochs,
        "samples": plan.samples_built,
        **taken,
        "disk_bytes": sum(map_path(prefix, kind).stat().st_size for kind in KINDS),
        "memory_bytes": memory,
        "batch_ms": milliseconds(lambda: batches.sequence_ids(int(drawn.randint(len(maps.shuffled) // BATCH)))),
        "steps_ms": milliseconds(lambda: batches.steps_of_document(int(drawn.randint(len(sizes)))), 3),
        "plain_seconds": plain_walk(plan) if scale == min(SCALES) else None,
    }


def plain_walk(plan: Plan) -> float:
    """Return the seconds of the tests' walk."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import neox_by_hand  # noqa: PLC0415 (only at one scale)

    start = time.perf_counter()
    neox_by_hand.build(plan.sizes.tolist(), plan.samples, plan.sequence_length, plan.seed)
    return time.perf_counter() - start


def _sizes_alone(sizes: np.ndarray) -> IndexedData:
    """Return a data set of which only the documents' lengths are there."""
    data = IndexedData.__new__(IndexedData)
    data.sizes = sizes
    return data


def milliseconds(look_up: Any, times: int = LOOKUPS) -> float:
    """Return the median of looking up so many times."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        look_up()
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def told(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    seconds = ", ".join(f"{name} {row[f'{name}_seconds']:.1f} s" for name in ("build", "check", "seed"))
    sizes = f"{row['disk_bytes'] / 1e9:.2f} GB on disk, {row['memory_bytes'] / 1e9:.2f} GB in memory"
    lookups = f"a batch {row['batch_ms']:.2f} ms, a document {row['steps_ms']:,.0f} ms"
    plain = f"; the plain walk {row['plain_seconds'] / row['build_seconds']:.0f} × building" if row["plain_seconds"] else ""
    return f"{row['samples']:,} samples, {row['documents']:,} documents × {row['epochs']}: {seconds}, {sizes}, {lookups}{plain}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", type=float, nargs="+", default=SCALES)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    if given.alone:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measure(given.scales[0], Path(name))))
        return
    print(made_on(["numpy"]))
    rows = []
    for scale in given.scales:
        command = [sys.executable, __file__, "--alone", "--scales", str(scale)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        row = rows[-1]
        print(told(row), flush=True)
    if not given.dry:
        record("neox-order", {"sequence_length": LENGTH, "batch": BATCH, "seed": SEED}, rows, ["numpy"])


if __name__ == "__main__":
    main()
