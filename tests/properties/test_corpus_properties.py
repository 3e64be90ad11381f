import json
import tempfile
import unicodedata
from contextlib import contextmanager
from pathlib import Path

from corpus_making import contents, documents, make, section
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from treering.corpus.documents import Document, is_held_out
from treering.corpus.shards import ShardWriter
from treering.corpus.store import DocumentStore
from treering.provenance.digests import digest_bytes

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["\n", "\r\n", "\x00", "\u2028\u2029\x85\x0b\x0c\x1c", "🌲\U0010ffff", "\ufeff", "e\u0301", '"\\/', "\ufdfa" * 3]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text
any_document = st.builds(
    lambda text, source, row, domain, metadata: Document(digest_bytes(text.encode()), text, source, row, domain, metadata),
    any_text,
    any_text,
    st.integers(min_value=0, max_value=2**63),
    st.none() | any_text,
    st.dictionaries(any_text, scalars, max_size=4),
)
texts = st.lists(any_text, min_size=4, max_size=12)


@contextmanager
def scratch():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return {"path": str(path)}


def both_splits(rows):
    """Assume that these texts leave something to train on and something held out, at a fraction of a half."""
    normalised = {unicodedata.normalize("NFC", row) for row in rows} - {""}
    assume(len({is_held_out(digest_bytes(row.encode()), 0.5) for row in normalised}) == 2)


@given(st.lists(any_document, min_size=1, max_size=8), st.integers(min_value=1, max_value=2000))
def test_written_documents_are_read_back(written, shard_bytes):
    with scratch() as folder:
        with ShardWriter(folder, "train", shard_bytes) as writer:
            for document in written:
                writer.write(document.line())
        store = DocumentStore(folder, "train")
        assert list(store) == written
        assert [store[place] for place in range(len(store))] == written


@given(texts)
@settings(max_examples=30)
def test_of_equal_texts_the_first_is_kept(rows):
    both_splits(rows)
    expected: dict[str, int] = {}
    for row, text in enumerate(rows):
        if text:
            expected.setdefault(unicodedata.normalize("NFC", text), row)
    with scratch() as folder:
        record = make(section(write_jsonl(folder / "a.jsonl", rows)), folder / "corpus")
        assert {document.text: document.row for document in documents(folder / "corpus")} == expected
        assert record["dropped"] == {"duplicate": len(rows) - rows.count("") - len(expected), "too_short": rows.count("")}


@given(texts, texts)
@settings(max_examples=30)
def test_the_split_does_not_depend_on_the_order_of_sources(first, second):
    both_splits(first)
    with scratch() as folder:
        sources = [write_jsonl(folder / "a.jsonl", first), write_jsonl(folder / "b.jsonl", second)]
        held_out = []
        for name, ordered in (("one", sources), ("two", sources[::-1])):
            make(section(*ordered, deduplication="exact"), folder / name)
            held_out.append({document.id for document in DocumentStore(folder / name, "validation")})
        assert held_out[0] == held_out[1]
        assert all(is_held_out(document_id, 0.5) for document_id in held_out[0])
        assert not any(is_held_out(document.id, 0.5) for document in DocumentStore(folder / "one", "train"))


@given(texts, st.integers(min_value=1, max_value=3000))
@settings(max_examples=25)
def test_the_same_input_gives_the_same_bytes_twice(rows, shard_bytes):
    both_splits(rows)
    with scratch() as folder:
        corpus = section(write_jsonl(folder / "a.jsonl", rows))
        for name in ("one", "two"):
            make(corpus, folder / name, shard_bytes)
        assert contents(folder / "one") == contents(folder / "two")
