"""Whether tokens that were taken over, and GPT-NeoX's order, are what data sets and recipe make."""

from typing import Any

import numpy as np

from treering.config.run_directory import RunDirectory
from treering.corpus.data_sets import recorded_parts
from treering.corpus.documents import read_corpus_record
from treering.corpus.indexed import IndexedData
from treering.corpus.store import Split
from treering.errors import IntegrityError
from treering.order.index_maps import map_array, open_index_maps
from treering.order.map_checks import check_index_maps, check_seed
from treering.order.neox_v1 import BLEND_FILE, given_by, is_blended, plans_of, train_parts
from treering.provenance.canonical import read_record
from treering.provenance.digests import digest_file
from treering.tokens.store import RECORD_FILE, RECORD_FORMAT, open_tokenizer
from treering.verification.contents import refuse_other_record

_PIECE = 1 << 18
_SPLITS: tuple[Split, ...] = ("train", "validation")


def check_taken_over(run: RunDirectory) -> str:
    """Look whether each token is one of the tokenizer's and the records count what there is; return what was looked at.

    A split that is one whole data set, in its own integer type, has the bytes that the corpus's record has the digest of.

    Raises:
        IntegrityError: When a token is none, a count is another, or the bytes are others.
        FormatError: When a file cannot be read.
    """
    corpus = read_corpus_record(run.stage("corpus"))
    tokens = read_record(run.stage("tokens") / RECORD_FILE, *RECORD_FORMAT)
    return "; ".join(_look_at_split(run, split, corpus, tokens) for split in _SPLITS)


def check_index_maps_of(run: RunDirectory) -> str:
    """Compare a run's index maps with its documents and with the seed, entry by entry; return what was looked at.

    Raises:
        IntegrityError: When a map is not the one of seed and documents, or the record is another order's.
        FormatError: When a file cannot be read.
        InputError: When a map is missing.
    """
    refuse_other_record(run)
    folder, plans = run.stage("order"), plans_of(run)
    for part, plan in zip(train_parts(run), plans, strict=True):
        maps = open_index_maps(folder / plan.name)
        check_index_maps(maps, part.sizes)
        check_seed(maps, part.sizes)
    if is_blended(run.recipe) and not np.array_equal(map_array(folder / BLEND_FILE), given_by(run.recipe)):
        raise IntegrityError("the data sets are not blended by their weights", where=folder / BLEND_FILE)
    return f"every document and sample of {len(plans)} index map{'s' if len(plans) > 1 else ''}"


def _look_at_split(run: RunDirectory, split: Split, corpus: dict[str, Any], tokens: dict[str, Any]) -> str:
    found = _count(run, split)
    compared = {name: tokens[split][name] for name in ("compared", "equal")}
    _refuse_other(f"tokens.json, {split}", {**found, **compared}, tokens[split])
    _refuse_other(f"corpus.json, {split}", {name: found[name] for name in ("documents", "tokens")}, corpus[split])
    parts = {"documents": sum(part.documents for part in recorded_parts(corpus, split))}
    _refuse_other(f"corpus.json, parts of {split}", {"documents": found["documents"]}, parts)
    if (digest := _digest_of_whole(corpus, tokens, split)) is not None:
        path = run.stage("tokens") / f"{split}.bin"
        if (other := digest_file(path)) != digest:
            raise IntegrityError("these are not the data set's tokens", where=path, expected=digest, found=other)
        return f"{found['tokens']} {split} tokens, byte for byte the data set's"
    return f"{found['tokens']} {split} tokens, taken over"


def _count(run: RunDirectory, split: Split) -> dict[str, int]:
    """Count a split again, and refuse a token that the tokenizer has not."""
    tokenizer, data = open_tokenizer(run.stage("tokens")), IndexedData(run.stage("tokens") / split)
    lengths, text_bytes, ended = tokenizer.byte_lengths(), 0, 0
    for start in range(0, len(data.tokens), _PIECE):
        piece = np.asarray(data.tokens[start : start + _PIECE])
        if int(piece.min()) < 0 or int(piece.max()) >= len(lengths):
            raise IntegrityError(
                "a token is none of the tokenizer's",
                where=f"{split}, from token {start} on",
                expected=f"0 to {len(lengths) - 1}",
                found=f"{piece.min()} to {piece.max()}",
            )
        text_bytes += int(lengths[piece].sum(dtype=np.int64))
    for start in range(0, len(data.sizes), _PIECE):
        sizes, places = (np.asarray(array[start : start + _PIECE]) for array in (data.sizes, data.pointers))
        lasts = (places // data.dtype.itemsize + sizes - 1)[sizes > 0]
        ended += int(np.count_nonzero(data.tokens[lasts] == tokenizer.end_of_document_id))
    return {"documents": len(data.sizes), "tokens": len(data.tokens), "bytes": text_bytes, "ended": ended}


def _digest_of_whole(corpus: dict[str, Any], tokens: dict[str, Any], split: Split) -> str | None:
    """Return the digest of the one data set that a split is, in its own integer type; None where it is something else."""
    parts = recorded_parts(corpus, split)
    if len(parts) != 1:
        return None
    sources = {source["source"]: source["documents_read"] for source in corpus["sources"]}
    own = next(found for found in corpus["tokens"] if found["source"] == parts[0].source)
    whole = parts[0].documents == sources[parts[0].source] and own["token_type"] == tokens["token_type"]
    return own["digest"] if whole else None


def _refuse_other(where: str, expected: dict[str, int], found: dict[str, int]) -> None:
    if found != expected:
        raise IntegrityError("this record counts otherwise than there is", where=where, expected=expected, found=found)
