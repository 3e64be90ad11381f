import itertools

import numpy as np
import pytest
from corpus_making import make, section

from treering.corpus.store import DocumentStore
from treering.errors import FormatError


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("\n".join(f"document {index} {'x' * (index % 40)}" for index in range(300)))
    make(section({"path": "a.txt", "documents": "line"}), tmp_path / "corpus", shard_bytes=4000)
    return tmp_path / "corpus"


def test_every_document_is_found_by_its_place(corpus):
    store = DocumentStore(corpus, "train")
    every = list(store)
    assert len(every) == len(store) > 100
    assert [store[place] for place in range(len(store))] == every
    assert store[-1] == every[-1]
    assert store[np.int64(3)] == every[3]
    assert [document.row for document in every] == sorted(document.row for document in every)


def test_the_two_splits_together_are_the_corpus(corpus):
    rows = [document.row for split in ("train", "validation") for document in DocumentStore(corpus, split)]
    assert sorted(rows) == list(range(300))


def test_shards_stay_below_their_size_and_offsets_point_to_lines(corpus):
    shards = sorted(corpus.glob("train-*.jsonl"))
    assert len(shards) > 3
    assert all(shard.stat().st_size <= 4000 for shard in shards)
    assert [shard.name for shard in shards] == [f"train-{number:05d}.jsonl" for number in range(len(shards))]
    lines = [(number, line) for number, shard in enumerate(shards) for line in shard.read_bytes().splitlines(keepends=True)]
    sizes = [[0, *itertools.accumulate(len(line) for at, line in lines if at == number)][:-1] for number in range(len(shards))]
    pairs = [[number, offset] for number, offsets in enumerate(sizes) for offset in offsets]
    assert np.fromfile(corpus / "train.offsets", "<u8").reshape(-1, 2).tolist() == pairs


def test_a_stretch_is_read_across_shards(corpus):
    store = DocumentStore(corpus, "train")
    assert list(store.read(5, 90)) == list(store)[5:90]
    assert list(store.read(5, 5)) == []


def test_there_is_no_place_beyond_the_last(corpus):
    store = DocumentStore(corpus, "validation")
    for place in (len(store), -len(store) - 1):
        with pytest.raises(IndexError, match="there is no place"):
            store[place]


def test_one_document_is_read_without_reading_the_others(corpus):
    first = DocumentStore(corpus, "train")[0]
    for shard in sorted(corpus.glob("train-*.jsonl"))[1:]:
        shard.unlink()
    assert DocumentStore(corpus, "train")[0] == first
    with pytest.raises(FormatError, match="this shard is missing"):
        DocumentStore(corpus, "train")[-1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "are missing"),
        (lambda path: path.write_bytes(b""), "not whole"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not whole"),
    ],
)
def test_damaged_offsets_are_refused(corpus, damage, message):
    damage(corpus / "train.offsets")
    with pytest.raises(FormatError, match=message):
        DocumentStore(corpus, "train")


@pytest.mark.parametrize("added", [1, 1 << 40, 1 << 63], ids=["into a line", "behind the end", "where no file reaches"])
def test_an_offset_that_points_elsewhere_is_refused(corpus, added):
    offsets = np.fromfile(corpus / "train.offsets", "<u8")
    offsets[7] += np.uint64(added)
    offsets.tofile(corpus / "train.offsets")
    with pytest.raises(FormatError, match="there is no document here"):
        DocumentStore(corpus, "train")[3]
