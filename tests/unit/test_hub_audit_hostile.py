"""What strangers can write into any file or answer that an audit reads: out come findings or named errors, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub_audit_making import NAME, Branches, Hub, Training, Whole, document, release, without
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from treering.errors import FormatError, TreeringError
from treering.hub.audit import selection
from treering.hub.audit.release import Wanted, audit
from treering.hub.documents import parse_document, parse_object

STAGES = ("corpus", "tokens", "order", "checkpoints", "training", "revisions", "evaluation", "card")
SMALL = Training(steps=(0, 1, 2), hidden=8, layers=1, vocabulary=16, shards=2)
RECIPE = (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text()
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.integers() | st.sampled_from([10**400, -(10**400), 2**53, 2**63, 2**64]) | st.floats()
words = st.text(max_size=8) | st.sampled_from(["\ud800", "\x1b[31m", "../x", "F32", "step1", "sha256:" + "0" * 64, "\0"])
leaves = st.none() | st.booleans() | numbers | words
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
deep = st.integers(1, 3000).map(lambda depth: "[" * depth + "]" * depth)


def changed(good: Any) -> st.SearchStrategy[str]:
    """Documents as text: a good one of which a part is another value, any value, or one that has no end."""
    return st.builds(put, st.just(good), st.lists(st.integers(0, 20), max_size=5), values) | values.map(json.dumps) | deep


def put(good: Any, path: list[int], value: Any) -> str:
    """Return a document with another value at a place, which numbers lead to."""

    def at(part: Any, rest: list[int]) -> Any:
        if not rest or not isinstance(part, (dict, list)) or not part:
            return value
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key = keys[rest[0] % len(keys)]
        inside = at(part[key], rest[1:])
        return {**part, key: inside} if isinstance(part, dict) else [*part[:key], inside, *part[key + 1 :]]

    return json.dumps(at(good, path))


def entry(path: str) -> dict[str, Any]:
    return {"path": path, "size_bytes": 1, "digest": "sha256:" + "0" * 64}


def manifest(stage: str) -> dict[str, Any]:
    files = [entry("step0/config.json"), entry("step0/revision.json")]
    return {"format": "treering/manifest", "version": 1, "stage": stage, "stage_digest": "", "reads": {}, "files": files}


def record(step: int) -> dict[str, Any]:
    told = {"name": f"step{step}", "step": step, "files": {"config.json": "sha256:" + "0" * 64}, "run_digest": "x"}
    digests = {"weights_digest": "sha256:1", "trained_digest": "sha256:1", "checkpoint_digest": "sha256:1"}
    return {"format": "treering/revision", "version": 1, **told, **digests}


DOCUMENTS = {path: json.loads(content.read(0, content.size)) for path, content in release(SMALL)["main"].items()
             if path.endswith(".json")}  # fmt: skip
OTHERS = {"revision.json": record(2), "revisions/manifest.json": manifest("revisions"), "card/manifest.json": manifest("card")}
LINE = {"checkpoint": {"weights_digest": "sha256:1"}, "format": "treering/ledger", "step": 0, "tokens": 0, "version": 1}


def published() -> Branches:
    """A release that has everything that an audit reads."""
    branches = release(SMALL)
    for step in SMALL.steps:
        branches[f"step{step}"]["revision.json"] = document(record(step))
    more = {f"{stage}/manifest.json": document(manifest(stage)) for stage in STAGES}
    ledger = Whole(json.dumps(LINE, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    branches["main"] |= {**more, "revision.json": document(record(2)), "recipe.yaml": Whole(RECIPE.encode())}
    branches["main"]["training/ledger.jsonl"] = ledger
    return branches


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("release")
    for name, files in published().items():
        for path, content in files.items():
            (place / name / path).parent.mkdir(parents=True, exist_ok=True)
            (place / name / path).write_bytes(content.read(0, content.size))
    return place


def look(folder: Path, branch: str, path: str, content: bytes) -> None:
    """Audit the release with one file changed, and refuse whatever comes out but findings that can be shown."""
    good = (folder / branch / path).read_bytes()
    (folder / branch / path).write_bytes(content)
    try:
        for deep in (False, True):
            found = audit(str(folder), Wanted(deep=deep)).record()
            json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
            for finding in found["findings"]:
                texts = [finding["problem"], finding["advice"], *finding["evidence"]]
                assert all(text.isprintable() and len(text) < 3000 for text in texts), texts
    except TreeringError as error:
        assert str(error)
    finally:
        (folder / branch / path).write_bytes(good)


def test_the_release_itself_is_read(folder):
    found = audit(str(folder), Wanted(deep=True))
    assert found.record()["looked_at"] == {"branches": 4, "weights": 4, "deep": True}
    assert {finding.check for finding in found.findings} >= {"records", "missing branches"}


@pytest.mark.parametrize("path", [*DOCUMENTS, *OTHERS])
@pytest.mark.parametrize("branch", ["main", "step1"])
@FEW
@given(data=st.data())
def test_no_document_makes_an_audit_fail(folder, branch, path, data):
    if (folder / branch / path).exists():
        text = data.draw(changed({**DOCUMENTS, **OTHERS}[path]))
        look(folder, branch, path, text.encode(errors="surrogatepass"))


@FEW
@given(text=changed({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"format": "pt"}}))
@example(text='{"a": {"dtype": [], "shape": [2], "data_offsets": [0, 8]}}')
@example(text='{"\\ud800": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}')
@example(text='{"a": {"dtype": "F32", "shape": [0, %s], "data_offsets": [0, 0]}}' % ("9" * 4000))
def test_no_header_makes_an_audit_fail(folder, text):
    content = text.encode(errors="surrogatepass")
    look(folder, "step1", "model-00001-of-00002.safetensors", len(content).to_bytes(8, "little") + content + bytes(8))


@FEW
@given(text=changed(LINE) | st.text())
def test_no_ledger_makes_an_audit_fail(folder, text):
    look(folder, "main", "training/ledger.jsonl", text.encode(errors="surrogatepass") + b"\n")


@FEW
@given(text=values.map(json.dumps) | st.text(), head=st.sampled_from(["", "training:\n  steps: ", "checkpoints: ", "name: "]))
@example(text="9" * 5000, head="training:\n  steps: ")
def test_no_recipe_makes_an_audit_fail(folder, text, head):
    look(folder, "main", "recipe.yaml", (head + text).encode(errors="surrogatepass"))
    tail = RECIPE.partition("steps:")
    look(
        folder, "main", "recipe.yaml", (tail[0] + "steps: " + text + "\n" + tail[2].partition("\n")[2]).encode(errors="replace")
    )


@FEW
@given(text=values.map(json.dumps) | st.text(), head=st.sampled_from(["license: ", "", "model-index:\n- name: "]))
def test_no_front_matter_makes_an_audit_fail(folder, text, head):
    look(
        folder,
        "main",
        "README.md",
        f"---\n{head}{text}\n---\n# sapling\nIt has {text} layers.\n".encode(errors="surrogatepass"),
    )


@FEW
@given(text=changed([{"type": "file", "path": "config.json", "oid": "a" * 40, "size": 3, "lfs": {"oid": "b" * 64, "size": 3}}]))
@example(text=json.dumps([{"type": "file", "path": "x", "oid": "a" * 40, "size": 4 * 10**400}]))
def test_no_list_of_files_makes_an_audit_fail(hub, text):
    answered(hub, "/tree/", text)


@FEW
@given(text=changed({"branches": [{"name": "main", "targetCommit": "a" * 40}], "tags": [{"name": "v1"}]}))
@example(text='{"branches": [{"name": 3, "targetCommit": "%s"}]}' % ("a" * 40))
@example(text='{"branches": [{"name": "main", "targetCommit": "%s"}], "tags": [{"name": []}]}' % ("a" * 40))
def test_no_list_of_branches_makes_an_audit_fail(hub, text):
    answered(hub, "/refs", text)


def answered(hub: Hub, part: str, text: str) -> None:
    hub.add(without(release(SMALL), ["step1"]))
    hub.answers = {part: text.encode(errors="surrogatepass")}
    try:
        json.dumps(audit(NAME, Wanted(hub.endpoint)).record(), allow_nan=False)
    except TreeringError as error:
        assert str(error)


# The documents themselves


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[" * 65 + b"]" * 65, "nested too deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nested too deep"),
        (b"[" + b"1," * 4_000_000 + b"1]", "too many values"),
        (b"1" * 5000, "no JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_document_that_no_file_in_use_is_like_is_refused(content, problem):
    with pytest.raises(FormatError, match=problem):
        parse_document(content, "here")


def test_documents_are_read_as_everybody_reads_them():
    assert parse_document(b'{"a": [1, NaN, -Infinity], "a": 2}', "here") == {"a": 2}
    assert parse_document(b"[NaN, Infinity]", "here") == ["NaN", "Infinity"]
    assert parse_document(b"[" * 64 + b"]" * 64, "here")
    with pytest.raises(FormatError, match="no JSON"):
        parse_object(b'{"a": 1, "a": 2}', "here", repeats=False)
    with pytest.raises(FormatError, match="no JSON object"):
        parse_object(b"[]", "here")


# How much is kept


def test_files_that_are_too_many_are_left_out_and_told_of(hub, monkeypatch):
    branches = release(Training())
    for number, files in enumerate(branches.values()):
        files["tokenizer.json"] = document({**json.loads(files["tokenizer.json"].content), "version": str(number)})
    size = branches["step1"]["tokenizer.json"].size
    hub.add(branches)
    whole = audit(NAME, Wanted(hub.endpoint))
    assert "unreadable files" not in {finding.check for finding in whole.findings}
    monkeypatch.setattr(selection, "MOST_KEPT_BYTES", 9 * size)
    hub.requests.clear()
    found = audit(NAME, Wanted(hub.endpoint))
    (finding,) = [finding for finding in found.findings if finding.check == "unreadable files"]
    read = [request for request in hub.requests if request.endswith("/tokenizer.json")]
    assert 3 < len(read) < len(branches) and len(read) + len(finding.branches) == len(branches)
    assert sum(map(len, found.contents.texts.values())) <= 9 * size


def test_files_longer_than_any_in_use_are_not_asked_for(hub):
    class Long(Whole):
        def __init__(self, size: int) -> None:
            super().__init__(b"{}")
            self.size = size

    for path, most in (("config.json", 4_000_000), ("tokenizer.json", 64_000_000)):
        branches = release(SMALL)
        branches["step1"] = {**branches["step1"], path: Long(most + 1)}
        hub.requests.clear()
        hub.add(branches)
        found = audit(NAME, Wanted(hub.endpoint)).findings
        told = [finding.branches for finding in found if finding.check == "unreadable files"]
        assert told == [("step1",)]
        assert len([request for request in hub.requests if request.endswith(f"/{path}")]) == 1


def test_of_documents_few_are_held_parsed(hub, monkeypatch):
    monkeypatch.setattr("treering.hub.audit.contents._MOST_PARSED_BYTES", 3000)
    branches = release(Training())
    for number, files in enumerate(branches.values()):
        files["tokenizer.json"] = document({**json.loads(files["tokenizer.json"].content), "version": str(number)})
    hub.add(branches)
    found = audit(NAME, Wanted(hub.endpoint))
    assert [finding.check for finding in found.findings] == ["tokenizer changes"]
    held = found.contents._documents
    assert 0 < sum(len(found.contents.texts[digest]) for digest in held) <= 3000


def test_tensors_and_numbers_that_are_too_many_are_told_of(hub, monkeypatch):
    hub.add(release(SMALL))
    for limit in ("_MOST_TENSORS", "_MOST_NUMBERS"):
        assert audit(NAME, Wanted(hub.endpoint)).findings == []
        with monkeypatch.context() as patched:
            patched.setattr(f"treering.hub.audit.reading.{limit}", 20)
            found = audit(NAME, Wanted(hub.endpoint)).findings
        assert "unreadable files" in {finding.check for finding in found}
