import json
import shutil
import unicodedata

import pytest
from corpus_making import contents, documents, make, section

from treering.config.run_directory import open_run
from treering.corpus.stage import prepare_corpus
from treering.errors import CorpusError, ManifestError
from treering.provenance.canonical import read_record
from treering.provenance.digests import digest_bytes

RECIPE = """
name: small
corpus:
  validation_fraction: 0.5
  sources:
    - path: corpus
      documents: line
tokens:
  tokenizer: {vocabulary_size: 300}
model: {preset: sapling, vocab_size: 320}
training:
  steps: 4
  global_batch_size: 2
  optimizer: {learning_rate: 1e-3}
checkpoints: {every: 2}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("".join(f"line {index}\n" for index in range(40)))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return open_run(tmp_path / "recipe.yaml", tmp_path / "runs")


def test_the_stage_is_sealed_with_its_shards_offsets_and_record(run):
    manifest = prepare_corpus(run)
    assert [entry.path for entry in manifest.files] == [
        "corpus.json",
        "train-00000.jsonl",
        "train.offsets",
        "validation-00000.jsonl",
        "validation.offsets",
    ]
    assert dict(manifest.reads) == {}
    assert [path.name for path in run.path.iterdir() if path.name.startswith(".")] == []


def test_a_whole_stage_is_left_as_it_is(run):
    manifest = prepare_corpus(run)
    before = (run.stage("corpus") / "corpus.json").stat()
    assert prepare_corpus(run) == manifest
    after = (run.stage("corpus") / "corpus.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("change", ["append", "add", "remove", "rename"])
def test_a_source_that_has_changed_since_is_refused_and_nothing_is_lost(run, tmp_path, change):
    prepare_corpus(run)
    before = contents(run.stage("corpus"))
    source = tmp_path / "corpus" / "a.txt"
    match change:
        case "append":
            source.write_text(source.read_text() + "one more\n")
        case "add":
            (tmp_path / "corpus" / "b.txt").write_text("another\n")
        case "remove":
            (tmp_path / "corpus" / "b.txt").write_text("another\n")
            source.unlink()
        case "rename":
            source.rename(tmp_path / "corpus" / "b.txt")
    with pytest.raises(CorpusError, match="the source has changed since the corpus was made"):
        prepare_corpus(run)
    assert contents(run.stage("corpus")) == before


def test_a_source_that_is_gone_is_no_longer_needed(run, tmp_path):
    manifest = prepare_corpus(run)
    shutil.rmtree(tmp_path / "corpus")
    assert prepare_corpus(run) == manifest


def test_a_changed_local_dataset_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    data = tmp_path / "set" / "train.jsonl"
    data.write_text("".join(json.dumps({"text": f"row {index}"}) + "\n" for index in range(40)))
    recipe = RECIPE.replace("path: corpus", "dataset: ./set").replace("      documents: line\n", "")
    (tmp_path / "recipe.yaml").write_text(recipe)
    run = open_run(tmp_path / "recipe.yaml", tmp_path / "runs")
    manifest = prepare_corpus(run)
    assert prepare_corpus(run) == manifest
    data.write_text(data.read_text().replace("row 7", "row seven"))
    with pytest.raises(CorpusError, match="the source has changed"):
        prepare_corpus(run)


def test_a_failure_leaves_no_folder_behind(run, tmp_path):
    (tmp_path / "corpus" / "b.jsonl").write_text('{"text": "one"}\n{"text": ')
    with pytest.raises(CorpusError, match="not JSON"):
        prepare_corpus(run)
    assert [path.name for path in run.path.iterdir()] == ["recipe.yaml"]
    (tmp_path / "corpus" / "b.jsonl").unlink()
    assert prepare_corpus(run)


def test_a_changed_shard_is_seen(run):
    prepare_corpus(run)
    shard = run.stage("corpus") / "train-00000.jsonl"
    shard.write_bytes(shard.read_bytes().replace(b"line", b"lime", 1))
    with pytest.raises(ManifestError):
        prepare_corpus(run)


def test_what_is_dropped_is_counted_and_said_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    composed, decomposed = "caf\u00e9 au lait", "cafe\u0301 au lait"
    lines = [composed, "word", decomposed, "no", composed, "another line", "third line", "é" * 3]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    record = make(section({"path": "a.jsonl", "domain": "d"}, minimum_characters=4), tmp_path / "corpus")
    found = documents(tmp_path / "corpus")
    kept = {composed: 0, "word": 1, "another line": 5, "third line": 6}
    assert {document.text: document.row for document in found} == kept
    assert all(document.id == digest_bytes(document.text.encode()) for document in found)
    assert record["dropped"] == {"duplicate": 2, "too_short": 2}
    assert record["domains"] == {"d": 4}
    sizes = {split: record[split] for split in ("train", "validation")}
    assert sum(size["documents"] for size in sizes.values()) == 4
    assert sum(size["characters"] for size in sizes.values()) == sum(len(text) for text in kept)
    assert sum(size["bytes"] for size in sizes.values()) == sum(len(text.encode()) for text in kept)


def test_text_stays_as_it_is_where_the_recipe_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["cafe\u0301", "caf\u00e9", "b", "c", "d", "b"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    corpus = section({"path": "a.txt", "documents": "line"}, normalisation="none", deduplication="none")
    record = make(corpus, tmp_path / "corpus")
    assert sorted(document.text for document in documents(tmp_path / "corpus")) == sorted(lines)
    assert record["dropped"] == {"duplicate": 0, "too_short": 0}


def test_every_text_is_in_normal_form_c(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [chr(point) + "\u0301" for point in range(0x20, 0x3000)] + [chr(point) for point in range(0xF900, 0xFB50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    make(section({"path": "a.jsonl"}, deduplication="none"), tmp_path / "corpus")
    found = sorted(documents(tmp_path / "corpus"), key=lambda document: document.row)
    assert [document.text for document in found] == [unicodedata.normalize("NFC", row) for row in rows]


def test_the_record_repeats_the_settings_and_names_each_source(run):
    prepare_corpus(run)
    record = read_record(run.stage("corpus") / "corpus.json", "corpus", 1)
    assert {key: record[key] for key in ("normalisation", "deduplication", "validation_fraction", "minimum_characters")} == {
        "normalisation": "NFC",
        "deduplication": "exact",
        "validation_fraction": 0.5,
        "minimum_characters": 1,
    }
    assert [(source["source"], source["kind"], source["documents_read"]) for source in record["sources"]] == [
        ("corpus", "folder", 40)
    ]


def test_a_pinned_digest_is_accepted_when_it_holds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = b"".join(b"line %d\n" % index for index in range(40))
    (tmp_path / "a.txt").write_bytes(content)
    pinned = section({"path": "a.txt", "documents": "line", "digest": digest_bytes(content)})
    assert make(pinned, tmp_path / "corpus")["sources"][0]["digest"] == digest_bytes(content)
