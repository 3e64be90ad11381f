"""The audit as it is typed, as a record, and as a page that nothing a stranger wrote can become part of."""

import base64
import json
from html.parser import HTMLParser

import pytest
from hub_audit_making import NAME, Branches, Hub, Training, Whole, card, release

from treering.hub.audit.findings import Finding, Severity, ranked
from treering.hub.audit.page import write_page
from treering.hub.audit.plot import draw_course
from treering.hub.audit.release import Wanted, audit
from treering.hub.strangers import named, shown

SMALL = Training(steps=(0, 1, 2, 4, 8, 16))
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x1b[31m\u202e"


class Page(HTMLParser):
    """What a page is made of: its tags with their attributes, and its text; a page whose tags do not close is none."""

    VOID = {"meta", "img", "rect", "br"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", list[str]()
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def record_of(hub: Hub, branches: Branches) -> dict:
    hub.add(branches)
    return audit(NAME, Wanted(hub.endpoint)).record()


def copied() -> Branches:
    branches = release(SMALL)
    for name in ("step4", "step8"):
        branches[name] = {**branches[name], **SMALL.weights(5)}
    return branches


def test_a_page_has_the_findings_the_course_and_the_matrix(hub):
    record = record_of(hub, copied())
    page = Page(write_page(record))
    assert "identical weights" in page.text and "step4, step8, step16" in page.text
    assert [attributes["alt"] for tag, attributes in page.tags if tag == "img"] == [
        "Length, cosine to the first branch and D of 3 branches, step0 to step2"
    ]
    squares = [attributes for tag, attributes in page.tags if tag == "rect" and attributes["fill"] == "#000"]
    assert [(square["x"], square["y"], square["width"]) for square in squares] == [
        ("72", f"{24 * row}", "72") for row in (3, 4, 5)
    ]


def test_a_page_needs_nothing_else(hub):
    text = write_page(record_of(hub, copied()))
    page = Page(text)
    sources = [
        attributes.get("src") or attributes.get("href") for _, attributes in page.tags if {"src", "href"} & attributes.keys()
    ]
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "http:" not in text and "https:" not in text and "@import" not in text


def test_a_clean_release_has_a_page_too(hub):
    page = Page(write_page(record_of(hub, release(SMALL))))
    assert "Nothing was found." in page.text and "No two branches" in page.text


def test_nothing_that_a_stranger_wrote_becomes_part_of_a_page(hub):
    branches = copied()
    branches["step1"] = {**branches["step1"], EVIL: Whole(b"x"), f"{EVIL}.pkl": Whole(b"x")}
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=f"sapling has 9 layers {EVIL} and {{a{EVIL}}}.")}
    record = record_of(hub, branches)
    assert {"card numbers", "file names", "pickles"} <= {finding["check"] for finding in record["findings"]}
    text = write_page(record)
    page = Page(text)
    assert "<script" not in text and "onerror=alert" not in text.replace("onerror=alert(2)&gt;", "")
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "table", "tr", "th", "td", "div", "p", "ul", "li"),
        *("details", "summary", "img", "svg", "rect", "code"),
    }
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "\x1b" not in text and "\u202e" not in text
    assert "alert(1)" in page.text


def test_a_page_of_whatever_record_is_whole():
    finding = {"check": EVIL, "severity": "note", "branches": [EVIL], "problem": EVIL, "evidence": [EVIL], "advice": EVIL}
    record = {
        "release": EVIL,
        "branches": [{"name": EVIL, "commit": None}],
        "findings": [finding],
        "looked_at": {"branches": 1, "weights": 0, "deep": True},
        "asked": None,
        "trainings": [],
        "identical": {"branches": [[EVIL, EVIL]], "files": {EVIL: [EVIL]}},
    }
    page = Page(write_page(record))
    assert page.text.count("alert(2)") >= 8 and "script" not in {tag for tag, _ in page.tags}


def test_a_picture_is_a_picture():
    points = [{"branch": f"step{n}", "step": n, "length": 1.0, "cosine_to_first": 1.0, "detour": None} for n in range(3)]
    assert draw_course(points, frozenset({"step1"})).startswith(b"\x89PNG")
    odd = [{**points[0], "step": 5, "detour": 900.0}]
    assert draw_course(odd, frozenset()).startswith(b"\x89PNG")


