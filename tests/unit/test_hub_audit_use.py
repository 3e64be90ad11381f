"""The audit in use: branches of other names, runs that others are at work on, checkpoints by treering, output by lines."""

import json
import shutil
from pathlib import Path

import pytest
from hub_audit_making import NAME, Branches, Training, Whole, document, release
from release_making import make_release
from rich.console import Console

from treering.cli import audit as verb
from treering.config.run_directory import RunDirectory, open_run
from treering.errors import InputError
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.release import Audit, Wanted, audit
from treering.hub.listed import branches_text
from treering.provenance.files import held

SMALL = Training(steps=(0, 1, 2, 4, 8, 16))
ODD = ("epoch-1", "checkpoint-500", "step_100-x")
PATTERN = r"epoch-\d+-(?P<step>\d+)"


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> RunDirectory:
    """A whole small release, only to be read or copied."""
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def run(released, tmp_path) -> RunDirectory:
    """A whole small release, the test's own."""
    shutil.copytree(released.path, tmp_path / "runs" / released.path.name)
    return open_run(tmp_path / "runs" / released.path.name)


def renamed(form: str) -> Branches:
    """A release whose branches have other names, and its card names one of them."""
    branches, name = release(SMALL, form), form.format(step=4)
    text = branches["main"]["README.md"].content.decode().replace('revision="step4"', f'revision="{name}"')
    return {**branches, "main": {**branches["main"], "README.md": Whole(text.encode())}}


def notes(found: Audit, check: str = "not looked at") -> list[Finding]:
    return [finding for finding in found.findings if finding.check == check]


def in_folder(folder: Path, branches: Branches) -> Path:
    """Write a release as a folder of folders; return it."""
    for name, files in branches.items():
        (folder / name).mkdir(parents=True)
        for path, content in files.items():
            (folder / name / path).write_bytes(content.read(0, content.size))
    return folder


# Names of branches


def test_branches_that_are_named_for_no_step_are_told_with_what_to_do(hub):
    branches = release(SMALL)
    hub.add({"main": branches["main"], **dict.fromkeys(ODD, branches["step4"])})
    (note,) = notes(audit(NAME, Wanted(hub.endpoint)))
    assert (note.severity, note.branches) == (Severity.NOTE, ODD)
    assert note.problem == "3 branches not looked at, as named for no step: epoch-1, checkpoint-500, step_100-x"
    assert "--pattern '" in note.advice and "(?P<step>" in note.advice


def test_of_very_many_only_some_are_named(hub):
    branches = release(SMALL)
    hub.add({**branches, **{f"epoch-{number}": branches["step4"] for number in range(500)}})
    (note,) = notes(audit(NAME, Wanted(hub.endpoint)))
    assert note.problem.startswith("500 branches not looked at") and len(note.problem) < 300


def test_names_that_a_hub_gives_itself_are_not_told(hub):
    branches = release(SMALL)
    hub.add({**branches, "refs/convert/parquet": branches["step4"], "pr/3": branches["step4"]})
    assert audit(NAME, Wanted(hub.endpoint)).findings == []


def test_a_pattern_reads_names_that_are_not_known(hub):
    hub.add(renamed("epoch-7-{step}"))
    found = audit(NAME, Wanted(hub.endpoint, PATTERN))
    assert found.findings == [] and [branch.step for branch in found.contents.listing.branches] == list(SMALL.steps)


def test_a_pattern_that_fits_no_branch_is_refused_with_the_names_there_are(hub):
    hub.add(renamed("epoch-7-{step}"))
    with pytest.raises(InputError, match=r"epoch-7-0, epoch-7-1,.*main") as caught:
        audit(NAME, Wanted(hub.endpoint, r"foo(?P<step>\d+)"))
    assert caught.value.expected == r"foo(?P<step>\d+)"


def test_folders_are_named_by_the_same_rules(tmp_path):
    folder = in_folder(tmp_path / "saved", renamed("epoch-7-{step}"))
    (note,) = notes(audit(str(folder)))
    assert note.problem.startswith("6 branches not looked at") and "epoch-7-16" in note.problem
    assert audit(str(folder), Wanted(pattern=PATTERN)).findings == []
    with pytest.raises(InputError, match="epoch-7-0"):
        audit(str(folder), Wanted(pattern=r"foo(?P<step>\d+)"))


