"""How fast items of evaluations are looked for in training text: `make bench-contamination`, or this file by itself.

Every n-gram of 10,000 items' texts is looked for in the tokens of 20 MB of text, and the tokens of each occurrence told. The
items are those of LAMBADA, SciQ, PIQA and ARC-Easy where the shared data is, filled up with passages of the text itself so that
something is found; else passages alone, most with words altered. The peer is a plain loop, as in the janitor that the LM
Evaluation Harness once had, though quicker: a dictionary of tuples of words, a pattern that finds each document's words, a
look-up for each n-gram of each length, and tokens by bisection; another is spared the places and only counts. Both decode with
treering's table. All start from a token file that lies in memory; *ready* is the time to take in the items. They take turns in
one process, and their results are compared.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import made_on, record, spread
from tokens import SHARED, read_corpora, read_tokenizers

from treering.evaluation.grams import Grams, grams_of
from treering.evaluation.overlap import find_overlap
from treering.provenance.progress import SILENCE
from treering.tokens.tokenizer import Tokenizer, load_tokenizer

ROUNDS = 5
ITEMS = 10_000
SIZES = ((13, 8), (13, 13))  # words in an n-gram, and in the shortest text that is one
PACKAGES = ("numpy", "pyarrow")
FIELDS = {
    "lambada/lambada_test_openai.jsonl": ("text",),
    "sciq/validation.jsonl": ("support", "question"),
    "piqa/validation.jsonl": ("goal", "sol1"),
    "ARC-Easy/validation.jsonl": ("question",),
}
WORD = re.compile("[0-9a-z\u00c0-\u1fff\u2070-\u2fff\u3040-\ufeff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\U0010ffff]+")

Sizes = tuple[int, int]
Found = dict[tuple[str, ...], list[tuple[int, int]]]
Contestant = Callable[[Sequence[str], Sizes, np.ndarray, Tokenizer], tuple[float, float, Found]]


def read_items(texts: Sequence[str]) -> list[str]:
    items = []
    for name, fields in FIELDS.items():
        path = SHARED / "evals" / name
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        items += [" ".join(row[field] for field in fields) for row in map(json.loads, rows)]
    return items + passages(texts, ITEMS - len(items))


def passages(texts: Sequence[str], count: int) -> list[str]:
    """Return passages of 5 to 60 words, all but 1,000 of them with every seventh word altered."""
    words, drawn, found = " ".join(texts).split(), np.random.RandomState(1), []
    for number in range(count):
        start, length = drawn.randint(len(words) - 60), drawn.randint(5, 60)
        step = 7 if number >= 1000 else length + 1
        passage = enumerate(words[start : start + length], 1)
        found.append(" ".join(f"{word}x" if place % step == 0 else word for place, word in passage))
    return found


def write_tokens(texts: Sequence[str], tokenizer: Tokenizer, path: Path) -> np.ndarray:
    ids, offsets = tokenizer.encode(texts)
    np.insert(ids, offsets[1:].astype(np.int64), tokenizer.end_of_document_id).astype(np.uint16).tofile(path)
    return np.memmap(path, np.uint16, "r")


def as_text(content: bytes) -> str:
    return content.lower().decode(errors="surrogateescape")


def plain_grams(items: Sequence[str], sizes: Sizes) -> tuple[Found, list[int]]:
    """Return the items' n-grams, none found yet, and their lengths."""
    found: Found = {}
    for item in items:
        words = WORD.findall(as_text(item.encode()))
        if (size := min(len(words), sizes[0])) >= sizes[1]:
            found.update((tuple(words[first : first + size]), []) for first in range(len(words) - size + 1))
    return found, sorted({len(gram) for gram in found})


def plain_loop(items: Sequence[str], sizes: Sizes, tokens: np.ndarray, tokenizer: Tokenizer) -> tuple[float, float, Found]:
    began = time.perf_counter()
    found, lengths = plain_grams(items, sizes)
    ready, start = time.perf_counter(), 0
    for stop in np.flatnonzero(tokens == tokenizer.end_of_document_id).tolist():
        content, places = tokenizer.decode_pieces(tokens[start:stop])
        text = as_text(content)
        matches = list(WORD.finditer(text))
        words = [match[0] for match in matches]
        for length in lengths:
            for first, gram in enumerate(zip(*(words[step:] for step in range(length)), strict=False)):
                if gram in found:
                    begin = len(text[: matches[first].start()].encode(errors="surrogateescape"))
                    end = len(text[: matches[first + length - 1].end()].encode(errors="surrogateescape"))
                    found[gram].append((start + bisect_right(places, begin) - 1, start + bisect_right(places, end - 1)))
        start = stop + 1
    return ready - began, time.perf_counter() - ready, found