def test_the_record_says_what_was_looked_at(hub):
    record = record_of(hub, copied())
    assert record["looked_at"] == {"branches": 7, "weights": 7, "deep": False}
    assert record["asked"]["requests"] == len(hub.requests) - 1  # the list of branches is the client's own
    assert record["identical"]["branches"] == [["step4", "step8", "step16"]]
    assert record["branches"][0]["commit"] in hub.commits
    assert json.loads(json.dumps(record, allow_nan=False)) == record


# As it is typed


def test_exit_codes_say_what_was_found(hub, treering):
    hub.add(release(SMALL))
    assert treering("audit", NAME, "--endpoint", hub.endpoint)[0] == 0
    hub.add(copied(), "acme-lab/copied")
    assert treering("audit", "acme-lab/copied", "--endpoint", hub.endpoint)[0] == 1
    noted = release(SMALL)
    noted["step1"] = {**noted["step1"], "x.bin": Whole(b"x", large=True)}
    hub.add(noted, "acme-lab/noted")
    code, out, _ = treering("audit", "acme-lab/noted", "--endpoint", hub.endpoint)
    assert code == 0 and "pickles" in out
    assert treering("audit", "acme-lab/none", "--endpoint", hub.endpoint)[0] == 2
    hub.fail("/refs", 500, times=50)
    assert treering("audit", NAME, "--endpoint", hub.endpoint)[0] == 3


def test_findings_are_printed_with_evidence_and_advice(hub, treering):
    hub.add(copied())
    code, out, err = treering("audit", NAME, "--endpoint", hub.endpoint, "--html", "audit.html")
    text = " ".join(out.split())
    assert code == 1 and err == ""
    assert f"{NAME}: 7 branches, weights of 7" in text
    assert "identical weights" in text and "→ upload the right weights" in text and "audit.html" in text
    with open("audit.html", encoding="utf-8") as file:  # noqa: PTH123
        assert "identical weights" in Page(file.read()).text


def test_the_record_is_printed(hub, treering):
    hub.add(release(SMALL))
    code, out, _ = treering("audit", NAME, "--endpoint", hub.endpoint, "--json")
    record = json.loads(out)
    assert code == 0
    assert (record["format"], record["version"], record["findings"]) == ("treering/audit", 1, [])


def test_comparisons_are_printed(hub, treering):
    hub.add(release(SMALL))
    hub.add(release(Training(steps=SMALL.steps, seed=4)), "acme-lab/other")
    words = ("audit", "--compare", NAME, "acme-lab/other", "--endpoint", hub.endpoint)
    code, out, _ = treering(*words)
    assert code == 0 and "independent first weights" in out
    code, out, _ = treering(*words, "--same", "start", "--json")
    assert code == 1
    assert [finding["check"] for finding in json.loads(out)["findings"]] == ["other start"]


@pytest.mark.parametrize(
    "words",
    [
        (),
        (NAME, "--compare", NAME, NAME),
        (NAME, "--same", "start"),
        ("--compare", NAME, NAME, "--deep"),
        ("--compare", NAME, NAME, "--html", "x.html"),
        ("./not-there",),
        (NAME, "--endpoint", "no address"),
    ],
)
def test_what_makes_no_sense_is_refused(treering, words):
    code, out, err = treering("audit", *words)
    assert code == 2 and out == "" and err.startswith("treering: ")


# Words


def test_the_worst_comes_first():
    findings = [Finding("x", severity, (), "", (), "") for severity in (Severity.NOTE, Severity.ERROR, Severity.WARNING)]
    assert [finding.severity for finding in ranked(findings)] == list(Severity)


def test_strangers_words_are_cut_and_made_harmless():
    assert shown("a\x1b[31m\nb" + "c" * 1000, 20) == "a\N{REPLACEMENT CHARACTER}[31m b" + "c" * 11 + "…"
    assert named([str(n) for n in range(200)]).endswith("199 (200 in all)")
    assert named(["a", "b"]) == "a, b"
    assert len(base64.b64encode(named(["x" * 10_000] * 3).encode())) < 1000
