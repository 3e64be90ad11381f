"""The tokens stage: what it writes, what it leaves as it is, and what it refuses."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from treering.config.digests import resolved
from treering.config.run_directory import RunDirectory, open_run
from treering.config.schema import TrainedTokenizer
from treering.corpus.stage import prepare_corpus
from treering.corpus.store import DocumentStore
from treering.errors import CorpusError, InputError, IntegrityError, ManifestError, RecipeError
from treering.provenance.digests import digest_file
from treering.tokens.stage import prepare_tokens
from treering.tokens.store import TokenStore, open_tokenizer
from treering.tokens.tokenizer import load_tokenizer, train_tokenizer

TEXTS = [f"Of the tree number {number}: rings, {number * 37} of them, é and e\u0301. <|endoftext|>\n" for number in range(300)]


def begin(folder: Path, texts: list[str] = TEXTS, workers: int = 1, **tokens: object) -> RunDirectory:
    """Begin a run on some texts and prepare its corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "text.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    recipe = {
        "name": "small",
        "corpus": {"sources": [{"path": str(folder / "text.jsonl")}], "validation_fraction": 0.1, "normalisation": "none"},
        "tokens": {"tokenizer": {"vocabulary_size": 280}} | tokens,
        "order": {"sequence_length": 16},
        "model": {
            "vocab_size": 320,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "rotary_pct": 1.0,
            "max_position_embeddings": 16,
        },
        "training": {"steps": 2, "global_batch_size": 2, "micro_batch_size": 2, "optimizer": {"learning_rate": 0.001}},
        "checkpoints": {"every": 1},
        "observe": {"workers": workers},
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML 1.2
    run = open_run(folder / "recipe.yaml", folder / "runs")
    prepare_corpus(run)
    return run


def loaded(run: RunDirectory) -> dict[str, object]:
    """Return a tokens section's tokenizer that loads what another run trained."""
    return {"path": str(run.stage("tokens") / "tokenizer.json")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = begin(tmp_path_factory.mktemp("done"))
    prepare_tokens(run)
    return run


def test_the_stage_writes_what_its_record_says(done: RunDirectory) -> None:
    folder = done.stage("tokens")
    record = json.loads((folder / "tokens.json").read_bytes())
    assert (record["format"], record["version"], record["token_type"]) == ("treering/tokens", 1, "uint16")
    assert record["tokenizer"] == {
        "kind": "trained",
        "digest": digest_file(folder / "tokenizer.json"),
        "vocabulary_size": 280,
        "end_of_document": "<|endoftext|>",
        "end_of_document_id": 0,
        "padding": "<|padding|>",
        "padding_id": 1,
    }
    assert record["encoder"]["name"] in ("fastokens", "tokenizers")
    lengths = open_tokenizer(folder).byte_lengths()
    for split in ("train", "validation"):
        store = TokenStore(folder, split)
        counts = {"documents": store.documents, "tokens": len(store.tokens), "bytes": int(lengths[store.tokens].sum())}
        assert record[split] == counts


def test_the_manifest_lists_exactly_the_stages_files(done: RunDirectory) -> None:
    files = [entry.path for entry in done.verified("tokens").files]
    assert files == ["tokenizer.json", "tokens.json", "train.bin", "train.idx", "validation.bin", "validation.idx"]


def test_every_document_of_the_corpus_comes_back_from_the_token_file(done: RunDirectory) -> None:
    tokenizer = load_tokenizer(done.stage("tokens") / "tokenizer.json")
    for split in ("train", "validation"):
        store, documents = TokenStore(done.stage("tokens"), split), DocumentStore(done.stage("corpus"), split)
        assert store.documents == len(documents) > 0
        rows = np.split(store.tokens, store.document_starts[1:])
        for row, document in zip(rows, documents, strict=True):
            assert row[-1] == tokenizer.end_of_document_id
            assert tokenizer.decode(row[:-1]) == tokenizer.normalise(document.text)


def test_preparing_again_leaves_the_files_as_they_are(done: RunDirectory) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in done.stage("tokens").iterdir()}
    assert prepare_tokens(done) == done.verified("tokens")
    assert {path.name: path.stat().st_mtime_ns for path in done.stage("tokens").iterdir()} == before


def test_two_runs_of_one_recipe_give_the_same_bytes(done: RunDirectory, tmp_path: Path) -> None:
    again = begin(tmp_path)
    assert resolved(again.recipe)["tokens"] == resolved(done.recipe)["tokens"]
    assert prepare_tokens(again).files == done.verified("tokens").files


