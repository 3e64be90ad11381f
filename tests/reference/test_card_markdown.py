"""Whatever text a person or a record holds, markdown-it reads it on the card as that text and nothing else."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from treering.card.markdown import code, escape, fenced, link, one_line, prose, split_code, table

_PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")
_NASTY = st.text(alphabet=st.sampled_from("ab 1.)#-+=*_`~<>&|\\[]()!:/$\n\t\"'{}hts\u202e\ue000\x00é字")) | st.text()
_HARMLESS = {"paragraph_open", "paragraph_close", "inline", "text", "text_special", "link_open", "link_close"}


def tokens(markdown: str) -> list[Token]:
    flat = []
    for token in _PARSER.parse(markdown):
        flat += [token, *(token.children or [])]
    return flat


def shown(markdown: str) -> str:
    return "".join(token.content for token in tokens(markdown) if token.type in ("text", "text_special", "code_inline"))


@given(_NASTY)
@example("<script>alert(1)</script>")
@example("[x](javascript:alert(1))")
@example("![x](https://example.org/x.png)")
@example("1. one\n2. two")
@example("- item")
@example("&copy; &lt;")
@example("a\n---")
@example("| a | b |\n|---|---|")
@example(":-: ")
@example("\\")
@example("https://example.org/a_b_*c* and https://x.y/?q=<b>")
def test_escaped_text_is_read_as_the_text(text):
    assert {token.type for token in tokens(escape(text))} <= _HARMLESS
    assert shown(escape(text)) == one_line(text)


@given(_NASTY)
def test_escaped_text_below_a_line_of_ours_stays_in_its_paragraph(text):
    words = one_line(text)
    markdown = f"A line of ours.\n{escape(text)}\nAnother."
    assert {token.type for token in tokens(markdown)} <= {*_HARMLESS, "softbreak"}
    assert words in shown(markdown)


@given(_NASTY)
def test_links_that_come_out_of_text_are_http_links_only(text):
    for token in tokens(prose(text)):
        if token.type == "link_open":
            assert re.match("https?://", str(token.attrs["href"]))


@given(_NASTY)
def test_text_in_a_cell_stays_in_its_cell(text):
    parsed = tokens(table(("a", "b"), [(escape(text), "x"), ("y", "z")]))
    assert [token.type for token in parsed].count("td_open") == 4
    assert {token.type for token in parsed} & {"html_inline", "html_block", "em_open", "image"} == set()


@given(_NASTY)
def test_text_in_code_stays_in_code(text):
    if words := one_line(text):
        assert shown(code(text)) == words
        assert {token.type for token in tokens(f"ours {code(text)} ours")} <= {*_HARMLESS, "code_inline"}


@given(_NASTY)
@example("```\n# escaped")
@example("````\n</code>")
def test_text_in_a_code_block_cannot_close_it(text):
    parsed = _PARSER.parse(f"{fenced('bibtex', text)}\n\nafter\n")
    assert [token.type for token in parsed] == ["fence", "paragraph_open", "inline", "paragraph_close"]


@given(_NASTY)
def test_code_blocks_are_told_from_prose_as_markdown_it_tells_them(text):
    card = f"before\n\n{fenced('bibtex', text)}\n\nafter\n"
    assert [line for line in split_code(card).prose if line] == ["before", "after"]


@pytest.mark.parametrize("text", ["a\n\nb", "a\r\n\r\nb", "a\n  \nb"])
def test_an_empty_line_parts_paragraphs(text):
    assert prose(text) == "a\n\nb"


@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\ue000", "\x00", "\x1b"])
def test_characters_that_deceive_or_mark_are_left_out(character):
    assert one_line(f"a{character}b") == "ab"


def test_versions_and_names_are_not_cluttered():
    assert escape("2.13.0+cpu") == "2.13.0+cpu"
    assert escape("x86_64") == "x86\\_64"


def test_a_link_leads_where_it_says():
    opened = next(token for token in tokens(link("our paper", "https://example.org/a(b)c_d")) if token.type == "link_open")
    assert opened.attrs["href"] == "https://example.org/a(b)c_d"
