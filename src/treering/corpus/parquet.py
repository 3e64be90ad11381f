"""The reader of Parquet files: row by row, in small batches, only the columns a document keeps."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from treering.config.schema import FileSource
from treering.corpus.documents import RawDocument
from treering.corpus.rows import document_of_row, require_field
from treering.corpus.streams import BLOCK_BYTES, DigestedFile
from treering.errors import CorpusError

_BATCH_ROWS = 256


def read_parquet(file: DigestedFile, rules: FileSource) -> Iterator[RawDocument]:
    """Yield the document of each row; columns of text, numbers, truth values and times are kept, nested ones are not.

    Raises:
        CorpusError: When the file is damaged, has no such text column, or a text is missing or not UTF-8.
    """
    try:
        with pq.ParquetFile(file.path, buffer_size=BLOCK_BYTES, pre_buffer=False, page_checksum_verification=True) as table:
            yield from _documents(table, file.name, rules)
    except (pa.ArrowException, OSError) as error:
        first_line = str(error).partition("\n")[0]
        raise CorpusError(
            "this Parquet file cannot be read", where=file.name, found=first_line, advice="fetch it again"
        ) from error


def _documents(table: pq.ParquetFile, name: str, rules: FileSource) -> Iterator[RawDocument]:
    columns = _columns(table.schema_arrow, name, rules)
    row = 0
    for batch in table.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
        names = batch.schema.names
        lists = [_values(column, row, name) for column in batch.columns]
        for values in zip(*lists, strict=True):
            fields = dict(zip(names, values, strict=True))
            yield document_of_row(fields, rules, source=name, row=row, where=f"{name} row {row}")
            row += 1


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
