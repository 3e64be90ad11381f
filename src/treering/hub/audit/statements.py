"""What a card states in numbers about its own model: each statement with its quantity, its value and the line it stands in."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
_VALUE = r"(?<![\w.,])(\d[\d,]{0,18}(?:\.\d+)?)\s?(K|M|B|T|thousand|million|billion|trillion)?(?![\w])"
_SIZE = r"(?<![\w.,])(\d[\d,]{0,15}(?:\.\d+)?)\s?(kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)\b"
_SIZE_UNITS = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}
# What follows or comes before a number in a sentence that makes it one of a quantity.
_SENTENCES = {
    "layers": (rf"{_VALUE}[- ](?:transformer |decoder |hidden )?layers?\b",),
    "hidden": (rf"(?:hidden|model|embedding) (?:dimension|size|width) of {_VALUE}", rf"{_VALUE}[- ]dimensional"),
    "heads": (rf"{_VALUE} (?:attention )?heads\b",),
    "context": (rf"(?:context|sequence) (?:length|window|size) of {_VALUE}",),
    "vocabulary": (rf"vocabulary(?: size)? of {_VALUE}", rf"tokenizer[^.]{{0,60}} has {_VALUE} entries"),
    "parameters": (rf"{_VALUE}[- ]parameters?\b(?! without)", rf"total of {_VALUE} parameters"),
    "checkpoints": (rf"{_VALUE} (?:intermediate )?(?:training )?checkpoints\b",),
    "steps": (rf"trained for {_VALUE} (?:steps|updates|iterations)",),
    "trained tokens": (
        rf"trained (?:on|for|with)(?: a total of| over)? {_VALUE}(?: [a-z]+)? tokens",
        rf"steps \({_VALUE} tokens",
        rf"saw {_VALUE} tokens",
    ),
    "batch tokens": (rf"batch size of {_VALUE}(?: [a-z]+)? tokens",),
    "epochs": (rf"{_VALUE} epochs\b",),
    "data tokens": (rf"{_VALUE}[- ]tokens? (?:dataset|corpus)", rf"(?:dataset|corpus) of {_VALUE}(?: [a-z]+)? tokens"),
}
_ROWS = {
    "layers": r"(?:number of |num[_ ](?:hidden[_ ])?|n_?)?layers",
    "hidden": r"hidden (?:dimension|size)|model dim(?:ension)?|d_?model|hidden_size",
    "heads": r"(?:number of |num |n_?)?(?:attention )?heads",
    "context": r"context (?:length|window|size)|(?:max(?:imum)? )?sequence length",
    "vocabulary": r"vocab(?:ulary)?[ _]size|vocabulary",
    "parameters": r"(?:total |number of )?param(?:eter)?s(?: \(total\))?",
    "checkpoints": r"(?:number of )?checkpoints",
    "steps": r"(?:training )?steps|updates",
    "trained tokens": r"(?:training|trained) tokens|tokens trained on",
    "batch tokens": r"batch size(?: \(tokens\)| in tokens)",
}
_BYTES = {
    "fp16": rf"(?:in )?(?:fp16|float16|half precision)[^.|\n]{{0,80}}?{_SIZE}",
    "bf16": rf"(?:in )?(?:bf16|bfloat16)[^.|\n]{{0,80}}?{_SIZE}",
    "fp32": rf"(?:fp32|float32|full precision)[^.|\n]{{0,80}}?{_SIZE}",
}
_COMPILED = {quantity: [re.compile(form, re.I | re.ASCII) for form in forms] for quantity, forms in _SENTENCES.items()}
_COMPILED_ROWS = {quantity: re.compile(rf"\W*(?:{form})\W*", re.I | re.ASCII) for quantity, form in _ROWS.items()}
_COMPILED_BYTES = {quantity: re.compile(form, re.I | re.ASCII) for quantity, form in _BYTES.items()}
_NUMBER = re.compile(_VALUE, re.I | re.ASCII)
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.M | re.S)
_SAYS_CARD = re.compile(r"model card(?: for| of)?\b[ :]*", re.I)
_BEGINS = re.compile(r"[-*+] |[<#]|\d+\. ")
_ENDS = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.) ")
_LONGEST_BLOCK, _LONGEST_TITLE = 20_000, 200
_AROUND = " #*`_"  # a title, besides its words
_HALF = 0.5000001  # of the last digit


class Statement(NamedTuple):
    """A number on a card: of what, its value, how far it may be off as it was rounded, the sentence or row it stands in.

    It is `sure` where that is a row of this model, or a sentence that says whose the number is: others may be of other models.
    """

    quantity: str
    value: float
    slack: float
    line: str
    sure: bool

    def agrees(self, truth: float, share: float = 0.0) -> bool:
        """Return whether the truth, rounded as this number is, is this number.

        Args:
            share: Of the truth that it may be off besides.
        """
        return abs(truth - self.value) <= self.slack + share * truth


def body_of(card: str) -> str:
    """Return a card without the metadata that it opens with."""
    parts = re.split(r"^---[ \t]*$", card, maxsplit=2, flags=re.M)
    return parts[2] if len(parts) == 3 and not parts[0].strip() else card


def prose_of(card: str) -> str:
    """Return a card without metadata and blocks of code."""
    return _FENCE.sub("", body_of(card))


def sentences_of(card: str) -> list[str]:
    """Return the sentences of a card's prose, each on one line, those of lists and headings too; tables are left out."""
    blocks: list[list[str]] = [[]]
    for line in map(str.strip, prose_of(card).splitlines()):
        if not line or line.startswith("|"):
            blocks.append([])
        elif _BEGINS.match(line):
            blocks.append([line])
        else:
            blocks[-1].append(line)
    texts = (" ".join(" ".join(block).split()) for block in blocks)
    return [sentence for text in texts if 0 < len(text) <= _LONGEST_BLOCK for sentence in _ENDS.split(text)]