def test_two_workers_give_the_bytes_of_one(done: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treering.tokens.stage.BATCH_BYTES", 1000)
    monkeypatch.setattr("treering.tokens.stage.BYTES_WORTH_A_WORKER", 1000)
    assert prepare_tokens(begin(tmp_path, workers=2)).files == done.verified("tokens").files


def test_a_loaded_tokenizer_gives_the_tokens_of_the_trained_one(done: RunDirectory, tmp_path: Path) -> None:
    run = begin(tmp_path, tokenizer=loaded(done), token_type="int32")
    prepare_tokens(run)
    record = json.loads((run.stage("tokens") / "tokens.json").read_bytes())
    assert (record["tokenizer"]["kind"], record["token_type"]) == ("loaded", "int32")
    ours, theirs = TokenStore(run.stage("tokens"), "train").tokens, TokenStore(done.stage("tokens"), "train").tokens
    assert (ours.dtype, theirs.dtype) == (np.int32, np.uint16)
    assert np.array_equal(ours, theirs)


def test_a_sample_is_drawn_by_the_second_eight_bytes_of_each_documents_digest(tmp_path: Path) -> None:
    run = begin(tmp_path, tokenizer={"vocabulary_size": 280, "sample_fraction": 0.25})
    prepare_tokens(run)
    documents = list(DocumentStore(run.stage("corpus"), "train"))
    digests = [hashlib.sha256(document.text.encode()).digest() for document in documents]
    pairs = zip(documents, digests, strict=True)
    sample = [document.text for document, digest in pairs if int.from_bytes(digest[8:16], "big") < 2**62]
    assert 40 < len(sample) < 100
    expected = train_tokenizer(iter(sample), TrainedTokenizer(vocabulary_size=280))
    assert (run.stage("tokens") / "tokenizer.json").read_bytes() == expected
    assert TokenStore(run.stage("tokens"), "train").documents == len(documents)


def test_tokens_before_the_corpus_are_refused(done: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`corpus` has not been done"):
        prepare_tokens(RunDirectory(tmp_path, done.recipe))


def test_a_corpus_changed_between_the_stages_is_refused(tmp_path: Path) -> None:
    run = begin(tmp_path)
    shard = run.stage("corpus") / "train-00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"rings", b"kings", 1))
    with pytest.raises(ManifestError, match=r"train-00000\.jsonl has changed"):
        prepare_tokens(run)
    assert not run.stage("tokens").exists()


def test_a_flipped_bit_in_finished_tokens_is_seen(tmp_path: Path) -> None:
    run = begin(tmp_path)
    prepare_tokens(run)
    path = run.stage("tokens") / "train.bin"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    with pytest.raises(ManifestError, match=r"train\.bin has changed"):
        prepare_tokens(run)


def test_another_corpus_under_finished_tokens_is_refused(tmp_path: Path) -> None:
    run = begin(tmp_path)
    prepare_tokens(run)
    reads = {"corpus": "sha256:" + "0" * 64}
    with pytest.raises(IntegrityError, match="made from other inputs"):
        run.find("tokens", reads)


def test_a_vocabulary_the_corpus_does_not_support_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    run = begin(tmp_path, [f"{number}" for number in range(40)], tokenizer={"vocabulary_size": 320})
    with pytest.raises(CorpusError, match="too small for this vocabulary"):
        prepare_tokens(run)
    assert sorted(path.name for path in run.path.iterdir()) == ["corpus", "recipe.yaml"]


def test_a_vocabulary_above_the_models_and_above_the_token_types_are_refused_together(
    tmp_path: Path, shared_data: Path
) -> None:
    library = json.loads((shared_data / "20B_tokenizer.json").read_bytes())
    far = {"id": 70_000, "content": "<|far|>", "special": True}
    library["added_tokens"].append(library["added_tokens"][0] | far)
    library["model"]["vocab"]["<|far|>"] = 70_000
    (tmp_path / "tokenizer.json").write_text(json.dumps(library), encoding="utf-8")
    run = begin(tmp_path, tokenizer={"path": str(tmp_path / "tokenizer.json")}, token_type="uint16")
    with pytest.raises(RecipeError) as raised:
        prepare_tokens(run)
    assert raised.value.problems == (
        "tokens.tokenizer: its vocabulary, 70001, is above model.vocab_size, 320",
        "tokens.token_type: uint16 holds vocabularies up to 65500; the tokenizer's is 70001",
    )


def test_a_tokenizer_with_another_digest_is_refused(done: RunDirectory, tmp_path: Path) -> None:
    run = begin(tmp_path, tokenizer=loaded(done) | {"digest": "sha256:" + "0" * 64})
    with pytest.raises(IntegrityError, match="not the tokenizer of the recipe"):
        prepare_tokens(run)


def test_a_tokenizer_that_loses_text_is_refused(done: RunDirectory, tmp_path: Path) -> None:
    definition = json.loads((done.stage("tokens") / "tokenizer.json").read_bytes())
    definition["normalizer"] = {"type": "Lowercase"}
    definition["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, definition["pre_tokenizer"]],
    }
    (tmp_path / "lossy.json").write_text(json.dumps(definition), encoding="utf-8")
    run = begin(tmp_path, tokenizer={"path": str(tmp_path / "lossy.json")})
    with pytest.raises(IntegrityError, match="does not give a text back"):
        prepare_tokens(run)


def test_the_tokenizer_of_a_stage_must_be_that_of_its_record(tmp_path: Path) -> None:
    run = begin(tmp_path, tokenizer={"vocabulary_size": 280, "end_of_document": "<end>", "padding": "<pad>"})
    prepare_tokens(run)
    assert open_tokenizer(run.stage("tokens")).decode([0, 1]) == "<end><pad>"
    path = run.stage("tokens") / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(IntegrityError, match="not the tokenizer"):
        open_tokenizer(run.stage("tokens"))


def test_progress_reaches_its_total(tmp_path: Path) -> None:
    class Watch:
        def __init__(self) -> None:
            self.seen: dict[str, list[float]] = {}

        def task(self, description: str, total: float | None = None, unit: str = "") -> "Watch":
            self.done = self.seen[description] = [0.0, total or 0.0]
            return self

        def __enter__(self) -> "Watch":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def advance(self, amount: float = 1) -> None:
            self.done[0] += amount

        def note(self, text: str) -> None:
            pass

    watch = Watch()
    prepare_tokens(begin(tmp_path, [text.replace("e\u0301", "e") for text in TEXTS]), watch)
    assert list(watch.seen) == ["tokens: tokenizer", "tokens: train", "tokens: validation"]
    assert all(done == total > 0 for done, total in watch.seen.values())
