"""The card besides its numbers: what was left to fill in, links that lead nowhere, the license, the number type."""

import re
from collections.abc import Iterator

from treering.hub.audit.contents import Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.statements import body_of, prose_of, sentences_of
from treering.hub.audit.tensors import main_dtype
from treering.hub.branches import place_of
from treering.hub.listed import Branch
from treering.hub.strangers import named, shown

_PLACEHOLDER = re.compile(
    r"(?<![\\$^_\w}])\{[A-Za-z][^{}\n]{0,300}\}|\[(?:More Information Needed|TODO|TBD)\]|\bTODO\b|<(?:model|your)[-_ ]\w+>"
)
_IN_CODE = re.compile(r"(?<![\\$\w])\{[A-Za-z][A-Za-z _-]{0,60}\}")
_FENCE = re.compile(r"^(```|~~~)[^\n]*\n(.*?)^\1", re.M | re.S)
_FORMATTED = re.compile(r"""\b[fF][rR]?["']|\.format\(|^\s*@|=\s*\{""")
_TREE = re.compile(r"huggingface\.co/([\w.-]{1,100}/[\w.-]{1,100})/tree/([\w./-]{1,200})")
_NAMES = re.compile(r"""revision\s*=\s*["']([^"'{\n]{1,200})["']|--revision[ =]([\w./-]{1,200})|`([\w-]{1,100})`""")
_LICENSES = {
    "apache-2.0": re.compile(r"apache[- ](?:license,? )?(?:version )?2(?:\.0)?", re.I),
    "mit": re.compile(r"\bMIT\b"),
    "cc-by-4.0": re.compile(r"\bCC[- ]BY[- ]4\.0", re.I),
    "gpl-3.0": re.compile(r"\b(?<![LA])GPL(?:v| |-)?3", re.I),
    "llama2": re.compile(r"llama 2 (?:community )?license", re.I),
}
_LICENSE_LINE = re.compile(r"licen[sc]e", re.I)
_LICENSE_ENTRY = re.compile(r"^license:\s*[\"']?([\w.+-]+)", re.M)
_DTYPE_LINE = re.compile(
    r"\b(?:trained|released?|published|saved|stored|weights are)\b[^.\n]{0,80}\b(fp16|float16|bf16|bfloat16|fp32|float32)\b",
    re.I,
)
_LONGEST_LINE = 20_000
_DTYPES = {"fp16": "F16", "float16": "F16", "bf16": "BF16", "bfloat16": "BF16", "fp32": "F32", "float32": "F32"}


def check_card_text(contents: Contents) -> Iterator[Finding]:
    """Yield what is wrong with the card's words; that there is no card, where there is a `main` to have one."""
    main = contents.listing.main
    card = contents.card
    if main is None:
        return
    if card is None:
        problem = "the release has no card"
        yield Finding(
            "card", Severity.WARNING, ("main",), problem, (), "write one: what it is, how it was made, how to cite it"
        )
        return
    yield from _placeholders(card)
    yield from _links(contents, card)
    yield from _license(card)
    yield from _dtype(contents, main, card)


def _placeholders(card: str) -> Iterator[Finding]:
    found = [match[0] for match in _PLACEHOLDER.finditer(re.sub(r"`[^`\n]*`", "", prose_of(card)))]
    for fence in _FENCE.finditer(body_of(card)):
        lines = [line for line in fence[2].splitlines() if not _FORMATTED.search(line)]
        found += [match[0] for line in lines for match in _IN_CODE.finditer(line)]
    if found:
        problem = f"{len(found)} places on the card were left to fill in"
        evidence = (named([shown(place, 60) for place in dict.fromkeys(found)], 8),)
        yield Finding("card placeholders", Severity.WARNING, (), problem, evidence, "fill them in, or take them out")


def _links(contents: Contents, card: str) -> Iterator[Finding]:
    names, found = set(contents.listing.names), dict[str, str]()
    for line in body_of(card).splitlines():
        for name in _named_in(contents, line[:_LONGEST_LINE]):
            if name not in names and name.partition("/")[0] not in names:
                found.setdefault(name, line.strip())
    if found:
        problem = f"the card names branches that are not there: {named(list(found))}"
        evidence = tuple(shown(line) for line in list(dict.fromkeys(found.values()))[:3])
        yield Finding("card links", Severity.WARNING, (), problem, evidence, "publish them, or correct the card")


def _named_in(contents: Contents, line: str) -> Iterator[str]:
    """Yield what a line says are branches of this release: links, arguments of calls and commands, steps in code."""
    yield from (match[2].rstrip("./") for match in _TREE.finditer(line) if match[1] == contents.listing.name)
    for match in _NAMES.finditer(line):
        if match[3] is None:
            yield (match[1] or match[2]).rstrip("./")
        elif _like_a_branch(contents, match[3]):
            yield match[3]


def _like_a_branch(contents: Contents, name: str) -> bool:
    """Return whether a word in code reads as a branch of this release: a step named as its own branches are."""
    place = place_of(name)
    series = {branch.series for branch in contents.listing.branches}
    return place is not None and any(start and name.startswith(start) for start in series)


def _license(card: str) -> Iterator[Finding]:
    head = card[: len(card) - len(body_of(card))]
    entry = _LICENSE_ENTRY.search(head)
    lines = [line for line in sentences_of(card) if _LICENSE_LINE.search(line)]
    said = {name: line for line in lines for name, form in _LICENSES.items() if form.search(line)}
    if entry is None:
        advice = "write `license:` into the card's metadata: the Hub and its users go by it"
        problem = "the card's metadata name no license"
        yield Finding("card license", Severity.WARNING, (), problem, tuple(map(shown, said.values()))[:2], advice)
    elif said and entry[1].lower() in _LICENSES and entry[1].lower() not in said:
        name, line = next(iter(said.items()))
        problem = f"the card's metadata say license {shown(entry[1], 60)}, and its text {name}"
        yield Finding("card license", Severity.WARNING, (), problem, (shown(line),), "say one of them")


def _dtype(contents: Contents, main: Branch, card: str) -> Iterator[Finding]:
    """Yield where the card says of the weights a number type that they do not have."""
    weights = contents.weights(main)
    matches = [match for line in sentences_of(card) for match in _DTYPE_LINE.finditer(line)]
    stated = {_DTYPES[match[1].lower()]: match[0] for match in matches}
    if weights is not None and stated and main_dtype(weights) not in stated:
        found, line = main_dtype(weights), next(iter(stated.values()))
        problem = f"the card says {', '.join(stated)} of training or weights, and the weights are {found}"
        advice = "say in which number type the model was trained, and in which it is published"
        yield Finding("number types apart", Severity.WARNING, ("main",), problem, (shown(line),), advice)
