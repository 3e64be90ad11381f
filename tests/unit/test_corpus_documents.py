import json

import pytest

from treering.corpus.documents import Document, is_held_out
from treering.provenance.digests import digest_bytes


def document(text="Grüße\n\u2028\x00🌲", **fields):
    parts = {"source": "a.txt", "row": 3, "domain": None, "metadata": {"n": 1, "x": 0.5, "ok": True, "none": None}}
    return Document(**{"id": digest_bytes(text.encode()), "text": text, **parts, **fields})


def test_a_line_holds_one_document_as_canonical_json():
    line = document("a", metadata={}).line()
    digest = digest_bytes(b"a")
    assert line == f'{{"domain":null,"id":"{digest}","metadata":{{}},"row":3,"source":"a.txt","text":"a"}}\n'.encode()


def test_a_line_gives_back_the_document():
    assert Document.from_line(document().line()) == document()
    assert document().line().count(b"\n") == 1


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"{}", b"\xff", b'{"id": "x", "text": "y"}'])
def test_what_is_not_a_document_is_refused(line):
    with pytest.raises(ValueError, match=r"."):
        Document.from_line(line)


def test_a_document_with_one_field_more_is_refused():
    fields = json.loads(document().line()) | {"extra": 1}
    with pytest.raises(ValueError, match="a line holds"):
        Document.from_line(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("first_bytes", "fraction", "held_out"),
    [
        ("0000000000000000", 0.001, True),
        ("7fffffffffffffff", 0.5, True),
        ("8000000000000000", 0.5, False),  # at the fraction is not below it
        ("ffffffffffffffff", 0.9999999999999999, False),
        ("028f5c28f5c28f5f", 0.01, True),
        ("028f5c28f5c28f60", 0.01, False),  # the float 0.01 times 2⁶⁴, exactly
    ],
)
def test_a_document_is_held_out_when_its_first_bytes_are_below_the_fraction(first_bytes, fraction, held_out):
    assert is_held_out(f"sha256:{first_bytes}{'f' * 48}", fraction) is held_out
