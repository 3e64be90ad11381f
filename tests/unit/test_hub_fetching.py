"""Fetching a release back from a server of the Hub's protocol: the same run again, or less of it that says so."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import snapshot_download
from publishing_making import planned_file
from release_making import make_release
from serving_making import NAME, TOKEN, served_store

from treering.card.release import release_digest
from treering.config.run_directory import RunDirectory, open_run
from treering.config.schema import FileSource
from treering.corpus.stage import prepare_corpus
from treering.errors import FormatError, InputError, IntegrityError, NotFetchedError, PublishError
from treering.evaluation.stage import evaluate
from treering.hub.fetching import Wanted, fetch, plan_fetch
from treering.hub.pace import Pace
from treering.hub.plan import MODEL, PlannedBranch, PlannedRepository, plan_release
from treering.hub.published import Published, open_published
from treering.hub.publishing import push
from treering.hub.reading import open_release
from treering.hub.reading_back import read_back_published
from treering.hub.remote import Remote
from treering.order.lookup import describe_batch
from treering.order.stage import prepare_order
from treering.provenance.manifests import MANIFEST
from treering.provenance.progress import SILENCE
from treering.tokens.stage import prepare_tokens
from treering.verification.files import check_files
from treering.verification.release import verify
from treering.verification.sampling import Wanted as WantedChecks
from treering.verification.segments import Segment
from treering.verification.verdicts import Verdict

STEPS = frozenset({0, 1, 2, 4})
ALL = Wanted(data=True, revisions=STEPS, checkpoints=STEPS)
RECORDS = Wanted(data=True, revisions=frozenset(), checkpoints=frozenset())
SEGMENT = replace(RECORDS, checkpoints=frozenset({2, 4}))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A whole release; not to be changed."""
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def pushed(run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which all of the release is; not to be changed."""
    folder = tmp_path_factory.mktemp("pushed") / "store"
    with served_store(folder) as (endpoint, _):
        publish(plan_release(run, NAME, data=True, texts=True, moments=True), endpoint)
    return folder


@pytest.fixture(scope="module")
def hub(pushed: Path) -> Iterator[str]:
    with served_store(pushed) as (endpoint, _):
        yield endpoint


@pytest.fixture
def published(hub: str, tmp_path: Path) -> Published:
    return open_published(NAME, hub, tmp_path / "records")


def publish(planned: list[PlannedRepository], endpoint: str) -> None:
    for one in planned:
        push(one, Remote(one.name, one.kind, endpoint, TOKEN, Pace(None)))


def without(repository: PlannedRepository, name: str, path: str) -> PlannedRepository:
    """A repository one of whose branches lacks a file."""

    def less(branch: PlannedBranch) -> PlannedBranch:
        kept = {at: file for at, file in branch.files.items() if at != path}
        return replace(branch, files=kept) if branch.name == name else branch

    return replace(repository, branches=tuple(map(less, repository.branches)))


@contextmanager
def hub_of(planned: list[PlannedRepository], folder: Path, pushed: Path | None = None) -> Iterator[str]:
    """A Hub with a release on it: what was pushed there before, made what is planned."""
    if pushed is not None:
        shutil.copytree(pushed, folder / "store")
    with served_store(folder / "store") as (endpoint, _):
        publish(planned, endpoint)
        yield endpoint


def files(folder: Path) -> dict[str, bytes]:
    """Every file that a run's manifests list, and the manifests."""
    found = (path for path in folder.rglob("*") if path.is_file())
    inside = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return {
        path: content for path, content in inside.items() if not path.startswith((".", "observe", "verification", "fetched"))
    }


def test_all_that_was_published_is_the_run_again_byte_for_byte(run: RunDirectory, published: Published, tmp_path: Path) -> None:
    again = fetch(published, plan_fetch(published, ALL), tmp_path / "again")
    assert files(again.path) == files(run.path)
    assert release_digest(again) == release_digest(run) == published.digest
    found = {check.name: check.verdict for check in check_files(again)}
    [history] = [name for name in found if name.startswith("history")]
    assert found.pop(history) == Verdict.NOT_RUN  # it is watched, and not published
    assert set(found.values()) == {Verdict.REPRODUCED}
    assert not (again.path / ".fetching").exists()


def test_what_is_left_out_is_said_and_comes_later_into_the_same_folder(
    run: RunDirectory, published: Published, tmp_path: Path
) -> None:
    part = fetch(published, plan_fetch(published, SEGMENT), tmp_path / "run")
    assert part.left_out("checkpoints") == {
        f"{step}/{name}" for step in ("step0", "step1") for name in (MANIFEST, "state.json", "weights.safetensors")
    } | {"step1/optimizer.safetensors"}
    found = {check.name: check.verdict for check in check_files(part)}
    assert Verdict.DIVERGED not in found.values()
    assert found["card: every number follows from its record"] == Verdict.REPRODUCED
    assert found["checkpoints: files, recipe and what it was made from"] == Verdict.NOT_RUN
    with pytest.raises(NotFetchedError, match=r"treering fetch acme-lab/sapling .* --revisions all"):
        evaluate(part)
    with pytest.raises(NotFetchedError, match="of checkpoints"):
        release_digest(part)
    fetch(published, plan_fetch(published, ALL), part.path)
    assert files(part.path) == files(run.path)
    assert not any(part.left_out(stage) for stage in published.manifests)


def test_a_segment_is_trained_again_from_what_it_takes_alone(published: Published, tmp_path: Path) -> None:
    part = fetch(published, plan_fetch(published, SEGMENT), tmp_path / "run")
    record = verify(part, WantedChecks((Segment(2, 4), Segment(0, 1))))
    reproduced, absent = record["segments"]
    assert reproduced["verdict"] == Verdict.REPRODUCED
    assert absent["verdict"] == Verdict.NOT_RUN
    assert absent["found"] == "not fetched: step0, step1; treering fetch --segment 0:1"
    with pytest.raises(NotFetchedError, match="cannot be picked from all"):
        verify(part, WantedChecks(every=True))


def test_a_changed_file_of_what_was_fetched_diverges_though_others_were_left_out(published: Published, tmp_path: Path) -> None:
    part = fetch(published, plan_fetch(published, SEGMENT), tmp_path / "run")
    weights = part.stage("checkpoints") / "step2" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    found = {check.name: check for check in check_files(part)}["checkpoints: files, recipe and what it was made from"]
    assert found.verdict == Verdict.DIVERGED
    assert "step2/weights.safetensors has changed" in str(found.found)


def test_a_release_without_texts_is_verified_on_data_made_again(run: RunDirectory, tmp_path: Path) -> None:
    with hub_of(plan_release(run, NAME, data=True, texts=False, moments=True), tmp_path) as endpoint:
        published = open_published(NAME, endpoint, tmp_path / "records")
        part = fetch(published, plan_fetch(published, SEGMENT), tmp_path / "run")
    assert verify(part, WantedChecks((Segment(2, 4),)))["segments"][0]["verdict"] == Verdict.REPRODUCED
    with pytest.raises(NotFetchedError, match="treering prepare"):
        describe_batch(part, 0)
    for stage in (prepare_corpus, prepare_tokens, prepare_order):
        stage(part)
    assert not part.left_out("corpus") | part.left_out("tokens")
    assert describe_batch(part, 0) == describe_batch(run, 0)


def source_of(run: RunDirectory) -> str:
    """The folder that a run's texts are read from."""
    [source] = run.recipe.corpus.sources
    assert isinstance(source, FileSource)
    return source.path


def test_data_made_from_other_sources_does_not_take_the_place_of_what_was_published(run: RunDirectory, tmp_path: Path) -> None:
    with hub_of(plan_release(run, NAME, data=True, texts=False, moments=False), tmp_path) as endpoint:
        published = open_published(NAME, endpoint, tmp_path / "records")
        part = fetch(published, plan_fetch(published, RECORDS), tmp_path / "run")
    shutil.copytree(source_of(run), tmp_path / "corpus")
    text = tmp_path / "corpus" / "trees.jsonl"
    text.write_bytes(b"".join(text.read_bytes().splitlines(keepends=True)[1:]))
    recipe = part.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(source_of(run), str(tmp_path / "corpus")))
    other = open_run(part.path)
    before = files(part.path)
    with pytest.raises(IntegrityError, match="not what was published"):
        prepare_corpus(other)
    assert files(part.path) == before


