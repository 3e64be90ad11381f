"""How fast items of evaluations are looked for in training text: `make bench-contamination`, or this file by itself.

Every n-gram of 10,000 items' texts is looked for in the tokens of 20 MB of text, and the tokens of each occurrence told. The
items are those of LAMBADA, SciQ, PIQA and ARC-Easy where the shared data is, filled up with passages of the text itself so that
something is found; else passages alone, most with words altered. The peer is the plain loop, as in the janitor that the LM
Evaluation Harness once had: a dictionary of tuples of words, a pattern that splits each document into words, a look-up for each
n-gram of each length. It decodes with the same table, and is spared the tokens: it tells documents and words, and what makes
tokens of them, so that the results can be compared, is not timed. Both start from a token file that lies in memory; *ready* is
the time to take in the items. They take turns in one process.
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
WORD = re.compile("[0-9a-z\u00c0-\u1fff\u2070-\u2fff\u3040-\U0010ffff]+")

Found = dict[tuple[str, ...], list[tuple[int, int]]]
Contestant = Callable[[Sequence[str], tuple[int, int], np.ndarray, Tokenizer], tuple[float, float, Found]]


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


def words_of(text: bytes) -> list[str]:
    return WORD.findall(text.lower().decode(errors="surrogateescape"))


def plain_loop(
    items: Sequence[str], sizes: tuple[int, int], tokens: np.ndarray, tokenizer: Tokenizer
) -> tuple[float, float, Found]:
    began = time.perf_counter()
    found: Found = {}
    for item in items:
        words = words_of(item.encode())
        if (size := min(len(words), sizes[0])) >= sizes[1]:
            found.update((tuple(words[first : first + size]), []) for first in range(len(words) - size + 1))
    lengths = sorted({len(gram) for gram in found})
    ready, start = time.perf_counter(), 0
    for stop in np.flatnonzero(tokens == tokenizer.end_of_document_id).tolist():
        words = words_of(tokenizer.decode_bytes(tokens[start:stop]))
        for length in lengths:
            for first, gram in enumerate(zip(*(words[step:] for step in range(length)), strict=False)):
                if gram in found:
                    found[gram].append((start, first))
        start = stop + 1
    taken = time.perf_counter() - ready
    tell_tokens(found, tokens, tokenizer)
    return ready - began, taken, found


def tell_tokens(found: Found, tokens: np.ndarray, tokenizer: Tokenizer) -> None:
    """Put the tokens [start, stop) of each occurrence where its document's first token and its first word's number stand."""
    spans: dict[int, tuple[list[int], list[tuple[int, int]]]] = {}
    for gram, hits in found.items():
        for number, (document, first) in enumerate(hits):
            if document not in spans:
                spans[document] = spans_of(tokens[document:], tokenizer)
            places, words = spans[document]
            begin, end = words[first][0], words[first + len(gram) - 1][1]
            hits[number] = (document + bisect_right(places, begin) - 1, document + bisect_right(places, end - 1))


def spans_of(tokens: np.ndarray, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    """Return where the tokens of the first document begin, and which bytes each of its words is."""
    stop = int(np.argmax(tokens == tokenizer.end_of_document_id))
    content, places = tokenizer.decode_pieces(tokens[:stop])
    text, sizes = content.lower().decode(errors="surrogateescape"), [0]
    for character in text:
        sizes.append(sizes[-1] + len(character.encode(errors="surrogateescape")))
    return places[:-1].tolist(), [(sizes[match.start()], sizes[match.end()]) for match in WORD.finditer(text)]


def treering(
    items: Sequence[str], sizes: tuple[int, int], tokens: np.ndarray, tokenizer: Tokenizer
) -> tuple[float, float, Found]:
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


CONTESTANTS: dict[str, Contestant] = {"plain loop": plain_loop, "treering": treering}


def compare(
    items: Sequence[str], sizes: tuple[int, int], tokens: np.ndarray, tokenizer: Tokenizer, rounds: int
) -> tuple[dict[str, list[tuple[float, float]]], Found]:
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTESTANTS}
    results: dict[str, Found] = {}
    for _ in range(rounds):
        for name, contestant in CONTESTANTS.items():
            ready, taken, results[name] = contestant(items, sizes, tokens, tokenizer)
            seconds[name].append((ready, taken))
        if results["plain loop"] != results["treering"]:
            raise SystemExit("the contestants found different places")
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
                    f"  {row['contestant']:<12} {row['mb_per_second']['median']:8.2f} MB/s "
                    f"({row['mb_per_second']['lowest']:.2f} to {row['mb_per_second']['highest']:.2f})   × {row['ratio']:6.1f}"
                    f"   ready in {row['ready_seconds']['median']:.2f} s   load {row['load']}",
                    flush=True,
                )
            if not given.dry:
                record("contamination", settings, rows, PACKAGES)


if __name__ == "__main__":
    main()
