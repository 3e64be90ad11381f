"""What a person sees: a repository's card, how to load it, its branches, and their files."""

import base64
import functools
import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from urllib.parse import quote

from markdown_it import MarkdownIt
from markdown_it.token import Token

from treering.hub.serving.addresses import file_path, files_path, page_path
from treering.hub.serving.card_metadata import read_card
from treering.hub.serving.objects import Commit
from treering.hub.serving.shelf import Repository, in_training
from treering.revisions.branches import MAIN

_STYLE = """
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; font: 1rem/1.55 system-ui, sans-serif }
body { color: #222; background: #fff }
h1, h2, h3 { line-height: 1.25 } a { color: #1a5fb4 } img { max-width: 100% } hr { border: 0; border-top: 1px solid #ccc }
code, pre { font: .9em/1.45 ui-monospace, monospace; background: #f4f4f4 } pre { padding: .8rem; overflow-x: auto }
table { border-collapse: collapse; display: block; overflow-x: auto } th, td { border: 1px solid #ccc; padding: .25rem .6rem }
th { text-align: left } .right { text-align: right } .center { text-align: center } article { margin-top: 2rem }
h1, .path { overflow-wrap: anywhere }
@media (max-width: 30rem) { table { font-size: .875rem } th, td { padding: .25rem .35rem } }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b } a { color: #8ab4f8 }
  code, pre { background: #2a2a2a } th, td, hr { border-color: #555 } article img { background: #fff }
}
"""
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; img-src 'self'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'"
_SHOWN_BRANCHES = 24
_SHOWN_FILES = 5000
_SHOWN_DIGITS = 12
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//|#|/")
_NOT_IN_IDS = re.compile(r"[^\w -]")
_TEXTS = ("text", "code_inline", "softbreak")
_ALIGNMENT = re.compile(r"text-align:(right|center)")


def page_headers() -> dict[str, str]:
    """Return the headers of every page: nothing runs in it, and nothing is fetched from elsewhere."""
    return {"Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'"}


def front_page(repositories: Sequence[Repository], endpoint: str) -> str:
    """Return the page that lists repositories."""
    listed = _listed(repositories) if repositories else "<p>There is no repository here yet.</p>"
    return _page("treering serve", f"<h1>Repositories</h1>{_setting(endpoint)}{listed}")


def repository_page(repository: Repository, endpoint: str, beside: Sequence[Repository] = ()) -> str:
    """Return a repository's page: its branches, and the card of `main` as text, whatever HTML it holds.

    Args:
        repository: What the page is about.
        endpoint: The server's address.
        beside: Other repositories that it is to lead to.

    Raises:
        Refusal: When the card's content is no longer what it was.
    """
    name = html.escape(repository.name)
    others = f"<p>Beside it:</p>{_listed(beside)}" if beside else ""
    return _page(name, f"<h1>{name}</h1>{_setting(endpoint)}{_branches(repository)}{others}{_card(repository)}")


def files_page(repository: Repository, revision: str, commit: Commit) -> str:
    """Return the page of a commit's files, as a revision that was asked for."""
    page = page_path(repository.kind, repository.name)
    shown = sorted(commit.files.items())[:_SHOWN_FILES]
    more = "" if len(shown) == len(commit.files) else f"<p>and {len(commit.files) - len(shown):,} more</p>"
    rows = "".join(
        f'<tr><td class="path">{_link(file_path(page, commit.id, path), path)}</td>{_numbers(file.size_bytes)}</tr>'
        for path, file in shown
    )
    name = html.escape(revision)
    head = f'<h1>{_link(page, repository.name)}</h1><p class="path">Files of <code>{name}</code>, commit {commit.id}</p>'
    return _page(
        f"{html.escape(repository.name)}, {name}",
        f'{head}<table><tr><th>File</th><th class="right">Bytes</th></tr>{rows}</table>{more}',
    )


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}</body></html>'


