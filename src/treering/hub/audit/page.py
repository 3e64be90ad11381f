"""An audit as one web page that needs nothing else: findings with their evidence, the course of the weights, what is equal."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from treering.hub.audit.findings import Severity
from treering.hub.audit.plot import draw_course
from treering.hub.listed import branches_text
from treering.hub.strangers import shown

_MOST_COURSES = 6
_MATRIX_PIXELS, _LARGEST_CELL, _SMALLEST_LABELLED_CELL = 720, 24, 15
_LABEL_LETTERS, _LETTER_PIXELS = 28, 7.5  # of a branch's name at most, its end
_MOST_SHOWN_NAMES = 400
_SIGNS = {Severity.ERROR: "✖", Severity.WARNING: "▲", Severity.NOTE: "●"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem; margin: 2rem auto }
body { padding: 0 1rem; overflow-wrap: anywhere } h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.5rem }
code, .evidence, text { font-family: ui-monospace, monospace } text { font-size: 12px }
.wide { overflow-x: auto } .wide img { width: 100%; min-width: 46rem; height: auto }
.finding { border-left: 6px solid #999; padding: .2rem 0 .2rem 1rem; margin: 1.2rem 0 }
.error { border-left-color: #000 } .warning { border-left-style: double } .note { border-left-style: dotted }
.finding p { margin: .2rem 0 } .kind { font-weight: 700 }
.evidence { font-size: .85rem; margin: .3rem 0; padding-left: 1.2rem }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: left }
"""


def write_page(record: Mapping[str, Any]) -> str:
    """Return the page of an audit's record; whatever a stranger wrote is text on it, and nothing else."""
    title = f"Audit of {_safe(record['release'])}"
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *_summary(record),
        "<h2>Findings</h2>",
        *(map(_finding, record["findings"]) if record["findings"] else ["<p>Nothing was found.</p>"]),
        *_courses(record),
        *_identical(record),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _summary(record: Mapping[str, Any]) -> Iterator[str]:
    looked, asked = record["looked_at"], record["asked"]
    counts = {kind: sum(finding["severity"] == kind for finding in record["findings"]) for kind in Severity}
    rows = [(f"{_SIGNS[kind]} {kind}s", f"{count:,}") for kind, count in counts.items()]
    rows += [("branches", f"{looked['branches']:,}"), ("of which weights were seen", f"{looked['weights']:,}")]
    rows += [("every number read", "yes" if looked["deep"] else "no, a few of each branch")]
    if asked is not None:
        rows += [("requests", f"{asked['requests']:,}"), ("bytes read", f"{asked['bytes_read']:,}")]
    yield "<table>" + "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows) + "</table>"


def _finding(finding: Mapping[str, Any]) -> str:
    kind = Severity(finding["severity"])
    evidence = "".join(f"<li>{_safe(line)}</li>" for line in finding["evidence"])
    names = [_safe(name) for name in finding["branches"][:_MOST_SHOWN_NAMES]]
    more = "" if len(finding["branches"]) == len(names) else " …"
    branches = f"<details><summary>{branches_text(len(finding['branches']))}</summary><p>{', '.join(names)}{more}</p></details>"
    return (
        f'<div class="finding {kind}"><p class="kind">{_SIGNS[kind]} {kind}: {_safe(finding["check"])}</p>'
        f'<p>{_safe(finding["problem"])}</p><ul class="evidence">{evidence}</ul>'
        f"<p>→ {_safe(finding['advice'])}</p>{branches if names else ''}</div>"
    )


def _courses(record: Mapping[str, Any]) -> Iterator[str]:
    found = frozenset(name for finding in record["findings"] for name in finding["branches"])
    courses = [points for points in record["trainings"] if _drawn(points)][:_MOST_COURSES]
    if courses:
        yield "<h2>The course of the weights</h2>"
        yield (
            "<p>Medians over the matrices that were looked at, of branches whose weights are their own. D compares how far a "
            "branch is from its neighbours with how far those are from each other: drift gives ½, a random walk 1, jitter 2; "
            "the dashed line is where a branch is told of. Crosses are branches with findings; triangles on the axes are those "
            "that have no point, since some of their weights are another branch's or could not be read.</p>"
        )
    for points in courses:
        picture = base64.b64encode(draw_course(points, found)).decode()
        drawn = _drawn(points)
        told = f"Length, cosine to the first branch and D of {branches_text(len(drawn))}, {_safe(drawn[0]['branch'])} to "
        image = f'<img alt="{told}{_safe(drawn[-1]["branch"])}" src="data:image/png;base64,{picture}">'
        yield f'<div class="wide">{image}</div>'


