"""Taking over a data set of GPT-NeoX's, and reading batches in its order: `python benchmarks/neox_data.py --gigabytes 1 20`.

A made-up data set of uint16 tokens (pieces of a text in many scripts, 980 tokens in the mean, log-normal, as for the index
maps) becomes corpus, tokens and order of a run, in a process that may have no more than two gigabytes of memory of its own; the
pages of mapped files come on top, and go when the system wants them. The peer is `shutil.copyfile` of the same two files with
one SHA-256 over them, in the same run: what any tool must do that has a copy it can vouch for. Then batches of 1,024
sequences of 2,049 tokens are read in both orders, from the same tokens, the system's cache warm. Each size in a process of
its own; results are printed, for docs/log.md.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from neox_order import milliseconds, sizes_of
from results import made_on
from trainers import highest_memory

from treering.config.reading import parse_recipe
from treering.config.run_directory import RunDirectory
from treering.config.schema import TrainedTokenizer
from treering.corpus.data_sets import digest_data_set
from treering.corpus.indexed import data_set_files, write_indexed
from treering.corpus.stage import prepare_corpus
from treering.order.stage import arrange, open_batches, prepare_order
from treering.provenance.progress import SILENCE
from treering.tokens.samples import SAMPLES
from treering.tokens.stage import prepare_tokens
from treering.tokens.store import TokenStore
from treering.tokens.tokenizer import load_tokenizer, train_tokenizer

VOCABULARY, LENGTH, BATCH, OWN_BYTES = 1000, 2048, 1024, 2_000_000_000
_BLOCK = 1 << 14


def write_source(folder: Path, gigabytes: float) -> Path:
    """Write the data set and its tokenizer, and return the data set's prefix."""
    (folder / "tokenizer.json").write_bytes(
        train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=VOCABULARY, minimum_frequency=1))
    )
    sizes = sizes_of(gigabytes * 1e9 / 2 / 980 / 211_000_000)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    some = np.tile(tokenizer.encode(["\n".join(SAMPLES.values())])[0].astype(np.uint16), 4000)
    with write_indexed(folder / "data", "uint16") as writer:
        for start in range(0, len(sizes), _BLOCK):
            block = sizes[start : start + _BLOCK]
            tokens = np.resize(some, int(block.sum()))
            tokens[np.cumsum(block) - 1] = 0
            writer.append(tokens, block)
    return folder / "data"


def recipe_of(folder: Path, data: Path, order: str) -> RunDirectory:
    """Return a run on the data set; a quarter of it is trained on."""
    steps = int(data_set_files(data)[0].stat().st_size / 2 / 4 / LENGTH / BATCH) or 1
    recipe = {
        "name": order,
        "corpus": {"sources": [{"neox": str(data)}], "validation_fraction": 0.001},
        "tokens": {"tokenizer": {"path": str(folder / "tokenizer.json")}},
        "order": {"name": order},
        "model": {"preset": "pythia-70m"},
        "training": {"steps": steps, "global_batch_size": BATCH, "optimizer": {"learning_rate": 1e-3}},
    }
    return RunDirectory(folder / order, parse_recipe(json.dumps(recipe), "made up"))


def measure(gigabytes: float, folder: Path) -> dict[str, Any]:
    """Copy, take over and read one data set."""
    data, taken = write_source(folder, gigabytes), {}
    resource.setrlimit(resource.RLIMIT_DATA, (OWN_BYTES, OWN_BYTES))
    run = recipe_of(folder, data, "neox-v1")
    start = time.perf_counter()
    for path in data_set_files(data):
        shutil.copyfile(path, path.with_name(f"copy{path.suffix}"))
    with SILENCE.task("digest") as task:
        digest_data_set(data.with_name("copy"), task)
    taken["copy"] = time.perf_counter() - start
    for path in data_set_files(data):
        path.with_name(f"copy{path.suffix}").unlink()
    for name, stage in (("corpus", prepare_corpus), ("tokens", prepare_tokens), ("order", prepare_order)):
        start = time.perf_counter()
        stage(run)
        taken[name] = time.perf_counter() - start
    memory = highest_memory()
    mapped, flat = open_batches(run), arrange(run.recipe, TokenStore(run.stage("tokens"), "train").tokens)
    steps = run.recipe.training.steps
    drawn = [int(step) for step in np.random.RandomState(3).randint(0, steps, 10)]
    read = {}
    for name, batches in (("neox-v1", mapped), ("treering", flat)):
        for step in drawn:
            batches.batch(step)
        steps_drawn = iter(drawn)
        read[name] = milliseconds(lambda batches=batches, drawn=steps_drawn: batches.batch(next(drawn)), len(drawn))
    return {"gigabytes": gigabytes, "seconds": taken, "memory_bytes": memory, "batch_ms": read}


def told(row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    seconds = row["seconds"]
    whole = seconds["corpus"] + seconds["tokens"]
    parts = ", ".join(f"{name} {taken:.1f} s" for name, taken in seconds.items())
    return (
        f"{row['gigabytes']:g} GB: {parts}; taking over {whole / seconds['copy']:.2f} × copy and digest; "
        f"{row['memory_bytes'] / 1e9:.2f} GB in memory; a batch {row['batch_ms']['neox-v1']:.0f} ms in neox-v1, "
        f"{row['batch_ms']['treering']:.0f} in treering's order"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(measure(given.gigabytes[0], Path(name))))
        return
    print(made_on(["numpy"]))
    for gigabytes in given.gigabytes:
        command = [sys.executable, __file__, "--alone", "--gigabytes", str(gigabytes)]
        print(told(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)), flush=True)


if __name__ == "__main__":
    main()