def _setting(endpoint: str) -> str:
    return f"<p>Hugging Face's clients read from here where this is set:</p><pre>HF_ENDPOINT={html.escape(endpoint)}</pre>"


def _listed(repositories: Sequence[Repository]) -> str:
    items = "".join(f"<li>{_link(page_path(one.kind, one.name), one.name)} ({one.kind})</li>" for one in repositories)
    return f"<ul>{items}</ul>"


def _link(address: str, text: str, title: str = "") -> str:
    told = f' title="{html.escape(title)}"' if title else ""
    return f'<a href="{html.escape(address)}"{told}>{html.escape(text)}</a>'


def _numbers(*numbers: int) -> str:
    return "".join(f'<td class="right">{number:,}</td>' for number in numbers)


def _branches(repository: Repository) -> str:
    refs = repository.refs
    rows = [_row(repository, name, refs.branches[name]) for name in sorted(refs.branches, key=in_training)]
    rows += [_row(repository, name, commit, " (tag)") for name, commit in sorted(refs.tags.items())]
    header = '<tr><th>Branch</th><th>Commit</th><th class="right">Files</th><th class="right">Bytes</th></tr>'
    shown = " open" if len(rows) <= _SHOWN_BRANCHES else ""
    count = f"{len(refs.branches)} branch{'es' if len(refs.branches) != 1 else ''}"
    return f"<details{shown}><summary>{count}</summary><table>{header}{''.join(rows)}</table></details>"


def _row(repository: Repository, name: str, commit_id: str, kind: str = "") -> str:
    commit = repository.commit(commit_id)
    sizes = [] if commit is None else [file.size_bytes for file in commit.files.values()]
    page = page_path(repository.kind, repository.name)
    branch, digits = (
        _link(files_path(page, revision), shown, title)
        for revision, shown, title in ((name, name, ""), (commit_id, commit_id[:_SHOWN_DIGITS], commit_id))
    )
    cells = f"<td><code>{branch}</code>{kind}</td><td><code>{digits}</code></td>"
    return f"<tr>{cells}{_numbers(len(sizes), sum(sizes))}</tr>"


def _card(repository: Repository) -> str:
    commit = repository.commit(repository.refs.branches.get(MAIN, ""))
    card = None if commit is None else read_card(repository, commit)
    if card is None or commit is None:
        return "<p>There is no card here.</p>"
    metadata = "" if card.metadata is None else f"<pre>{html.escape(card.metadata)}</pre>"
    folded = metadata and f"<details><summary>Metadata</summary>{metadata}</details>"
    files = file_path(page_path(repository.kind, repository.name), commit.id)
    return f"<article>{folded}{_rendered(card.text, files)}</article>"


@functools.lru_cache(maxsize=16)
def _rendered(text: str, files: str) -> str:
    """Return Markdown as HTML: raw HTML in it as text, what it links to beside it under the address of the commit's files."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for token in _all(tokens):
        for name in ("src", "href"):
            if (target := token.attrGet(name)) is not None and not _ADDRESS.match(str(target)):
                token.attrSet(name, files + quote(str(target), safe="/#?%"))
        if match := _ALIGNMENT.fullmatch(str(token.attrs.pop("style", ""))):
            token.attrSet("class", match[1])  # the policy allows no style of an element's own
    _name_headings(tokens)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give each heading the id that GitHub gives it, for links within a card; where several are alike, a number more."""
    seen = Counter[str]()
    for token, inside in pairwise(tokens):
        if token.type == "heading_open":
            name = _NOT_IN_IDS.sub("", _text(inside).lower()).replace(" ", "-")
            if name:
                token.attrSet("id", f"{name}-{seen[name]}" if seen[name] else name)
            seen[name] += 1


def _text(inside: Token) -> str:
    return "".join(part.content or " " for part in inside.children or () if part.type in _TEXTS)


def _all(tokens: Iterable[Token]) -> Iterable[Token]:
    for token in tokens:
        yield token
        yield from _all(token.children or ())
