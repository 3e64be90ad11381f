"""The audit as it is typed, as a record, and as a page that nothing a stranger wrote can become part of."""

import base64
import io
import json
from html.parser import HTMLParser
from typing import Any

import matplotlib.image
import numpy as np
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

    VOID = {"meta", "img", "br"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.said, self._open = "", list[tuple[str, str]](), list[str]()
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
        self.said += [(self._open[-1], data)] if self._open else []


def bare(names: list[str], **parts: Any) -> dict[str, Any]:
    """A record of branches, with nothing but what is given."""
    return {
        "release": "acme/x",
        "branches": [{"name": name, "commit": None} for name in names],
        "findings": [],
        "looked_at": {"branches": len(names), "weights": 0, "deep": False},
        "asked": None,
        "trainings": [],
        "identical": {"branches": [], "files": {}},
        **parts,
    }


def record_of(hub: Hub, branches: Branches) -> dict:
    hub.add(branches)
    return audit(NAME, Wanted(hub.endpoint)).record()


def copied() -> Branches:
    branches = release(SMALL)
    for name in ("step4", "step8"):
        branches[name] = {**branches[name], **SMALL.weights(5)}
    return branches


def black_pixels(points: list[dict[str, Any]]) -> int:
    """How many pixels of a course's picture are black, as its axes and marks are; its line is blue."""
    picture = matplotlib.image.imread(io.BytesIO(draw_course(points, frozenset())))
    return int(np.count_nonzero(picture[..., :3].sum(axis=2) == 0))


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


def labels_of(page: Page) -> list[str]:
    """What stands beside rows, and above columns, of the matrix."""
    return [text for tag, text in page.said if tag == "text"]


def test_few_rows_and_columns_have_all_their_names_and_each_square_its_branches(hub):
    page = Page(write_page(record_of(hub, copied())))
    steps = [f"step{step}" for step in SMALL.steps]
    assert labels_of(page) == [name for step in steps for name in (step, step)]
    squares = [text for tag, text in page.said if tag == "title"][1:]
    assert squares == [*steps, *(f"{name} = step4 … step16" for name in ("step4", "step8", "step16"))]


def test_many_rows_and_columns_have_the_names_of_the_first_and_the_last():
    names = [f"stage2-ingredient3-step{step}-tokens{step // 1000}B" for step in range(0, 154_000, 1000)]
    page = Page(write_page(bare(names, identical={"branches": [[names[3], names[7]]], "files": {}})))
    first, last = "…-ingredient3-step0-tokens0B", "…ient3-step153000-tokens153B"
    assert labels_of(page) == [first, first, last, last]
    assert f"{names[3]} = {names[7]}" in [text for tag, text in page.said if tag == "title"]


def test_branches_whose_weights_are_copies_are_marked_on_the_axis(hub):
    record = record_of(hub, copied())
    (points,) = record["trainings"]
    assert [(point["branch"], point["length"] is None) for point in points] == [
        *((f"step{step}", False) for step in (0, 1, 2)),
        *((f"step{step}", True) for step in (4, 8, 16)),
    ]
    assert "triangles on the axes" in Page(write_page(record)).text
    drawn, absent = points[:3], points[3:]
    assert black_pixels(points) > black_pixels([*drawn, {**drawn[-1], "step": absent[-1]["step"]}])


def test_a_training_of_which_nothing_is_drawn_has_no_picture():
    blank = {"branch": "step0", "step": 0, "length": None, "cosine_to_first": None, "detour": None}
    page = Page(write_page(bare(["step0"], trainings=[[blank]])))
    assert "img" not in {tag for tag, _ in page.tags} and "course" not in page.text


def test_on_a_narrow_screen_pictures_scroll_and_words_break():
    names = ["step0", "step1", "step2"]
    points = [
        {"branch": name, "step": n, "length": 1.0, "cosine_to_first": 1.0, "detour": None} for n, name in enumerate(names)
    ]
    text = write_page(bare(names, trainings=[points], identical={"branches": [["step0", "step1"]], "files": {}}))
    assert '<div class="wide"><img ' in text and '<div class="wide"><svg ' in text
    assert ".wide { overflow-x: auto }" in text and "min-width: 46rem" in text and "viewBox" not in text
    assert "body { padding: 0 1rem; overflow-wrap: anywhere }" in text


@pytest.mark.parametrize(("names", "told"), [(["step4"], "1 branch"), (["step4", "step8"], "2 branches")])
def test_one_branch_is_one_on_a_page(names, told):
    finding = Finding("x", Severity.NOTE, tuple(names), "", (), "").record()
    page = Page(write_page(bare(names, findings=[finding])))
    assert [text for tag, text in page.said if tag == "summary"] == [told]


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
        *("details", "summary", "img", "svg", "g", "rect", "text", "code"),
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
