"""How the audit asks a Hub: as often as it allows, again where it says so, for no more than is wanted; and what it believes."""

import json
import socket
import time

import pytest
from hub_audit_making import NAME, Branches, Hub, Shard, Training, Whole, document, release, settings

from treering.errors import EnvironmentMismatch, FormatError, InputError
from treering.hub.asking import Asking
from treering.hub.audit.findings import Severity
from treering.hub.audit.headers import read_header
from treering.hub.audit.release import Wanted, audit
from treering.hub.client import open_repository
from treering.hub.listed import plain
from treering.hub.pace import Pace, seconds_asked
from treering.provenance.progress import SILENCE

SMALL = Training(steps=(0, 1, 2, 4))


class Watched:
    """Someone who waits, and is told why."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.slept: list[float] = []

    def advance(self, amount: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def asking(hub: Hub, watched: Watched, tmp_path) -> Asking:
    return Asking(open_repository(NAME, hub.endpoint, tmp_path), watched, watched.sleep)


def look(hub: Hub, branches: Branches):
    hub.add(branches)
    return audit(NAME, Wanted(hub.endpoint))


def commit(hub: Hub) -> str:
    return next(iter(hub.commits))


def test_a_part_of_a_file_is_all_that_is_sent(hub, tmp_path):
    hub.add({"main": {"model.safetensors": Whole(bytes(range(250)) * 1000, large=True)}})
    asked = asking(hub, Watched(), tmp_path)
    assert asked.read(commit(hub), "model.safetensors", 3, 7) == bytes([3, 4, 5, 6])
    assert asked.read(commit(hub), "model.safetensors", 5, 5) == b""
    assert hub.bytes_sent == 4 and asked.traffic.requests == 1 and asked.traffic.bytes_read == 4


def test_a_list_of_many_pages_is_followed_by_its_cursor_and_never_elsewhere(hub, tmp_path):
    hub.page = 7
    hub.add({"main": {f"{number}.txt": Whole(b"x") for number in range(30)}})
    found = list(asking(hub, Watched(), tmp_path).list_files(commit(hub)))
    assert [entry["path"] for entry in found] == [f"{number}.txt" for number in range(30)]
    assert len(hub.requests) == 5


def test_a_list_without_end_is_given_up(hub, tmp_path):
    hub.page = 1
    hub.add({"main": {f"{number}.txt": Whole(b"x") for number in range(60)}})
    with pytest.raises(EnvironmentMismatch, match="no end"):
        list(asking(hub, Watched(), tmp_path).list_files(commit(hub)))
    assert len(hub.requests) == 40


@pytest.mark.parametrize(
    ("headers", "slept"),
    [({"Retry_After": "17"}, 18.0), ({"RateLimit": '"api";r=0;t=55'}, 56.0), ({"Retry_After": "Wed, 21 Oct"}, 1.0), ({}, 1.0)],
)
def test_a_hub_that_has_had_enough_is_waited_for_and_that_is_told(hub, tmp_path, headers, slept):
    hub.add(release(SMALL))
    hub.fail("/tree/", 429, **headers)
    watched = Watched()
    assert list(asking(hub, watched, tmp_path).list_files(commit(hub)))
    assert watched.slept == [slept]
    assert "too many requests" in watched.notes[0] and watched.notes[1] == ""


@pytest.mark.parametrize("told", ["", "-3", "1.5", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000, "soon"])
def test_a_wait_that_cannot_be_read_is_none(told):
    assert seconds_asked({"Retry-After": told, "RateLimit": f"r=0;t={told}"}) is None
    assert seconds_asked({"Retry-After": told, "RateLimit": '"api";r=0;t=55'}) == 55.0


def test_a_hub_in_trouble_is_asked_again_after_longer_and_longer(hub, tmp_path):
    hub.add(release(SMALL))
    hub.fail("/resolve/", 503, times=3)
    watched = Watched()
    asked = asking(hub, watched, tmp_path)
    assert asked.read(commit(hub), "config.json", 0, 4) == b"{\n  "
    assert watched.slept == [1.0, 2.0, 4.0] and asked.traffic.repeated == 3


def test_a_hub_that_never_recovers_is_an_error_of_the_environment(hub, tmp_path):
    hub.add(release(SMALL))
    hub.fail("/resolve/", 500, times=100)
    with pytest.raises(EnvironmentMismatch, match="HTTP 500"):
        asking(hub, Watched(), tmp_path).read(commit(hub), "config.json", 0, 4)
    assert len(hub.requests) == 7


def test_a_hub_that_asks_to_come_back_tomorrow_is_not_waited_for(hub, tmp_path):
    hub.add(release(SMALL))
    hub.fail("/resolve/", 429, Retry_After="86400")
    with pytest.raises(EnvironmentMismatch, match="86,400 seconds"):
        asking(hub, Watched(), tmp_path).read(commit(hub), "config.json", 0, 4)


def test_an_answer_that_comes_in_drops_is_none(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("treering.hub.client._PATIENCE_SECONDS", 0.5)
    hub.add(release(SMALL))
    hub.drip("/resolve/", seconds=0.2, times=1)
    watched, started = Watched(), time.monotonic()
    assert asking(hub, watched, tmp_path).read(commit(hub), "config.json", 0, 40)[:4] == b"{\n  "
    assert watched.slept == [1.0] and time.monotonic() - started < 3
    assert watched.notes[0].endswith("the Hub does not answer")


def test_a_hub_that_sends_nothing_but_drops_is_an_error_of_the_environment(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("treering.hub.client._PATIENCE_SECONDS", 0.3)
    hub.add(release(SMALL))
    hub.drip("/resolve/", seconds=0.1, times=7)
    with pytest.raises(EnvironmentMismatch, match="cannot be reached"):
        asking(hub, Watched(), tmp_path).read(commit(hub), "config.json", 0, 40)
    hub.drip("/refs", seconds=0.1, times=1)
    with pytest.raises(EnvironmentMismatch, match="cannot be reached"):
        open_repository(NAME, hub.endpoint, tmp_path).branches()


def test_an_answer_that_is_long_has_longer_to_come(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("treering.hub.client._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr("treering.hub.client._SLOWEST_BYTES_PER_SECOND", 10)
    hub.add(release(SMALL))
    hub.drip("/resolve/", seconds=0.02, times=1)
    watched = Watched()
    assert len(asking(hub, watched, tmp_path).read(commit(hub), "config.json", 0, 40)) == 40
    assert watched.slept == []


def test_a_hub_that_is_not_there_is_an_error_of_the_environment(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(EnvironmentMismatch, match="cannot be reached"):
            audit(NAME, Wanted(endpoint))
        watched = Watched()
        with pytest.raises(EnvironmentMismatch, match="cannot be reached"):
            Asking(open_repository(NAME, endpoint, tmp_path), watched, watched.sleep).read("a" * 40, "config.json", 0, 4)
    assert len(watched.slept) == 6


def test_a_repository_that_is_not_there_is_the_users_to_mend(hub):
    with pytest.raises(InputError, match="no such repository"):
        audit(NAME, Wanted(hub.endpoint))


@pytest.mark.parametrize("branches", [{}, {"epoch-3": settings(SMALL)}])
def test_a_repository_without_branches_to_look_at_is_the_users_to_mend(hub, branches):
    hub.add(branches)
    with pytest.raises(InputError, match="named for a step"):
        audit(NAME, Wanted(hub.endpoint))


def test_branches_of_other_names_are_found_by_a_pattern(hub):
    hub.add(release(SMALL, name="seed1/epoch-{step}"))
    found = audit(NAME, Wanted(hub.endpoint, r"seed1/epoch-(?P<step>\d+)"))
    assert [branch.step for branch in found.contents.listing.branches] == [0, 1, 2, 4]


def test_a_hub_that_sends_no_parts_cannot_be_looked_at(hub):
    hub.ranges = False
    hub.add(release(SMALL))
    with pytest.raises(EnvironmentMismatch, match="no parts of files"):
        audit(NAME, Wanted(hub.endpoint))


def test_no_token_goes_to_an_address_that_was_named_by_hand(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    look(hub, release(SMALL))
    assert hub.tokens == [] and len(hub.requests) > 10


def test_what_branches_point_to_is_settled_once(hub):
    branches = release(SMALL)
    found = look(hub, branches)
    refs = [request for request in hub.requests if request.endswith("/refs")]
    commits = {branch.commit for branch in found.contents.listing.everything}
    assert len(refs) == 1
    assert all(any(commit in request for commit in commits) for request in hub.requests if request not in refs)


def test_files_that_branches_share_are_read_once(hub):
    branches = release(Training())
    look(hub, branches)
    assert len([request for request in hub.requests if request.endswith("/config.json")]) == 1
    assert len([request for request in hub.requests if request.endswith("/tokenizer.json")]) == 1


def test_weights_are_not_downloaded(hub):
    training = Training(steps=(0, 1000, 2000, 3000), hidden=5120, layers=36, vocabulary=50_688, dtype="F16", shards=3)
    found = look(hub, release(training))
    assert training.parameters > 11.8e9
    assert [finding for finding in found.findings if finding.severity is not Severity.NOTE] == []
    assert hub.bytes_sent < 8_000_000


def test_no_more_is_asked_for_in_a_time_than_a_hub_allows(hub, tmp_path):
    hub.page = 7
    hub.add({"main": {f"{number}.txt": Whole(b"x") for number in range(30)}})
    watched, now = Watched(), [0.0]
    asked = asking(hub, watched, tmp_path)

    def sleep(seconds: float) -> None:
        watched.slept.append(seconds)
        now[0] += seconds

    asked._sleep, asked._paces["api"] = sleep, Pace(3, 300.0, clock=lambda: now[0])
    assert len(list(asked.list_files(commit(hub)))) == 30
    assert len(hub.requests) == 5 and watched.slept == [300.0]
    assert watched.notes == ["waiting 300 s: the Hub allows 3 such requests in five minutes", ""]


# What is believed of files


def test_a_file_that_is_listed_and_cannot_be_had_is_found(hub):
    branches = release(SMALL)
    hub.add(branches)
    hub.fail("/model.safetensors", 404, times=1, X_Error_Code="EntryNotFound")
    found = audit(NAME, Wanted(hub.endpoint))
    assert [finding.check for finding in found.findings] == ["unreadable files"]
    assert "HTTP 404" in found.findings[0].evidence[0]


def test_a_file_of_another_size_than_is_listed_is_found(hub):
    class Short(Whole):
        def read(self, start: int, stop: int) -> bytes:
            return super().read(start, stop)[:-1]

    branches = release(SMALL)
    branches["step1"] = {**branches["step1"], "model.safetensors": Short(b"x" * 5000, large=True)}
    found = look(hub, branches)
    assert [(finding.check, finding.branches) for finding in found.findings] == [("unreadable files", ("step1",))]


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no safetensors"),
        (b"abc", "no safetensors"),
        (safetensors({"a": TENSOR}, bytes(8), 1 << 62), "no safetensors"),
        (safetensors({"a": TENSOR}, bytes(8), 101_000_000), "no safetensors"),
        (safetensors({"a": TENSOR}, bytes(8), 0), "no safetensors"),
        (safetensors(b"not JSON", bytes(8)), "no JSON"),
        (safetensors(b"[" * 60_000), "no JSON"),
        (safetensors([TENSOR], bytes(8)), "no JSON object"),
        (safetensors({"a": 1}), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "dtype": "F33"}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "shape": [-2]}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "shape": [True, 2]}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "shape": [1] * 17}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "data_offsets": [0, 9]}}, bytes(8)), "outside of its file"),
        (safetensors({"a": {**TENSOR, "data_offsets": [8, 0]}}, bytes(8)), "outside of its file"),
        (safetensors({"a": {**TENSOR, "data_offsets": [0, 1 << 70]}}, bytes(8)), "outside of its file"),
        (safetensors({"a": {**TENSOR, "data_offsets": [-8, 0]}}, bytes(8)), "outside of its file"),
        (safetensors({"a": {**TENSOR, "shape": [3]}}, bytes(8)), "another size than its shape"),
        (safetensors({"a": {**TENSOR, "shape": [1 << 50, 1 << 50, 1 << 50]}}, bytes(8)), "another size than its shape"),
        (safetensors({"a": {**TENSOR, "shape": [1 << 53, 0], "data_offsets": [0, 0]}}), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "dtype": []}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": {**TENSOR, "dtype": {}}}, bytes(8)), "no shape or number type"),
        (safetensors({"a": TENSOR, "b": {**TENSOR, "data_offsets": [4, 12]}}, bytes(12)), "lie over each other"),
        (safetensors(b'{"a": 1, "a": 2}'), "no JSON"),
        (safetensors(b'{"a": %s}' % (b"[" * 70 + b"]" * 70)), "nested too deep"),
        (safetensors({"\ud800": TENSOR}, bytes(8)), "no name of a tensor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_lies_is_refused_and_found(hub, content, problem):
    with pytest.raises(FormatError, match=problem):
        read_header(lambda start, stop: content[start:stop], len(content), "here")
    branches = release(SMALL)
    branches["step1"] = {**branches["step1"], "model.safetensors": Whole(content, large=True)}
    found = look(hub, branches)
    assert [(finding.check, finding.branches) for finding in found.findings] == [("unreadable files", ("step1",))]
    assert problem in found.findings[0].evidence[0]


def test_an_honest_header_is_read():
    shard = Shard(SMALL, 0, SMALL.shapes)
    tensors = read_header(shard.read, shard.size, "here")
    assert {name: fact.shape for name, fact in tensors.items()} == SMALL.shapes
    long = safetensors({f"tensor{number:06}": {**TENSOR, "shape": [0], "data_offsets": [0, 0]} for number in range(3000)})
    assert len(read_header(lambda start, stop: long[start:stop], len(long), "here")) == 3000


@pytest.mark.parametrize("path", ["../../evil.safetensors", "/etc/passwd", "a/../../b", "x\x1b[31m.json", "", "x" * 1001])
def test_names_of_files_that_lead_elsewhere_are_found_and_never_asked_for(hub, path):
    assert not plain(path)
    branches = release(SMALL)
    branches["step2"] = {**branches["step2"], path: Whole(b"evil")}
    found = look(hub, branches)
    assert [(finding.check, finding.branches) for finding in found.findings] == [("file names", ("step2",))]
    assert not any("evil" in request or "passwd" in request for request in hub.requests)
    assert all(line.isprintable() for line in found.findings[0].evidence)


@pytest.mark.parametrize("path", ["model.safetensors", "a/b.json", "a..b", "..."])
def test_names_of_files_that_lead_nowhere_else_are_plain(path):
    assert plain(path)


def test_an_index_that_names_what_is_not_there_asks_for_nothing(hub):
    training = Training(steps=(0, 1, 2, 4), shards=2)
    branches = release(training)
    placed = dict.fromkeys(training.shapes, "../../../../secret.safetensors")
    for name, files in branches.items():
        branches[name] = {**files, "model.safetensors.index.json": document({"weight_map": placed})}
    found = look(hub, branches)
    assert {finding.check for finding in found.findings} == {"missing weights"}
    assert not any("secret" in request for request in hub.requests)


def test_documents_too_long_to_be_settings_are_not_read(hub):
    class Endless(Whole):
        def __init__(self) -> None:
            super().__init__(b"{}")
            self.size = 10**12

    branches = release(SMALL)
    branches["step1"] = {**branches["step1"], "config.json": Endless()}
    found = look(hub, branches)
    assert ("unreadable files", ("step1",)) in [(finding.check, finding.branches) for finding in found.findings]
    assert hub.bytes_sent < 10_000_000


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "file", "path": "x", "oid": "a" * 40, "size": 4 * 10**400},
        {"type": "file", "path": "x", "oid": "a" * 40, "size": 1, "lfs": {"oid": "a" * 64, "size": 1 << 53}},
        {"type": "file", "path": "x", "oid": "a" * 40, "size": True},
        {"type": "file", "path": "x", "oid": "zz", "size": 1},
        {"type": "file", "path": 7, "oid": "a" * 40, "size": 1},
        {"type": "file", "path": "x", "oid": "a" * 40, "size": -1},
        {"type": "file", "path": "x", "oid": "a" * 40, "size": "1"},
        {"type": "file", "path": "x", "oid": "a" * 40, "size": 1, "lfs": {"oid": "a" * 40, "size": 1}},
    ],
)
def test_a_list_that_is_none_is_no_answer_of_a_hub(hub, monkeypatch, entry):
    hub.add(release(SMALL))
    monkeypatch.setattr("hub_audit_making._entry", lambda path, content: entry)
    with pytest.raises(EnvironmentMismatch, match="not a Hub's"):
        audit(NAME, Wanted(hub.endpoint))


def test_watching_changes_nothing(hub):
    hub.add(release(SMALL))
    first = audit(NAME, Wanted(hub.endpoint)).record()
    assert audit(NAME, Wanted(hub.endpoint), SILENCE).record() == first
