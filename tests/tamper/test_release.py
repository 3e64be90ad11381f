"""A lie in a whole release is seen, wherever it is and however well its manifests fit, and by the error of its kind."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from forging import forge
from release_making import make_release

from treering.config.digests import STAGES
from treering.config.run_directory import RECIPE, RunDirectory, open_run
from treering.errors import InputError
from treering.provenance.canonical import canonical_json, record_bytes
from treering.provenance.digests import digest_bytes
from treering.provenance.manifests import read_manifest, write_manifest
from treering.training.run import finished_ledger
from treering.verification.files import check_files, check_stage
from treering.verification.verdicts import Check, Verdict

FLIPS, WHOLE_LOOKS = 1000, 25
NAMED = {"ManifestError", "IntegrityError", "FormatError", "ClaimError", "RecipeError", "InputError"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def release(made: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy of the release, the test's own."""
    shutil.copytree(made.path, tmp_path / "tiny", ignore=shutil.ignore_patterns("observe", ".lock"))
    return RunDirectory(tmp_path / "tiny", made.recipe)


def errors(checks: list[Check]) -> set[str]:
    return {str(check.found).partition(":")[0] for check in checks if check.verdict == Verdict.DIVERGED}


def seen(path: Path, stage: str | None = None) -> set[str]:
    """The errors that a release shows: all of its looks, or those at one stage."""
    try:
        run = open_run(path)
    except InputError as error:
        return {type(error).__name__}
    return errors(check_files(run) if stage is None else [check_stage(run, stage)])


def release_files(run: RunDirectory) -> list[str]:
    found = (path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.startswith("."))  # at work, and in no release


def flips(run: RunDirectory) -> Iterator[tuple[str, int, int]]:
    """A file, a place in it and what its byte there is xored with: each file in turn, so that all are hit."""
    draw, names = random.Random(20261125), [name for name in release_files(run) if (run.path / name).stat().st_size]
    for number in range(FLIPS):
        name = names[number % len(names)]
        yield name, draw.randrange((run.path / name).stat().st_size), draw.randrange(1, 256)


def test_an_untouched_release_shows_nothing_and_every_check_was_made(release: RunDirectory) -> None:
    found = {check.name: check.verdict for check in check_files(release)}
    others = {name: verdict for name, verdict in found.items() if not name.startswith("history")}  # published without it
    assert set(others.values()) == {Verdict.REPRODUCED}
    assert len(others) == len(found) - 1


def test_a_thousand_bytes_flipped_anywhere_are_all_seen(release: RunDirectory) -> None:
    whole = random.Random(7).sample(range(FLIPS), WHOLE_LOOKS)
    observed = (release.path / RECIPE).read_bytes().index(b"observe:")  # that section is in no digest, and changes nothing
    for number, (name, place, change) in enumerate(flips(release)):
        path = release.path / name
        before = path.read_bytes()
        at = place % observed if name == RECIPE else place
        path.write_bytes(before[:at] + bytes([before[at] ^ change]) + before[at + 1 :])
        stage = None if name == RECIPE or number in whole else name.partition("/")[0]
        found = seen(release.path, stage)
        assert found, f"{name}, byte {at}, xor {change}"
        assert found <= NAMED, (name, at, found)
        path.write_bytes(before)
    assert not seen(release.path)


def test_a_card_recipe_that_is_no_utf_8_is_seen_and_not_stumbled_over(release: RunDirectory) -> None:
    path = release.stage("card") / RECIPE
    path.write_bytes(path.read_bytes().replace(b"name", b"n\xa6me", 1))
    assert "IntegrityError" in seen(release.path)


def test_each_file_dropped_is_seen(release: RunDirectory) -> None:
    for name in release_files(release):
        path, away = release.path / name, release.path.parent / "away"
        path.rename(away)
        of_run = name == RECIPE or name in {f"{stage}/manifest.json" for stage in STAGES}
        found = seen(release.path, None if of_run else name.partition("/")[0])
        assert found, name
        assert found <= NAMED, (name, found)
        away.rename(path)


@pytest.mark.parametrize("name", [*(f"{stage}/extra.txt" for stage in STAGES), "extra.txt", "extra/inside.txt"])
def test_a_file_too_many_is_seen(release: RunDirectory, name: str) -> None:
    (release.path / name).parent.mkdir(exist_ok=True)
    (release.path / name).write_text("x", encoding="utf-8")
    top = name.partition("/")[0]
    assert "ManifestError" in seen(release.path, top if top in STAGES else None)


