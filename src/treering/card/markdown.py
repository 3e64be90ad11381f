"""Markdown from text that is not trusted: whatever it holds, it is read as text."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")
# What begins a heading, a list, a rule or a table where it begins a line.
_OPENING = re.compile(r"^([#+=:-]|\d{1,9}(?=[.)](?:\s|$)))")
_URL = re.compile(r"https?://[^\s<>\"'`\\{}|^]*[^\s<>\"'`\\{}|^.,;:!?)\]*_~]")
_BACKTICKS = re.compile(r"`+")
_BAR, _ESCAPED_BAR = re.compile(r"(?<!\\)\|"), r"\\|"
_FENCE = re.compile(r"^(`{3,})")
# Text that changes the direction of what follows can show other than it says.
_DIRECTION_CONTROLS = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def one_line(text: str) -> str:
    """Return a text on one line, without control, private-use and direction-changing characters."""
    kept = (character for character in " ".join(text.split()) if _is_text(character))
    return " ".join("".join(kept).split())


def escape(text: str) -> str:
    """Return one line of Markdown that reads as the text: no markup, no HTML; http(s) addresses become links."""
    line, parts, end = one_line(text), [], 0
    for match in _URL.finditer(line):
        parts += [_escape_words(line[end : match.start()]), f"<{match[0]}>"]
        end = match.end()
    parts.append(_escape_words(line[end:]))
    return _OPENING.sub(_protect, "".join(parts))


def prose(text: str) -> str:
    """Return paragraphs of Markdown that read as the text; an empty line parts two paragraphs."""
    paragraphs = (escape(paragraph) for paragraph in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def code(text: str) -> str:
    """Return inline code."""
    line = one_line(text)
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(line)), default=0))
    padding = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def link(label: str, url: str) -> str:
    """Return a link; `label` is Markdown already, `url` a checked http(s) address or a file of the repository."""
    return f"[{label}](<{url}>)"


def fenced(language: str, text: str) -> str:
    """Return a code block that its own text cannot close."""
    lines = ["".join(filter(_is_text, line.expandtabs(4))).rstrip() for line in text.strip("\n").splitlines()]
    body = "\n".join(lines)
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(body)), default=0))
    return f"{fence}{language}\n{body}\n{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are Markdown already, on one line each."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(_BAR.sub(_ESCAPED_BAR, cell) for cell in cells)} |" for cells in lines)


def bullets(items: Sequence[str]) -> str:
    """Return a list; items are Markdown already, on one line each."""
    return "\n".join(f"- {item}" for item in items)


class SplitText(NamedTuple):
    """The lines of a Markdown text: its front matter, its fenced code (with the fences), and all others."""

    front_matter: list[str]
    code: list[str]
    prose: list[str]


def split_code(text: str) -> SplitText:
    """Tell a card's front matter and code blocks from its prose."""
    split, lines, fence = SplitText([], [], []), text.split("\n"), ""
    if lines[0] == "---" and "---" in lines[1:]:
        end = lines.index("---", 1) + 1
        split.front_matter.extend(lines[:end])
        lines = lines[end:]
    for line in lines:
        match = _FENCE.match(line)
        opens, closes = match is not None and not fence, bool(fence) and line.strip() == fence
        (split.code if fence or opens else split.prose).append(line)
        if opens and match:
            fence = match[1]
        elif closes:
            fence = ""
    return split


def _escape_words(text: str) -> str:
    marked = _SPECIAL.sub(r"\\\1", text)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _protect(match: re.Match[str]) -> str:
    return match[0] + "\\" if match[0].isdigit() else "\\" + match[0]


def _is_text(character: str) -> bool:
    return unicodedata.category(character) not in ("Cc", "Co", "Cs", "Cn") and ord(character) not in _DIRECTION_CONTROLS
