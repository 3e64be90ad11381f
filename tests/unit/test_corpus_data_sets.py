"""Sources that are tokens already: what is read of them, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed_making import take_data_sets, write_data_set, write_indexed_recipe
from training_making import prepare

from treering.config.reading import parse_recipe, read_recipe
from treering.config.run_directory import RunDirectory, open_run
from treering.config.schema import TrainedTokenizer
from treering.corpus.stage import prepare_corpus
from treering.errors import CorpusError, FormatError, RecipeError
from treering.tokens.documents import open_documents
from treering.tokens.samples import SAMPLES
from treering.tokens.stage import prepare_tokens
from treering.tokens.store import TokenStore
from treering.tokens.tokenizer import train_tokenizer

TEXTS = [[5, 6, 7, 0], [], [8, 9, 0], [10, 11, 12, 13, 0], [14, 0], [15, 16, 0], [17, 0], [18, 0], [19, 20, 0], [21]]


@pytest.fixture
def folder(tiny_run: RunDirectory, tmp_path: Path) -> Path:
    return take_data_sets(tiny_run, tmp_path / "data")


def made(folder: Path, *sources: dict[str, Any], **sections: dict[str, Any]) -> RunDirectory:
    return prepare(write_indexed_recipe(folder, list(sources), **sections), folder / "runs")


def documents_of(run: RunDirectory, split: Any) -> list[list[int]]:
    store = TokenStore(run.stage("tokens"), split)
    return [store.document(number).tolist() for number in range(store.documents)]


def record_of(run: RunDirectory, stage: str) -> dict[str, Any]:
    return json.loads((run.stage(stage) / f"{stage}.json").read_text())


def test_the_last_documents_are_held_out(folder: Path) -> None:
    run = made(folder, {"neox": str(write_data_set(folder / "few", TEXTS))}, corpus={"validation_fraction": 0.25})
    assert documents_of(run, "train") == TEXTS[:8]  # 7.5, rounded to even as GPT-NeoX's split is
    assert documents_of(run, "validation") == TEXTS[8:]
    record = record_of(run, "corpus")
    assert record["train"] == {"documents": 8, "tokens": 21}
    assert (record["normalisation"], record["deduplication"], record["dropped"]) == ("none", "none", {})
    counts = record_of(run, "tokens")
    assert (counts["train"]["documents"], counts["train"]["ended"]) == (8, 7)
    assert (counts["validation"]["ended"], counts["encoder"]) == (1, None)
    held_out = open_documents(run.stage("corpus"), run.stage("tokens"), "validation")
    assert [(document.row, document.source) for document in held_out] == [(8, str(folder / "few")), (9, str(folder / "few"))]
    assert held_out[-1].id == held_out[1].id


@pytest.mark.parametrize(
    ("token_type", "index"),
    [("int32", None), ("uint16", []), ("int64", [0, 3]), ("uint16", [0, 1, 3])],
    ids=["int32", "no document index", "int64", "an index that ends early, as of merged data sets"],
)
def test_what_other_tools_write_is_read(folder: Path, token_type: str, index: list[int] | None) -> None:
    run = made(folder, {"neox": str(write_data_set(folder / "few", TEXTS, token_type, index))})
    assert documents_of(run, "train") + documents_of(run, "validation") == TEXTS
    assert record_of(run, "tokens")["token_type"] == ("int32" if token_type == "int32" else "uint16")


def test_the_texts_of_a_corpus_come_back_from_its_tokens(tiny_run: RunDirectory, folder: Path) -> None:
    run = made(folder, {"neox": str(folder / "train"), "validation": str(folder / "validation")})
    written = list(open_documents(tiny_run.stage("corpus"), tiny_run.stage("tokens"), "train"))
    decoded = list(open_documents(run.stage("corpus"), run.stage("tokens"), "train"))
    assert [document.text for document in decoded] == [document.text for document in written]
    assert [document.id for document in decoded] == [document.id for document in written]
    assert record_of(run, "tokens")["train"]["bytes"] == record_of(tiny_run, "tokens")["train"]["bytes"]
    with pytest.raises(IndexError):
        open_documents(run.stage("corpus"), run.stage("tokens"), "train")[len(decoded)]


def test_large_data_sets_are_taken_over_in_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treering.tokens.taking_over._BLOCK_TOKENS", 4)
    monkeypatch.setattr("treering.tokens.taking_over._BLOCK_DOCUMENTS", 3)
    run = made(folder, {"neox": str(write_data_set(folder / "few", TEXTS))})
    assert documents_of(run, "train") + documents_of(run, "validation") == TEXTS


def test_a_digest_pins_a_data_set(folder: Path) -> None:
    source = {"neox": str(folder / "train"), "validation": str(folder / "validation")}
    digests = [found["digest"] for found in record_of(made(folder, source), "corpus")["sources"]]
    assert len(set(digests)) == 2
    pinned = {**source, "digest": digests[0], "validation_digest": digests[1]}
    prepare(write_indexed_recipe(folder, [pinned]), folder / "again")
    with pytest.raises(CorpusError, match="the content is not what the recipe says"):
        prepare(write_indexed_recipe(folder, [{**pinned, "validation_digest": digests[0]}]), folder / "wrong")


def test_a_data_set_that_changes_is_refused(folder: Path) -> None:
    prefix = write_data_set(folder / "few", TEXTS)
    recipe = write_indexed_recipe(folder, [{"neox": str(prefix)}])
    run = open_run(recipe, folder / "runs")
    prepare_corpus(run)
    write_data_set(prefix, [*TEXTS[:-1], [22]])
    with pytest.raises(CorpusError, match="the data set has changed since"):
        prepare_tokens(run)
    with pytest.raises(CorpusError, match="the data set has changed since"):
        prepare_corpus(run)
    for suffix in (".bin", ".idx"):
        prefix.with_name(f"few{suffix}").unlink()
    prepare_corpus(run)  # gone, it cannot have changed


def test_a_data_set_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(CorpusError, match="there is no such file"):
        made(folder, {"neox": str(folder / "none")})


@pytest.mark.parametrize("texts", [[[5, 0]], [[5, 0], *[[]] * 9]], ids=["one document", "no tokens held out"])
def test_a_data_set_with_nothing_to_hold_out_is_refused(folder: Path, texts: list[list[int]]) -> None:
    with pytest.raises(CorpusError, match="no token is held out"):
        made(folder, {"neox": str(write_data_set(folder / "few", texts))})


@pytest.mark.parametrize(("token", "kind"), [(300, "uint16"), (-1, "int32")])
def test_a_token_of_another_tokenizer_is_refused(folder: Path, token: int, kind: str) -> None:
    texts = [*TEXTS[:2], [8, token, 0], *TEXTS[3:]]
    with pytest.raises(CorpusError, match=rf"few\.bin, document 2: [\s\S]*found:    {token}"):
        made(folder, {"neox": str(write_data_set(folder / "few", texts, kind))})


def test_documents_that_do_not_lie_one_after_another_are_refused(folder: Path) -> None:
    prefix = write_data_set(folder / "few", TEXTS)
    index = prefix.with_name("few.idx")
    content = bytearray(index.read_bytes())
    place = 34 + 4 * len(TEXTS) + 8 * 2
    content[place : place + 8] = np.array([2], dtype="<i8").tobytes()
    index.write_bytes(content)
    with pytest.raises(FormatError, match="does not begin where the one before ends"):
        made(folder, {"neox": str(prefix)})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"corpus": {"normalisation": "NFC"}}, "NFC cannot be done to tokens"),
        ({"corpus": {"deduplication": "exact"}}, "exact cannot be done to tokens"),
        ({"corpus": {"minimum_characters": 2}}, "2 cannot be done to tokens"),
        ({"corpus": {"sources": [{"neox": "a"}, {"path": "b"}]}}, "is text, but others are tokens"),
        (
            {"corpus": {"sources": [{"neox": "a", "validation_digest": f"sha256:{'0' * 64}"}]}},
            "no `validation` that it could be",
        ),
        ({"corpus": {"sources": [{"neox": "a", "validation": "./a"}]}}, "is trained on too, so nothing of it is held out"),
        ({"corpus": {"sources": 5}}, "corpus.sources: a list is needed, found 5"),
        ({"tokens": {"tokenizer": {"vocabulary_size": 300}}}, "were made with a tokenizer"),
        ({"order": {"seed": 2**32}}, "is not below 2³²"),
        (
            {"order": {"name": "treering"}, "corpus": {"sources": [{"neox": "a", "weight": 2.0}]}},
            "blending is GPT-NeoX's: it needs order.name neox-v1",
        ),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(folder: Path, change: dict[str, Any], problem: str) -> None:
    path = write_indexed_recipe(folder, [{"neox": "a"}])
    recipe = json.loads(path.read_text())
    read_recipe(path)
    for name, fields in change.items():
        recipe[name] = {**recipe[name], **fields}
    with pytest.raises(RecipeError, match=problem):
        parse_recipe(json.dumps(recipe), "tiny.yaml")


def test_a_data_set_that_is_trained_on_under_another_name_is_not_held_out(folder: Path) -> None:
    for suffix in (".bin", ".idx"):
        (folder / f"other{suffix}").write_bytes((folder / f"train{suffix}").read_bytes())
    with pytest.raises(CorpusError, match="this data set is held out and trained on"):
        made(folder, {"neox": str(folder / "train"), "validation": str(folder / "other")})


def test_tokens_of_another_tokenizer_with_as_many_entries_are_refused(folder: Path) -> None:
    source = {"neox": str(folder / "train"), "validation": str(folder / "validation")}
    record = record_of(made(folder, source), "tokens")
    assert record["train"]["compared"] == record["train"]["equal"] == record["train"]["documents"]
    other = train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=300))
    (folder / "tokenizer.json").write_bytes(other)
    with pytest.raises(CorpusError, match="no document's text encodes to its tokens"):
        prepare(write_indexed_recipe(folder, [source]), folder / "others")