def _drawn(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [point for point in points if point["length"] is not None]


def _identical(record: Mapping[str, Any]) -> Iterator[str]:
    names = [branch["name"] for branch in record["branches"] if branch["name"] != "main"]
    whole, files = record["identical"]["branches"], record["identical"]["files"]
    yield "<h2>Identical weights</h2>"
    if not whole and not files:
        yield "<p>No two branches have a file of weights in common.</p>"
        return
    told = "black where all files of weights are the same, grey where some are"
    yield f"<p>Branches in the order of the training, from the top left: {told}. Pointed at, a square says its branches.</p>"
    yield f'<div class="wide">{_matrix(names, whole, list(files.values()))}</div>'
    yield "<ul>"
    for group in whole:
        yield f"<li>{len(group)} with all files the same: {', '.join(map(_safe, group[:_MOST_SHOWN_NAMES]))}</li>"
    for digest, group in files.items():
        yield f"<li><code>{_safe(digest)}</code>: {', '.join(map(_safe, group[:_MOST_SHOWN_NAMES]))}</li>"
    yield "</ul>"


def _matrix(names: Sequence[str], whole: Sequence[Sequence[str]], partial: Sequence[Sequence[str]]) -> str:
    place = {name: number for number, name in enumerate(names)}
    cell = max(1, min(_LARGEST_CELL, _MATRIX_PIXELS // max(1, len(names))))
    side = cell * len(names)
    drawn = [*_cells(partial, place, cell, "#aaa"), *_cells([[name] for name in names], place, cell, "#ddd")]
    drawn += _cells(whole, place, cell, "#000")
    labelled = range(len(names)) if cell >= _SMALLEST_LABELLED_CELL else sorted({0, len(names) - 1})
    labels = {number: _label(names[number]) for number in labelled}
    margin = 12 + round(_LETTER_PIXELS * max((len(text) for text in labels.values()), default=0))
    written = "".join(_labels(number, _safe(text), cell) for number, text in labels.items())
    frame = f'<rect width="{side}" height="{side}" fill="none" stroke="#000"/>'
    told, whole_side = f"{len(names)} by {branches_text(len(names))}", margin + side + 12
    opening = f'<svg role="img" aria-label="{told}" width="{whole_side}" height="{whole_side}">'
    return f'{opening}<g transform="translate({margin} {margin})">{"".join(drawn)}{frame}{written}</g></svg>'


def _label(name: str) -> str:
    """Return a branch's name as it stands beside its row; of a long one the end, which says the step."""
    text = shown(name)
    return text if len(text) <= _LABEL_LETTERS else f"…{text[1 - _LABEL_LETTERS :]}"


def _labels(number: int, text: str, cell: int) -> str:
    """Return what stands left of a row and above its column."""
    middle = number * cell + cell / 2 + 4
    row = f'<text x="-6" y="{middle:g}" text-anchor="end">{text}</text>'
    return f'{row}<text transform="translate({middle:g} -6) rotate(-90)">{text}</text>'


def _cells(groups: Sequence[Sequence[str]], place: Mapping[str, int], cell: int, colour: str) -> Iterator[str]:
    """Yield the squares of a matrix in which branches of a group meet, those in a row as one piece, with their names."""
    names = list(place)
    for group in groups:
        columns = sorted(place[name] for name in group if name in place)
        runs: list[list[int]] = []
        for column in columns:
            if runs and runs[-1][1] == column:
                runs[-1][1] += 1
            else:
                runs.append([column, column + 1])
        for row in columns:
            for start, stop in runs:
                size = f'width="{(stop - start) * cell}" height="{cell}"'
                title = f"<title>{_met(names[row], names[start:stop])}</title>"
                yield f'<rect x="{start * cell}" y="{row * cell}" {size} fill="{colour}">{title}</rect>'


def _met(name: str, others: Sequence[str]) -> str:
    """Return which branches meet in a square, of several columns the first and the last."""
    met = others[0] if len(others) == 1 else f"{others[0]} … {others[-1]}"
    return _safe(name) if met == name else f"{_safe(name)} = {_safe(met)}"


def _safe(text: object) -> str:
    return escape(shown(text, 600))
