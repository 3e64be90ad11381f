"""Releases by treering itself: clean as they were made, with a first rate of 0 too; and every tamper with records found."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub_audit_making import NAME, Branches, Hub, Whole, without
from release_making import SECTIONS, walk
from training_making import write_recipe

from treering.config.run_directory import RunDirectory
from treering.hub.audit.findings import Finding
from treering.hub.audit.release import Wanted, audit
from treering.revisions.branches import branches_of

LARGE = (".safetensors",)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A whole small release whose first update has rate 0, as GPT-NeoX v1.0's schedule has it."""
    training = {**SECTIONS["training"], "schedule": {"name": "neox-v1", "warmup_steps": 2}}
    recipe = write_recipe(tmp_path_factory.mktemp("release"), **{**SECTIONS, "training": training})
    return walk(recipe, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def published(run) -> Branches:
    """The release as a repository has it."""
    return {
        branch: {path: Whole(file.read_bytes(), large=path.endswith(LARGE)) for path, file in files.items()}
        for branch, files in branches_of(run).items()
    }


def look(hub: Hub, branches: Branches) -> list[Finding]:
    hub.add(branches, "treering-examples/sapling")
    return list(audit("treering-examples/sapling", Wanted(hub.endpoint)).findings)


def changed(content: Whole, **fields: Any) -> Whole:
    return Whole(json.dumps({**json.loads(content.content), **fields}).encode())


def test_a_release_that_was_just_made_has_no_finding(hub, published, run):
    assert published["step0"]["model.safetensors"].digest == published["step1"]["model.safetensors"].digest
    assert [finding.problem for finding in look(hub, published)] == []


def test_a_run_on_disk_has_no_finding(run):
    assert list(audit(str(run.path)).findings) == []
    assert list(audit(str(run.path), Wanted(deep=True)).findings) == []


def test_equal_weights_that_no_rate_explains_are_found(hub, published):
    text = published["main"]["recipe.yaml"].content.decode()
    assert "neox-v1" in text
    published["main"]["recipe.yaml"] = Whole(text.replace("neox-v1", "neox").encode())
    checks = {finding.check for finding in look(hub, published)}
    assert {"identical weights", "records"} <= checks


def test_equal_weights_at_other_steps_are_found_all_the_same(hub, published):
    published["step4"]["model.safetensors"] = published["step2"]["model.safetensors"]
    checks = {finding.check for finding in look(hub, published)}
    assert {"identical weights", "records", "main is not the last"} <= checks


def test_a_branch_that_the_recipe_plans_and_that_is_not_there_is_found(hub, published):
    findings = look(hub, without(published, ["step2"]))
    missing = next(finding for finding in findings if finding.check == "missing branches")
    assert missing.branches == ("step2",) and "recipe.yaml" in missing.evidence[0]


@pytest.mark.parametrize(
    ("branch", "path"),
    [
        ("step2", "model.safetensors"),
        ("step2", "tokenizer.json"),
        ("step2", "config.json"),
        ("step2", "revision.json"),
        ("main", "README.md"),
        ("main", "claims.json"),
        ("main", "training/ledger.jsonl"),
        ("main", "training/training.json"),
    ],
)
def test_a_file_that_is_gone_or_changed_is_found(hub, published, branch, path):
    content = published[branch][path]
    assert isinstance(content, Whole)
    flipped = bytearray(content.content)
    flipped[-20] ^= 1
    for files in ({**published[branch], path: Whole(bytes(flipped), large=content.large)},
                  {name: one for name, one in published[branch].items() if name != path}):  # fmt: skip
        findings = look(hub, {**published, branch: files})
        told = [finding for finding in findings if finding.check == "records"]
        assert any(finding.branches == (branch,) and path in " ".join(finding.evidence) for finding in told), findings


def test_a_revision_that_says_it_is_another_is_found(hub, published):
    published["step2"]["revision.json"] = published["step4"]["revision.json"]
    told = [finding for finding in look(hub, published) if finding.check == "records"]
    assert any("record of another revision" in finding.problem for finding in told)


def test_a_ledger_whose_line_was_changed_is_found(hub, published):
    lines = published["main"]["training/ledger.jsonl"].content.splitlines(keepends=True)
    body = json.loads(lines[2])
    lines[2] = json.dumps({**body, "loss_nats": 0.0}, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    published["main"]["training/ledger.jsonl"] = Whole(b"".join(lines))
    told = [finding.problem for finding in look(hub, published) if finding.check == "records"]
    assert "the ledger's lines are not bound to each other" in told


def test_a_revision_that_is_not_of_the_ledgers_checkpoint_is_found(hub, published):
    record = published["step2"]["revision.json"]
    published["step2"]["revision.json"] = changed(record, trained_digest="sha256:" + "0" * 64)
    told = [finding.problem for finding in look(hub, published) if finding.check == "records"]
    assert "step2 was not made from the ledger's checkpoint" in told


def test_a_recipe_of_another_run_is_found(hub, published):
    text = published["main"]["recipe.yaml"].content.decode()
    published["main"]["recipe.yaml"] = Whole(text.replace("seed: 7", "seed: 8").encode())
    told = [finding.problem for finding in look(hub, published) if finding.check == "records"]
    assert any("the recipe on `main` is not that of" in problem for problem in told)


@pytest.mark.parametrize("text", ["", "[", "name: x", "a: " * 400_000, "training: {steps: 1e99}"])
def test_a_recipe_that_is_none_is_passed_over(hub, published, text):
    published["main"]["recipe.yaml"] = Whole(text.encode())
    assert "records" in {finding.check for finding in look(hub, published)}  # the card's manifest lists another


def test_records_of_others_than_treering_are_passed_over(hub, published):
    branches = {
        name: {path: content for path, content in files.items() if "/" not in path} for name, files in published.items()
    }
    for files in branches.values():
        files["revision.json"] = Whole(b'{"format": "other", "step": 7}')
    del branches["main"]["recipe.yaml"]
    assert "records" not in {finding.check for finding in look(hub, branches)}


def test_a_broken_stage_of_a_run_is_found_by_the_verb(run, treering, tmp_path):
    import shutil  # noqa: PLC0415

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    path = copy / "evaluation" / "evaluation.json"
    path.write_text(path.read_text().replace("1", "2"))
    code, out, _ = treering("audit", copy, "--json")
    assert code == 1
    assert any(finding["check"] == "records" for finding in json.loads(out)["findings"])
    assert treering("audit", run.path)[0] == 0
    assert isinstance(copy, Path) and NAME
