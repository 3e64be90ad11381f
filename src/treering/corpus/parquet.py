"""The reader of Parquet files: row by row, in small batches, only the columns a document keeps."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from treering.config.schema import FileSource
from treering.corpus.documents import LARGEST_DOCUMENT_BYTES, RawDocument
from treering.corpus.rows import document_of_row, require_field
from treering.corpus.streams import BLOCK_BYTES, DigestedFile, too_large
from treering.errors import CorpusError

_BATCH_ROWS = 256
_PART_BYTES = 64 << 20


def read_parquet(file: DigestedFile, rules: FileSource) -> Iterator[RawDocument]:
    """Yield the document of each row; columns of text, numbers, truth values and times are kept, nested ones are not.

    Raises:
        CorpusError: When the file is damaged, has no such text column, or a text is missing or not UTF-8.
    """
    try:
        schema = pq.read_schema(file.path)
        columns = _columns(schema, file.name, rules)
        with pq.ParquetFile(
            file.path,
            buffer_size=BLOCK_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
            # A value that a small file repeats for every row stays one value until its row is read.
            read_dictionary=[column for column in columns if pa.types.is_string(schema.field(column).type)],
        ) as table:
            yield from _documents(table, file.name, rules, columns)
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise CorpusError(
            "this Parquet file cannot be read", where=file.name, found=first_line, advice="fetch it again"
        ) from error


def _documents(table: pq.ParquetFile, name: str, rules: FileSource, columns: list[str]) -> Iterator[RawDocument]:
    row = 0
    batches = table.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False)
    for part in (part for batch in batches for part in _parts(batch, name)):
        names = part.schema.names
        lists = [_values(column, row, name) for column in part.columns]
        for values in zip(*lists, strict=True):
            fields = dict(zip(names, values, strict=True))
            yield document_of_row(fields, rules, source=name, row=row, where=f"{name} row {row}")
            row += 1


def _parts(batch: pa.RecordBatch, name: str) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts whose texts fit in memory together, each of one row at least."""
    sizes = sum((_text_bytes(column) for column in batch.columns), start=np.zeros(batch.num_rows, dtype=np.int64))
    if sizes.size and int(sizes.max()) > LARGEST_DOCUMENT_BYTES:
        raise too_large(name)
    start = 0
    while start < batch.num_rows:
        ends = np.cumsum(sizes[start:])
        count = max(1, int(np.searchsorted(ends, _PART_BYTES, side="right")))
        yield batch.slice(start, count)
        start += count


def _text_bytes(column: pa.Array) -> NDArray[np.int64]:
    """Return the bytes of each row's text, 0 where a column has none."""
    if pa.types.is_dictionary(column.type):
        of_value = np.append(_text_bytes(column.dictionary), 0)  # the last is that of a missing value
        return of_value[column.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)]
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        lengths: Any = pc.call_function("binary_length", [column])
        return lengths.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return np.zeros(len(column), dtype=np.int64)


def _columns(schema: pa.Schema, name: str, rules: FileSource) -> list[str]:
    require_field(schema.names, rules.text_field, "text_field", name)
    if rules.domain_field is not None and rules.domain is None:
        require_field(schema.names, rules.domain_field, "domain_field", name)
    named = [name for name in (rules.text_field, rules.domain_field) if name is not None]
    return [column for column, kind in zip(schema.names, schema.types, strict=True) if column in named or _is_scalar(kind)]


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_date,
        pa.types.is_time,
        pa.types.is_timestamp,
        pa.types.is_null,
    )
    return any(test(kind) for test in tests)


def _values(column: pa.Array, first_row: int, name: str) -> list[object]:
    """Return a column's values; times in nanoseconds as Arrow writes them, since Python's end at microseconds."""
    if str(column.type).startswith(("timestamp[ns", "time64[ns")):
        column = column.cast(pa.string())
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(value, f"{name} row {first_row + index}") for index, value in enumerate(column)]


def _value(value: pa.Scalar, where: str) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise CorpusError(
            "this text is not UTF-8", where=where, found=f"{error.reason} at byte {error.start} of the text"
        ) from error