def test_an_interrupted_fetch_leaves_a_run_that_says_so_and_goes_on(
    run: RunDirectory, published: Published, tmp_path: Path
) -> None:
    class Interruption(Exception):
        pass

    class Interrupted:
        @contextmanager
        def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Any]:
            with SILENCE.task(description, total, unit) as task:
                yield _Noted(task)

    class _Noted:
        def __init__(self, task: Any) -> None:
            self.advance = task.advance

        def note(self, text: str) -> None:
            if "checkpoints step2" in text:
                raise Interruption

    with pytest.raises(Interruption):
        fetch(published, plan_fetch(published, ALL), tmp_path / "run", Interrupted())
    part = RunDirectory(tmp_path / "run", run.recipe)
    assert "step4/weights.safetensors" in part.left_out("checkpoints")
    assert Verdict.DIVERGED not in {check.verdict for check in check_files(part)}
    fetch(published, plan_fetch(published, ALL), part.path)
    assert files(part.path) == files(run.path)


def test_a_file_that_is_not_the_manifests_is_refused_and_not_kept(run: RunDirectory, pushed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    original = (run.stage("revisions") / "step2" / "model.safetensors").read_bytes()
    other.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    planned = plan_release(run, NAME, data=False, texts=False, moments=False)
    [one] = planned
    branch = next(branch for branch in one.branches if branch.name == "step2")
    lying = replace(branch, files={**branch.files, "model.safetensors": planned_file(other)})
    lying_plan = replace(one, branches=tuple(lying if branch.name == "step2" else branch for branch in one.branches))
    with hub_of([lying_plan], tmp_path, pushed) as endpoint:
        published = open_published(NAME, endpoint, tmp_path / "records")
        with pytest.raises(IntegrityError, match=r"step2: model\.safetensors"):
            fetch(published, plan_fetch(published, ALL), tmp_path / "run")
        with pytest.raises(PublishError, match=r"step2: model\.safetensors is another file"):
            read_back_published(published)
    assert not (tmp_path / "run" / "revisions" / "step2" / "model.safetensors").exists()


def test_a_file_that_is_longer_than_the_manifest_says_is_refused_before_anything_comes(
    run: RunDirectory, pushed: Path, tmp_path: Path
) -> None:
    [one] = plan_release(run, NAME, data=False, texts=False, moments=False)
    (tmp_path / "long").write_bytes(b"0" * 100_000)
    main = one.branches[-1]
    longer = replace(main, files={**main.files, "training/training.json": planned_file(tmp_path / "long")})
    with hub_of([replace(one, branches=(*one.branches[:-1], longer))], tmp_path, pushed) as endpoint:
        published = open_published(NAME, endpoint, tmp_path / "records")
        with pytest.raises(IntegrityError, match="what the Hub lists is not the release's file"):
            plan_fetch(published, RECORDS)


def test_what_came_wrong_is_fetched_again_the_next_time(published: Published, tmp_path: Path) -> None:
    arriving = tmp_path / "run" / ".fetching" / "repository" / "main"
    commit = published.listings[MODEL].everything[-1].commit
    (arriving / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (arriving / "README.md").write_bytes(b"\0" * (published.manifests["card"].files[0].size_bytes))
    note = arriving / ".cache" / "huggingface" / "download" / "README.md.metadata"
    note.write_text(f"{commit}\n0123\n9999999999\n")
    (arriving / "begun.incomplete").write_bytes(b"half")
    with pytest.raises(IntegrityError, match=r"README\.md"):
        fetch(published, plan_fetch(published, RECORDS), tmp_path / "run")
    assert not (arriving / "begun.incomplete").exists()
    again = fetch(published, plan_fetch(published, RECORDS), tmp_path / "run")
    assert not again.left_out("card")


@pytest.mark.parametrize("place", ["card", ".fetching", "revisions/step1", "training/ledger.jsonl"])
def test_nothing_is_fetched_through_a_link(published: Published, tmp_path: Path, place: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "run" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    (tmp_path / "run" / "recipe.yaml").write_bytes((published.records / "recipe.yaml").read_bytes())
    with pytest.raises(InputError, match="this is a link"):
        fetch(published, plan_fetch(published, ALL), tmp_path / "run")
    assert list(elsewhere.iterdir()) == []


def test_pictures_that_were_left_out_are_not_said_to_be_right(run: RunDirectory, published: Published, tmp_path: Path) -> None:
    part = fetch(published, plan_fetch(published, RECORDS), tmp_path / "run")
    pictures = "card: its pictures are the evaluation's"
    assert {check.name: check.verdict for check in check_files(part)}[pictures] == Verdict.REPRODUCED
    record = json.loads((part.path / "fetched.json").read_bytes())
    for stage in ("card", "evaluation"):
        names = [path.name for path in (part.stage(stage) / "figures").iterdir()]
        record["left_out"][stage] = [f"figures/{name}" for name in names]
        shutil.rmtree(part.stage(stage) / "figures")
    (part.path / "fetched.json").write_text(json.dumps(record))
    assert {check.name: check.verdict for check in check_files(part)}[pictures] == Verdict.NOT_RUN


def test_a_whole_release_is_read_back_by_who_has_no_run(run: RunDirectory, published: Published) -> None:
    commits = read_back_published(published)
    assert {name: len(found) for name, found in commits.items()} == {
        NAME: 5, f"{NAME}-data": 1, f"{NAME}-checkpoints": 5
    }  # fmt: skip
    assert published.digest == release_digest(run)


@pytest.mark.parametrize(
    ("repository", "branch", "path", "problem"),
    [
        (NAME, "step1", "tokenizer.json", "step1: tokenizer.json is missing"),
        (NAME, "main", "training/ledger.jsonl", "main: training/ledger.jsonl is missing"),
        (NAME, "main", "README.md", "main: README.md is missing"),
        (NAME, "main", "revisions/step1/manifest.json", "main: revisions/step1/manifest.json is missing"),
        (NAME, "main", "corpus/corpus.json", "main: corpus/corpus.json is missing"),
        (f"{NAME}-checkpoints", "step4", "optimizer.safetensors", "-checkpoints step4: optimizer.safetensors is missing"),
        (f"{NAME}-data", "main", "order/order.json", "-data main: order/order.json is missing"),
    ],
)
def test_what_is_missing_is_named(
    run: RunDirectory, pushed: Path, tmp_path: Path, repository: str, branch: str, path: str, problem: str
) -> None:
    planned = plan_release(run, NAME, data=True, texts=True, moments=True)
    with hub_of([without(one, branch, path) for one in planned if one.name == repository], tmp_path, pushed) as endpoint:
        published = open_published(NAME, endpoint, tmp_path / "records")
        with pytest.raises(PublishError) as raised:
            read_back_published(published)
    assert problem in str(raised.value)


def test_what_is_too_many_and_a_missing_branch_are_named(run: RunDirectory, tmp_path: Path) -> None:
    [one] = plan_release(run, NAME, data=False, texts=False, moments=False)
    (tmp_path / "more.txt").write_text("more")
    branches = tuple(
        replace(branch, files={**branch.files, "more.txt": planned_file(tmp_path / "more.txt")})
        if branch.name == "step4"
        else branch
        for branch in [*one.branches, PlannedBranch("step3", {"config.json": planned_file(tmp_path / "more.txt")})]
        if branch.name != "step1"
    )
    with hub_of([replace(one, branches=branches)], tmp_path) as endpoint, pytest.raises(PublishError) as raised:
        read_back_published(open_published(NAME, endpoint, tmp_path / "records"))
    assert "step4: more.txt is no file of the release" in str(raised.value)
    assert "step1: there is no such branch" in str(raised.value)
    assert "step3 is no branch of the release" in str(raised.value)


@pytest.mark.parametrize("path", ["../out", "/out", ".lock", "step0/.hidden", "a\\b", "step0//x", MANIFEST, "a\nb"])
def test_a_manifest_that_names_what_no_stage_writes_is_refused(
    run: RunDirectory, pushed: Path, tmp_path: Path, path: str
) -> None:
    [one] = plan_release(run, NAME, data=False, texts=False, moments=False)
    record = json.loads((run.stage("training") / MANIFEST).read_bytes())
    record["files"] = sorted([*record["files"], {"path": path, "size_bytes": 1, "digest": "sha256:0"}], key=lambda e: e["path"])
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    lying = {"training/manifest.json": planned_file(tmp_path / "manifest.json")}
    main = replace(one.branches[-1], files={**one.branches[-1].files, **lying})
    with hub_of([replace(one, branches=(*one.branches[:-1], main))], tmp_path, pushed) as endpoint, pytest.raises(FormatError):
        open_published(NAME, endpoint, tmp_path / "records")
    assert not (tmp_path / "out").exists()


def test_a_repository_that_is_none_of_treerings_is_said_to_be(tmp_path: Path) -> None:
    with hub_of(
        [PlannedRepository("acme/other", "model", (PlannedBranch("main", {"a.json": planned_file(Path(__file__))}),))], tmp_path
    ) as other:
        with pytest.raises(InputError, match="no release by treering"):
            open_published("acme/other", other, tmp_path / "records")
        with pytest.raises(InputError, match="no such repository"):
            open_published("acme/nothing", other, tmp_path / "records")


def test_nothing_is_fetched_over_what_is_something_else(
    published: Published, tiny_trained: RunDirectory, tmp_path: Path
) -> None:
    plan = plan_fetch(published, RECORDS)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="no run"):
        fetch(published, plan, tmp_path / "notes")
    shutil.copytree(tiny_trained.path, tmp_path / "tiny")
    with pytest.raises(InputError, match="another run"):
        fetch(published, plan, tmp_path / "tiny")
    mine = fetch(published, plan, tmp_path / "mine")
    (mine.stage("training") / "ledger.jsonl").write_bytes(b"another ledger")
    with pytest.raises(IntegrityError, match="not the release's file"):
        fetch(published, plan, mine.path)
    assert (mine.stage("training") / "ledger.jsonl").read_bytes() == b"another ledger"


def test_the_command_line_fetches_and_verifies_and_says_what_it_left_out(treering, run: RunDirectory, hub: str) -> None:
    given = (NAME, "--endpoint", hub)
    code, printed, _ = treering("fetch", *given, "--segment", "2:4", "--dry-run")
    assert (code, Path("runs").exists()) == (0, False)
    assert "to fetch" in printed
    code, printed, _ = treering("fetch", *given, "--segment", "2:4", "--digest", release_digest(run), "--json")
    record = json.loads(printed)
    assert (code, record["run"], record["release"]) == (0, "runs/sapling", release_digest(run))
    assert record["left_out"]["checkpoints"]["files"] == 7
    code, printed, _ = treering("verify", "runs/sapling", "--segment", "2:4")
    assert code == 0
    assert "reproduced segment 2:4" in printed
    assert treering("verify", "runs/sapling", "--segment", "0:1")[0] == 3
    code, _, told = treering("serve", "runs/sapling", "--port", "0")
    assert (code, "treering fetch" in told) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--digest", "sha256:0"), 1, "another release"),
        (("--revisions", "3"), 2, "no revision of this step"),
        (("--segment", "3:4"), 2, "cannot be re-run"),
        (("--segment", "2:9"), 2, "cannot be re-run"),
        (("--segment", "two"), 2, "no segment"),
        (("--segment", "²:4"), 2, "no segment"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_written(
    treering, hub: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    found, _, printed = treering("fetch", NAME, "--endpoint", hub, *arguments)
    assert (found, told in printed, Path("runs").exists()) == (code, True, False)


def test_checkpoints_that_were_not_published_cannot_be_wanted(treering, run: RunDirectory, tmp_path: Path) -> None:
    with hub_of(plan_release(run, NAME, data=False, texts=False, moments=False), tmp_path) as endpoint:
        code, _, told = treering("fetch", NAME, "--endpoint", endpoint, "--checkpoints")
    assert (code, "the checkpoints of this release are not there" in told) == (2, True)


def test_verify_only_needs_a_run_or_a_name(treering, run: RunDirectory, hub: str) -> None:
    code, printed, _ = treering("publish", "--verify-only", "--to", NAME, "--endpoint", hub)
    assert (code, f"release  {release_digest(run)}" in printed) == (0, True)
    assert treering("publish", "--verify-only", "--to", NAME, "--endpoint", hub, "--texts")[0] == 2
    code, _, told = treering("publish", "--to", NAME, "--endpoint", hub)
    assert (code, "say which run to publish" in told) == (2, True)


def test_a_download_of_main_is_read_as_the_model_it_is(hub: str, tmp_path: Path) -> None:
    folder = snapshot_download(NAME, endpoint=hub, local_dir=tmp_path / "main")
    [revision] = open_release(folder).revisions
    assert (revision.name, revision.step) == ("main", None)
    with pytest.raises(InputError, match="treering fetch"):
        open_run(Path(folder))
