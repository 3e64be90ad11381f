"""A row of named fields as a document: its text, its domain, and every other scalar as metadata."""

import datetime
import decimal
import difflib
import math
from collections.abc import Iterable, Mapping

from treering.config.schema import DatasetSource, FileSource
from treering.corpus.documents import RawDocument, Scalar
from treering.errors import CorpusError

_SHOWN_FIELDS = 20
_AS_TEXT = (datetime.date, datetime.time, decimal.Decimal)  # a datetime is a date


def document_of_row(
    fields: Mapping[str, object], rules: FileSource | DatasetSource, *, source: str, row: int, where: str
) -> RawDocument:
    """Return the document that a row of a table or a JSON object holds.

    Raises:
        CorpusError: When the text field or the domain field is missing or of another type than text.
    """
    text = fields.get(rules.text_field)
    if not isinstance(text, str):
        raise _not_text(fields, rules.text_field, "text_field", where)
    metadata = {name: _scalar(value) for name, value in fields.items() if _is_metadata(name, value, rules)}
    return RawDocument(text, source, row, _domain(fields, rules, where), metadata, where)


def require_field(names: Iterable[str], field: str, setting: str, where: str) -> None:
    """Do nothing when a field is among the names there are.

    Raises:
        CorpusError: When it is not.
    """
    known = list(names)
    if field not in known:
        raise _missing(known, field, setting, where)


def _missing(known: list[str], field: str, setting: str, where: str) -> CorpusError:
    near = difflib.get_close_matches(field, known, n=1, cutoff=0.5)
    shown = ", ".join(known[:_SHOWN_FIELDS]) + (", …" if len(known) > _SHOWN_FIELDS else "")
    return CorpusError(
        f"there is no field `{field}` here",
        where=where,
        expected=f"the recipe's {setting}, `{field}`",
        found=f"the fields {shown}" if known else "no fields",
        advice=f"set {setting}: {near[0]}" if near else f"set {setting} to the field that holds it",
    )


def _not_text(fields: Mapping[str, object], field: str, setting: str, where: str) -> CorpusError:
    if field not in fields:
        return _missing(list(fields), field, setting, where)
    return CorpusError(f"the field `{field}` is not text", where=where, expected="a string", found=_shown(fields[field]))


def _domain(fields: Mapping[str, object], rules: FileSource | DatasetSource, where: str) -> str | None:
    if rules.domain_field is None:
        return rules.domain
    domain = fields.get(rules.domain_field)
    if domain is None and (rules.domain is not None or rules.domain_field in fields):
        return rules.domain
    if not isinstance(domain, str):
        raise _not_text(fields, rules.domain_field, "domain_field", where)
    return domain


def _is_metadata(name: str, value: object, rules: FileSource | DatasetSource) -> bool:
    scalar = value is None or isinstance(value, (str, int, float, *_AS_TEXT))
    return scalar and name not in (rules.text_field, rules.domain_field)


def _scalar(value: object) -> Scalar:
    """Return a value as JSON has it: dates and decimals as text, and so NaN and the infinities, which JSON lacks."""
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, decimal.Decimal) else value  # pyright: ignore[reportReturnType]


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__}: {text if len(text) <= 60 else text[:59] + '…'}"