def test_folders_without_weights_are_no_branches(tmp_path):
    folder = in_folder(tmp_path / "saved", release(SMALL))
    in_folder(folder, {"logs": {"log.txt": Whole(b"x")}, ".git": {"model.safetensors": Whole(b"x")}})
    assert audit(str(folder)).findings == []


def test_a_folder_with_nothing_that_is_named_for_a_step_says_what_there_is(tmp_path):
    folder = in_folder(tmp_path / "saved", {"main": {}, "checkpoint-500": {"model.safetensors": Whole(b"x")}})
    with pytest.raises(InputError, match=r"no revisions[^$]*checkpoint-500[^$]*--pattern"):
        audit(str(folder))


def test_a_run_takes_no_pattern(released):
    with pytest.raises(InputError, match="a run needs no pattern"):
        audit(str(released.path), Wanted(pattern=r"foo(?P<step>\d+)"))
    assert audit(str(released.path)).findings == []


def test_a_run_without_a_card_is_its_revisions(run):
    shutil.rmtree(run.stage("card"))
    found = audit(str(run.path))
    assert [branch.name for branch in found.contents.listing.everything] == ["step0", "step1", "step2", "step4"]


# The name of a run


def test_a_run_is_called_what_its_recipe_says(run):
    listing = audit(str(run.path)).contents.listing
    assert (listing.name, listing.where) == ("acme-lab/sapling", str(run.path))


@pytest.mark.parametrize(
    ("line", "check"),
    [
        ("sapling uses 7 layers.", "card numbers"),
        ("See https://huggingface.co/acme-lab/sapling/tree/step3 for it.", "card links"),
    ],
)
def test_what_a_card_says_of_its_model_is_found_in_the_run_too(run, line, check):
    assert audit(str(run.path)).findings == []
    with (run.stage("card") / "README.md").open("a", encoding="utf-8") as card:
        card.write(f"\n{line}\n")
    told = notes(audit(str(run.path)), check)
    assert [finding.evidence for finding in told] == [(line,)]


@pytest.mark.parametrize("line", ["seedling uses 7 layers.", "See https://huggingface.co/acme-lab/seedling/tree/step3 for it."])
def test_what_a_card_says_of_others_is_not(run, line):
    with (run.stage("card") / "README.md").open("a", encoding="utf-8") as card:
        card.write(f"\n{line}\n")
    assert {finding.check for finding in audit(str(run.path)).findings} == {"records"}


def test_a_folder_is_called_by_its_cards_title(tmp_path):
    branches = release(SMALL)
    text = branches["main"]["README.md"].content.decode()
    branches["main"] = {**branches["main"], "README.md": Whole(f"{text}\nsapling uses 7 layers.\n".encode())}
    (finding,) = audit(str(in_folder(tmp_path / "saved", branches))).findings
    assert finding.check == "card numbers" and finding.evidence == ("sapling uses 7 layers.",)


# Runs that others are at work on


