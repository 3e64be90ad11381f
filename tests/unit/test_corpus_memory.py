"""Memory and disk: what grows with the corpus, and what happens when there is no more."""

import subprocess
import sys

import pytest

from treering.corpus.duplicates import seen_digests
from treering.errors import StorageError
from treering.provenance.digests import digest_bytes

_READ = """
import json, pathlib, resource, sys
from treering.config.schema import CorpusSection
from treering.corpus.stage import write_corpus
from treering.corpus.store import DocumentStore
path, out = map(pathlib.Path, sys.argv[1:])
write_corpus(CorpusSection.model_validate({"sources": ({"path": str(path)},)}), out)
assert sum(1 for split in ("train", "validation") for _ in DocumentStore(out, split)) > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kibibytes(tmp_path, documents):
    source = tmp_path / f"{documents}.jsonl"
    with source.open("w") as file:
        for index in range(documents):
            file.write(f'{{"text": "{index} {"lorem ipsum dolor " * 110}"}}\n')
    (tmp_path / f"out-{documents}").mkdir()
    command = [sys.executable, "-c", _READ, str(source), str(tmp_path / f"out-{documents}")]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    once, eightfold = peak_kibibytes(tmp_path, 2_500), peak_kibibytes(tmp_path, 20_000)
    # 5 MB of text become 40 MB, so that keeping even half of it would show. The table of digests may use its cache, 32 MiB,
    # but has only 1 MB of digests to keep here.
    assert eightfold - once < 8_000


def test_the_table_of_digests_knows_what_it_has_seen_and_leaves_no_file(tmp_path):
    digests = [digest_bytes(str(index).encode()) for index in range(5000)]
    with seen_digests(tmp_path / "table") as seen:
        assert all(seen.add(digest) for digest in digests)
        assert not any(seen.add(digest) for digest in digests)
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_cannot_be_made_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="cannot be written"), seen_digests(tmp_path / "absent" / "table"):
        pass


_FILL = """
import pathlib, resource, sys
from treering.corpus import duplicates
from treering.errors import StorageError
from treering.provenance.digests import digest_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
duplicates._CACHE_KIBIBYTES = 64
duplicates._SETTINGS = ("PRAGMA cache_size = -64", *duplicates._SETTINGS[1:])
try:
    with duplicates.seen_digests(pathlib.Path(sys.argv[1])) as seen:
        for index in range(100_000):
            seen.add(digest_bytes(str(index).encode()))
except StorageError as error:
    print(error.problem)
"""


def test_a_disk_that_is_full_is_a_storage_error(tmp_path):
    command = [sys.executable, "-c", _FILL, str(tmp_path / "table")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == "the table of digests cannot be written\n"
    assert list(tmp_path.iterdir()) == []
