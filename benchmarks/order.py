"""Look-ups in orders up to 300 billion tokens: `make bench-order`, or `python benchmarks/order.py`.

The token file is as long as it would be (uint16; on disk it is a hole), sequences have 2,048 tokens and a batch has 1,024,
Pythia's numbers; two epochs. `which sequences` gives batch n's, `tokens` also reads them, a second time so that no disk has a
part in it, `which steps` finds both batches of a sequence. The peer is a stored index: a shuffled array of sequence numbers,
saved and memory-mapped, in which a sequence's step is found by looking through it. Both were opened before; medians over steps
and sequences drawn at random, the same each time.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from results import made_on, record

from treering.order.batches import FlatBatches
from treering.order.order import Order

LENGTH, BATCH, EPOCHS = 2048, 1024, 2
SEQUENCES = (100_000, 10_000_000, 147_164_160)  # the last is Pythia's
LOOKUPS = 30


def milliseconds(look_up: Callable[[int], object], most: int, times: int = LOOKUPS, again: bool = False) -> float:
    """Return the median of looking up so many numbers below `most`, each for the first time or the second."""
    drawn, taken = np.random.RandomState(1).randint(0, most, times), []
    for number in drawn:
        if again:
            look_up(int(number))
        start = time.perf_counter()
        look_up(int(number))
        taken.append(1e3 * (time.perf_counter() - start))
    return statistics.median(taken)


def stored_index(sequences: int, folder: Path) -> tuple[np.ndarray, float]:
    """Return a stored index, memory-mapped, and the seconds it took to make."""
    start = time.perf_counter()
    index = np.arange(sequences, dtype=np.uint32)
    np.random.RandomState(1).shuffle(index)
    np.save(folder / "index.npy", index)
    return np.load(folder / "index.npy", mmap_mode="r"), time.perf_counter() - start


def measure(sequences: int, folder: Path) -> dict[str, Any]:
    path = folder / "tokens.bin"
    with path.open("wb") as file:
        file.truncate(2 * (sequences * LENGTH + 1))
    start = time.perf_counter()
    batches = FlatBatches(np.memmap(path, np.uint16, "r"), Order(sequences, 1234), LENGTH, BATCH)
    batches.sequence_ids(0)
    opened = time.perf_counter() - start
    steps = sequences // BATCH
    index, made = stored_index(sequences, folder)

    def scan(sequence: int) -> list[int]:
        return (np.flatnonzero(np.asarray(index) == sequence) // BATCH).tolist()

    return {
        "sequences": sequences,
        "tokens": sequences * LENGTH,
        "ready_seconds": opened,
        "which_sequences_ms": milliseconds(batches.sequence_ids, EPOCHS * steps),
        "tokens_ms": milliseconds(batches.batch, EPOCHS * steps, 5, again=True),
        "which_steps_ms": milliseconds(lambda sequence: batches.steps_of_sequences([sequence], EPOCHS * steps)[0], sequences),
        "index_ready_seconds": made,
        "index_bytes": index.nbytes,
        "index_which_sequences_ms": milliseconds(lambda step: np.array(index[step * BATCH : (step + 1) * BATCH]), steps),
        "index_which_steps_ms": milliseconds(scan, sequences, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, nargs="+", default=SEQUENCES)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    print(made_on(("numpy",)))
    rows = []
    for sequences in given.sequences:
        with tempfile.TemporaryDirectory() as name:
            rows.append(measure(sequences, Path(name)))
        row = rows[-1]
        print(
            f"{row['tokens']:,} tokens: ready in {row['ready_seconds']:.3f} s; which sequences {row['which_sequences_ms']:.3f} "
            f"ms, tokens {row['tokens_ms']:.1f} ms, which steps {row['which_steps_ms']:.3f} ms\n"
            f"  index of {row['index_bytes'] / 1e6:.1f} MB: ready in {row['index_ready_seconds']:.3f} s; which sequences "
            f"{row['index_which_sequences_ms']:.3f} ms, which steps {row['index_which_steps_ms']:.1f} ms",
            flush=True,
        )
    if not given.dry:
        record("order", {"sequence_length": LENGTH, "global_batch_size": BATCH, "epochs": EPOCHS}, rows, ("numpy",))


if __name__ == "__main__":
    main()