def test_a_run_at_which_another_process_is_at_work_is_not_found_wrong(run, treering):
    with held(run.path, shared=True):  # as `treering serve` does
        code, out, _ = treering("audit", run.path, "--json")
    findings = json.loads(out)["findings"]
    assert [finding["severity"] for finding in findings] in ([], ["note"])
    assert code == (2 if findings else 0)
    assert all("another treering process is at work" in finding["evidence"][0] for finding in findings)
    code, out, _ = treering("audit", run.path, "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])


def test_a_run_that_this_machine_cannot_look_at_is_not_found_wrong(run, treering):
    (run.path / ".lock").unlink(missing_ok=True)
    (run.path / ".lock").symlink_to("x" * 300)  # longer than a file system's names
    code, out, _ = treering("audit", run.path, "--json")
    (finding,) = json.loads(out)["findings"]
    assert (code, finding["severity"], finding["check"]) == (3, "note", "not looked at")
    assert finding["evidence"][0].startswith("StorageError: ")


def test_a_run_that_is_wrong_is_found_wrong_whoever_is_at_work_on_it(run, treering):
    (run.stage("order") / "order.json").write_text("{}")
    with (run.stage("card") / "README.md").open("a", encoding="utf-8") as card:
        card.write("\nsapling uses 7 layers.\n")  # a warning, before the errors of the run
    with held(run.path, shared=True):
        code, out, _ = treering("audit", run.path, "--json")
    severities = [finding["severity"] for finding in json.loads(out)["findings"]]
    assert code == 1 and severities[0] == "error" and severities == sorted(severities, key=list(Severity).index)


# Checkpoints that a training goes on from


def checkpoints(run: RunDirectory, *, card: bool = False) -> Branches:
    """The repository of a run's checkpoints, as `treering publish --with-moments` makes it."""
    folder = run.stage("checkpoints")
    manifest = Whole((folder / "manifest.json").read_bytes())
    words = {"README.md": Whole(b"# Checkpoints\n\n{what}\n")} if card else {}
    return {
        **{
            place.name: {file.name: Whole(file.read_bytes(), file.suffix == ".safetensors") for file in place.iterdir()}
            for place in sorted(folder.iterdir())
            if place.is_dir()
        },
        "main": {"checkpoints/manifest.json": manifest, **words},
    }


@pytest.mark.parametrize("card", [False, True])
def test_a_repository_of_checkpoints_is_looked_at_as_one(hub, released, card):
    hub.add(checkpoints(released, card=card))
    found = audit(NAME, Wanted(hub.endpoint))
    assert found.findings == []
    assert found.record()["looked_at"]["weights"] == 4 and len(found.record()["trainings"][0]) == 4


def test_weights_that_are_wrong_are_found_among_checkpoints_too(hub, released):
    branches = checkpoints(released)
    branches["step4"]["weights.safetensors"] = branches["step2"]["weights.safetensors"]
    del branches["step1"]["weights.safetensors"]
    hub.add(branches)
    problems = {finding.check: finding.problem for finding in audit(NAME, Wanted(hub.endpoint)).findings}
    assert problems["missing weights"] == "1 branch without weights: step1"
    assert problems["identical weights"].endswith("step2, step4")


def test_a_release_of_models_without_a_card_is_told(hub):
    branches = release(SMALL)
    del branches["main"]["README.md"]
    branches["step1"] = {**branches["step1"], "state.json": document({}), "weights.safetensors": Whole(b"x", large=True)}
    hub.add(branches)
    assert [finding.check for finding in audit(NAME, Wanted(hub.endpoint)).findings] == ["card"]


def test_that_pickles_are_not_opened_is_said_where_there_are_some(hub):
    hub.add(release(SMALL, form="bin"), "acme-lab/pickled")
    assert [note.problem for note in notes(audit("acme-lab/pickled", Wanted(hub.endpoint)))] == [
        "weights were compared by the digests of their files alone: pickles are not opened"
    ]
    hub.add({name: {"config.json": document(SMALL.config)} for name in ("step0", "step1")}, "acme-lab/empty")
    found = audit("acme-lab/empty", Wanted(hub.endpoint))
    assert notes(found) == [] and notes(found, "missing weights")


# What is printed


def finding_of(evidence: list[str]) -> dict:
    return Finding("card numbers", Severity.ERROR, (), "a problem", tuple(evidence), "mend it").record()


def test_off_a_terminal_no_line_is_folded_or_padded(hub, treering):
    branches = release(SMALL)
    branches["step4"] = {**branches["step4"], **SMALL.weights(5)}
    hub.add(branches)
    code, out, _ = treering("audit", NAME, "--endpoint", hub.endpoint)
    digest = branches["step4"]["model.safetensors"].digest
    assert code == 1
    assert [line.strip() for line in out.splitlines() if digest in line] == [
        f"model.safetensors: sha256:{digest} on all of them"
    ]
    assert all(line == line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize(
    ("lines", "said"), [(3, []), (4, ["… and 1 more (--json has all)"]), (2000, ["… and 1,997 more (--json has all)"])]
)
def test_evidence_that_is_not_shown_is_counted(capsys, lines, said):
    verb._print_findings([finding_of([f"line {number}" for number in range(lines)])])
    printed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in printed if line.startswith("line ")] == ["line 0", "line 1", "line 2"]
    assert [line for line in printed if "more" in line] == said


def test_on_a_terminal_lines_are_folded_beside_their_check(capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "60")
    assert Console().is_terminal
    verb._print_findings([finding_of(["sha256:" + "0" * 64])])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60 and sum("000" in line for line in lines) == 2


def test_one_branch_is_one():
    assert [branches_text(count) for count in (0, 1, 2, 1500)] == ["0 branches", "1 branch", "2 branches", "1,500 branches"]