def plain_count(items: Sequence[str], sizes: Sizes, tokens: np.ndarray, tokenizer: Tokenizer) -> tuple[float, float, Found]:
    began = time.perf_counter()
    found, lengths = plain_grams(items, sizes)
    ready, start = time.perf_counter(), 0
    for stop in np.flatnonzero(tokens == tokenizer.end_of_document_id).tolist():
        words = WORD.findall(as_text(tokenizer.decode_bytes(tokens[start:stop])))
        for length in lengths:
            for gram in zip(*(words[step:] for step in range(length)), strict=False):
                if gram in found:
                    found[gram].append((0, 0))
        start = stop + 1
    return ready - began, time.perf_counter() - ready, found


def treering(items: Sequence[str], sizes: Sizes, tokens: np.ndarray, tokenizer: Tokenizer) -> tuple[float, float, Found]:
    began = time.perf_counter()
    grams = grams_of(items, *sizes)
    ready = time.perf_counter()
    with SILENCE.task("") as watched:
        overlap = find_overlap(grams, tokens, tokenizer.decode_pieces, tokenizer.end_of_document_id, watched)
    taken = time.perf_counter() - ready
    names, words = names_of(grams), grams.kind_words.tolist()
    found: Found = {}
    for gram, kind in enumerate(grams.kinds.tolist()):
        first = int(grams.kind_places[kind])
        starts, stops = overlap.occurrences(gram)
        found[names[first : first + words[kind]]] = list(zip(starts.tolist(), stops.tolist(), strict=True))
    return ready - began, taken, found


def names_of(grams: Grams) -> tuple[str, ...]:
    return tuple(word.decode(errors="surrogateescape") for word in grams.split.content.tobytes().split())


CONTESTANTS: dict[str, Contestant] = {
    "plain loop": plain_loop,
    "plain loop that only counts": plain_count,
    "treering": treering,
}


def compare(
    items: Sequence[str], sizes: Sizes, tokens: np.ndarray, tokenizer: Tokenizer, rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], Found]:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    results: dict[str, Found] = {}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            ready, taken, results[name] = contestant(items, sizes, tokens, tokenizer)
            seconds[name].append((ready, taken))
        told, counted, mine = results.values()
        if told != mine or {gram: len(places) for gram, places in mine.items()} != {
            gram: len(places) for gram, places in counted.items()
        }:
            raise SystemExit("the contestants found different things")
    return seconds, results["treering"]


def rows_of(seconds: dict[str, list[tuple[float, float]]], megabytes: float) -> list[dict[str, Any]]:
    """Return each one's MB per second, and how many times the plain loop's that is."""
    base = statistics.median(taken for _, taken in seconds["plain loop"])
    return [
        {
            "contestant": name,
            "mb_per_second": spread([megabytes / taken for _, taken in both]),
            "ratio": base / statistics.median(taken for _, taken in both),
            "ready_seconds": spread([ready for ready, _ in both]),
            "load": round(os.getloadavg()[0], 1),
        }
        for name, both in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    print(made_on(PACKAGES))
    corpora = read_corpora()
    texts = [text for corpus in corpora.values() for text in corpus]
    items, megabytes = read_items(texts), sum(len(text.encode()) for text in texts) / 1e6
    with tempfile.TemporaryDirectory() as name:
        kind, path = list(read_tokenizers(texts, Path(name)).items())[-1]
        tokenizer = load_tokenizer(path)
        tokens = write_tokens(texts, tokenizer, Path(name) / "tokens.bin")
        for sizes in SIZES:
            seconds, found = compare(items, sizes, tokens, tokenizer, given.rounds)
            settings = {
                "corpus": " and ".join(corpora),
                "megabytes": round(megabytes, 1),
                "documents": len(texts),
                "tokenizer": kind,
                "items": len(items),
                "words": sizes[0],
                "shortest": sizes[1],
                "grams": len(found),
                "occurrences": sum(map(len, found.values())),
                "rounds": given.rounds,
            }
            rows = rows_of(seconds, megabytes)
            print(f"\n{settings}")
            for row in rows:
                print(
                    f"  {row['contestant']:<28} {row['mb_per_second']['median']:8.2f} MB/s "
                    f"({row['mb_per_second']['lowest']:.2f} to {row['mb_per_second']['highest']:.2f})   × {row['ratio']:6.1f}"
                    f"   ready in {row['ready_seconds']['median']:.2f} s   load {row['load']}",
                    flush=True,
                )
            if not given.dry:
                record("contamination", settings, rows, PACKAGES)


if __name__ == "__main__":
    main()
