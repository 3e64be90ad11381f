"""Readers: a file as the documents it holds, one plain function for each format."""

import difflib
import json
from collections.abc import Callable, Iterator

from treering.config.schema import FileSource
from treering.corpus.documents import LARGEST_DOCUMENT_BYTES, RawDocument
from treering.corpus.parquet import read_parquet
from treering.corpus.rows import document_of_row
from treering.corpus.streams import DigestedFile, ZstandardStream, decode, lines, read_errors, too_large
from treering.errors import CorpusError

Reader = Callable[[DigestedFile, FileSource], Iterator[RawDocument]]

_EXCERPT_CHARACTERS = 24


def read_text(file: DigestedFile, rules: FileSource) -> Iterator[RawDocument]:
    """Yield the documents of a text file: the whole file, its paragraphs or its lines.

    Paragraphs are parted by lines of white space only. Such lines hold no document; of the others, the last line ending
    is left out. `row` counts paragraphs, or lines.

    Raises:
        CorpusError: When the file is not UTF-8, or a document is too large.
    """
    match rules.documents:
        case "file":
            yield _whole(file, rules)
        case "paragraph":
            for row, (number, text) in enumerate(_paragraphs(file)):
                yield RawDocument(text, file.name, row, rules.domain, {}, f"{file.name}:{number}")
        case "line":
            for number, line in lines(file, file.name):
                if text := _without_ending(line):
                    yield RawDocument(text, file.name, number - 1, rules.domain, {}, f"{file.name}:{number}")


def read_jsonl(file: DigestedFile, rules: FileSource) -> Iterator[RawDocument]:
    """Yield the document of each line of JSON; `row` is the line's number from 0, and empty lines hold none.

    Raises:
        CorpusError: When a line is not a JSON object in UTF-8, or has no text field.
    """
    return _objects(lines(file, file.name), file.name, rules)


def read_compressed_jsonl(file: DigestedFile, rules: FileSource) -> Iterator[RawDocument]:
    """Yield the document of each line of JSON in a file compressed with zstandard.

    Raises:
        CorpusError: As for `read_jsonl`, and when the file is damaged or ends too early.
    """
    return _objects(lines(ZstandardStream(file), file.name), file.name, rules)


_READERS: dict[str, Reader] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "jsonl.zst": read_compressed_jsonl,
    "parquet": read_parquet,
}
_SUFFIXES = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".jsonl": "jsonl",
    ".jsonl.zst": "jsonl.zst",
    ".parquet": "parquet",
}


def reader_of(name: str, rules: FileSource) -> Reader:
    """Return the reader of a file: of the format that the recipe says, or of its suffix.

    Raises:
        CorpusError: When the suffix is none that is known.
    """
    if rules.format != "auto":
        return _READERS[rules.format]
    lowered = name.lower()
    for suffix, format_name in _SUFFIXES.items():
        if lowered.endswith(suffix):
            return _READERS[format_name]
    raise _unknown_suffix(name)


def _unknown_suffix(name: str) -> CorpusError:
    base = name.lower().rpartition("/")[2]
    suffix = base[base.index(".") :] if "." in base else ""
    near = difflib.get_close_matches(suffix, _SUFFIXES, n=1)
    guess = f"did you mean {near[0]}? " if near else ""
    return CorpusError(
        "the format of this file is unknown",
        where=name,
        expected=f"a name that ends in {', '.join(_SUFFIXES)}",
        found=f"`{suffix}`" if suffix else "no suffix",
        advice=f"{guess}Rename the file, move it away, or set this source's `format`",
    )


def _whole(file: DigestedFile, rules: FileSource) -> RawDocument:
    with read_errors(file.name):
        size_bytes = file.path.stat().st_size
    if size_bytes > LARGEST_DOCUMENT_BYTES:  # seen before reading, so that a corpus in one file is not loaded whole
        raise too_large(file.name)
    text = decode(file.content(), file.name).removeprefix("\ufeff")
    return RawDocument(text, file.name, 0, rules.domain, {}, file.name)


def _paragraphs(file: DigestedFile) -> Iterator[tuple[int, str]]:
    first, size, collected = 0, 0, []
    for number, line in lines(file, file.name):
        if line.isspace():
            if collected:
                yield first, _without_ending("".join(collected))
            size, collected = 0, []
            continue
        first = first if collected else number
        size += len(line)
        if size > LARGEST_DOCUMENT_BYTES:
            raise too_large(f"{file.name}:{first}")
        collected.append(line)
    if collected:
        yield first, _without_ending("".join(collected))


def _without_ending(line: str) -> str:
    return "" if line.isspace() else line.removesuffix("\n").removesuffix("\r")


def _objects(numbered: Iterator[tuple[int, str]], name: str, rules: FileSource) -> Iterator[RawDocument]:
    for number, line in numbered:
        if line and not line.isspace():
            where = f"{name}:{number}"
            yield document_of_row(_parse(line, where), rules, source=name, row=number - 1, where=where)


def _parse(line: str, where: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        near = line[max(0, error.pos - _EXCERPT_CHARACTERS) : error.pos + _EXCERPT_CHARACTERS]
        raise CorpusError(
            "this line is not JSON", where=where, found=f"{error.msg} at column {error.pos + 1}, near {near!r}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets in brackets without end
        raise CorpusError("this line is not JSON that can be read", where=where, found=error) from error
    if not isinstance(value, dict):
        raise CorpusError("this line is not a JSON object", where=where, expected="{…}", found=type(value).__name__)
    return value