def title_of(card: str) -> str:
    """Return a card's title, less the words that say it is a card; empty where it has none."""
    title = next((line[1:_LONGEST_TITLE] for line in prose_of(card).splitlines() if line.startswith("# ")), "")
    return _SAYS_CARD.sub("", title.strip(_AROUND), count=1).strip(_AROUND)


def statements_of(card: str, name: str) -> Iterator[Statement]:
    """Yield what a card states of its model: in sentences, in tables of two columns, in its row of tables of several models.

    Args:
        name: The repository's, `ORG/NAME` or `NAME`; where that is not known the card's title, or nothing.
    """
    called = rf"(?<!\w){re.escape(name.rpartition('/')[2])}(?!\w)|" if name else ""
    own = re.compile(rf"{called}\b(?:the|this) model\b|^(?:it|its|we|these)\b", re.I)
    for sentence in sentences_of(card):
        yield from _of_sentence(sentence, sure=bool(own.search(sentence)))
    columns: list[str] = []
    for line in prose_of(card).splitlines():
        cells = [cell.strip(" *") for cell in line.strip().strip("|").split("|")] if line.strip().startswith("|") else []
        if not cells or len(line) > _LONGEST_BLOCK:
            columns = []
        elif len(cells) == 2:
            yield from _of_row(cells[:1], cells[1:], line)
        elif not columns:
            columns = cells
        elif _is_row_of(name, cells[0]) and len(cells) == len(columns):
            yield from _of_row(columns, cells, line)


def _is_row_of(name: str, cell: str) -> bool:
    """Return whether a row's first cell names a model: by a link to it, or by a size that is in its name."""
    if name and re.search(rf"huggingface\.co/{re.escape(name)}(?:/tree/[^()\s]*)?/?\)", cell):
        return True
    words, known = re.findall(r"[a-z0-9.]+", cell.lower()), set(re.split(r"[-_/\s]", name.lower()))
    return bool(words) and all(word in known for word in words) and any(re.fullmatch(r"[\d.]+[kmbt]", word) for word in words)


def _of_row(columns: list[str], cells: list[str], line: str) -> Iterator[Statement]:
    for column, cell in zip(columns, cells, strict=True):
        for quantity, form in _COMPILED_ROWS.items():
            if form.fullmatch(column) and (match := _NUMBER.search(cell)):
                yield _statement(quantity, match, line, _SCALES, sure=True)


def _of_sentence(sentence: str, *, sure: bool) -> Iterator[Statement]:
    for quantity, forms in _COMPILED.items():
        for form in forms:
            yield from (_statement(quantity, match, sentence, _SCALES, sure=sure) for match in form.finditer(sentence))
    for quantity, form in _COMPILED_BYTES.items():
        matches = form.finditer(sentence)
        yield from (_statement(f"bytes in {quantity}", match, sentence, _SIZE_UNITS, sure=True) for match in matches)


def _statement(quantity: str, match: re.Match[str], line: str, scales: dict[str, float], *, sure: bool) -> Statement:
    digits, unit = match[1].replace(",", ""), scales[(match[2] or "").lower()]
    decimals = len(digits.partition(".")[2])
    slack = _HALF * unit / 10**decimals if unit != 1 or decimals else 0.0
    return Statement(quantity, float(digits) * unit, slack, line.strip(), sure)