def test_a_file_renamed_and_an_empty_folder_are_seen(release: RunDirectory) -> None:
    path = release.stage("tokens") / "train.bin"
    path.rename(path.with_name("other.bin"))
    assert seen(release.path, "tokens") == {"ManifestError"}
    path.with_name("other.bin").rename(path)
    (release.stage("corpus") / "empty").mkdir()
    assert seen(release.path, "corpus") == {"ManifestError"}


def reseal(run: RunDirectory, *changed: str) -> None:
    """Write manifests anew, as a forger would, each with the digests of the others as they are now."""
    digests = {stage: read_manifest(run.stage(stage)).digest for stage in STAGES}
    for stage in STAGES:
        reads = {name: digests.get(name, digest) for name, digest in read_manifest(run.stage(stage)).reads.items()}
        digests[stage] = run.seal(run.stage(stage), stage, reads).digest
    assert all((run.stage(stage) / "manifest.json").exists() for stage in changed)


def named(run: RunDirectory, beginning: str) -> set[str]:
    """The errors of the checks whose names begin so."""
    return errors([check for check in check_files(run) if check.name.startswith(beginning)])


def test_two_revisions_swapped_are_seen_though_every_manifest_fits(release: RunDirectory) -> None:
    folder = release.stage("revisions")
    (folder / "step1").rename(folder / "away")
    (folder / "step2").rename(folder / "step1")
    (folder / "away").rename(folder / "step2")
    reseal(release, "revisions")
    assert named(release, "revisions: each") == {"IntegrityError"}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_revisions_setting_changed_is_seen_though_every_manifest_and_record_fits(release: RunDirectory, name: str) -> None:
    place = release.stage("revisions") / "step2"
    content = re.sub(rb"(\d)(?=\D*$)", b"7", (place / name).read_bytes()) + b"\n"
    (place / name).write_bytes(content)
    record = json.loads((place / "revision.json").read_bytes())
    record["files"][name] = digest_bytes(content)
    body = {key: value for key, value in record.items() if key not in ("format", "version")}
    (place / "revision.json").write_bytes(record_bytes("revision", 1, body))
    manifest = read_manifest(place)
    write_manifest(place, manifest.stage, manifest.stage_digest, manifest.reads)
    reseal(release, "revisions")
    assert named(release, "revisions: files") == set()
    assert named(release, "revisions: each") == {"IntegrityError"}


def edited(lines: list[bytes]) -> list[bytes]:
    return [lines[0], canonical_json({**json.loads(lines[1]), "loss_nats": 1.5}), *lines[2:]]


LIES = {
    "edited": edited,
    "swapped": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "dropped": lambda lines: [lines[0], *lines[2:]],
    "shortened": lambda lines: lines[:-1],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_ledger_that_lies_is_seen_though_every_manifest_fits(release: RunDirectory, lie: str) -> None:
    path = release.stage("training") / "ledger.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in LIES[lie](path.read_bytes().splitlines())))
    reseal(release, "training")
    assert named(release, "ledger: every line") == {"IntegrityError"}


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.5), ("tokens", 7), ("batch_digest", "sha256:0")])
def test_an_update_that_is_not_the_recipes_is_seen_though_chain_bindings_and_manifests_fit(
    release: RunDirectory, name: str, value: float | str
) -> None:
    report = finished_ledger(release)[1].report
    assert report is not None
    forge(release, {}, {1: replace(report, **{name: value})})
    assert named(release, "ledger: every line") == set()
    assert named(release, "ledger: every update") == {"IntegrityError"}


def test_tokens_that_are_not_the_texts_are_seen_though_every_manifest_fits(release: RunDirectory) -> None:
    path = release.stage("tokens") / "train.bin"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    reseal(release, "tokens")
    assert named(release, "tokens: each document") == {"IntegrityError"}


EDITS = {
    "name": ("name: tiny", "name: tina"),
    "corpus": ("validation_fraction: 0.2", "validation_fraction: 0.3"),
    "order": ("  seed: 7", "  seed: 8"),
    "model": ("  seed: 11", "  seed: 12"),
    "training": ("warmup_steps: 2", "warmup_steps: 1"),
    "checkpoints": ("every: 4", "every: 3"),
    "revisions": ("dtype: float32", "dtype: bfloat16"),
    "evaluation": ("heldout_tokens: 500", "heldout_tokens: 600"),
    "card": ("acme-lab", "acme-lob"),
    "a comment": ("name: tiny", "name: tiny  # harmless"),
}


@pytest.mark.parametrize("field", EDITS)
def test_a_recipe_edited_is_seen(release: RunDirectory, field: str) -> None:
    path = release.path / RECIPE
    before, (old, new) = path.read_text("utf-8"), EDITS[field]
    assert old in before
    path.write_text(before.replace(old, new, 1), encoding="utf-8")
    assert "IntegrityError" in seen(release.path)
