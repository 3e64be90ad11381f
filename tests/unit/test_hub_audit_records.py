"""Releases by treering itself: clean as they were made, with a first rate of 0 too; and every tamper with records found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_audit_making import NAME, Branches, Hub, Whole, without
from release_making import SECTIONS, walk
from training_making import write_recipe

from treering.card.release import digest_of_stages
from treering.config.digests import STAGES, release_digest_of, resolved
from treering.config.reading import parse_recipe
from treering.config.run_directory import RunDirectory
from treering.config.yaml_text import write_yaml
from treering.hub.audit.findings import Finding
from treering.hub.audit.release import Wanted, audit
from treering.provenance.digests import digest_bytes, digest_value
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
    assert "step2 was not made from the checkpoint that the training left" in told


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


def forged(published: Branches) -> None:
    """Change a matrix of step2 a little, and write the new digest into every record that lists the file."""
    weights = published["step2"]["model.safetensors"]
    content = bytearray(weights.content)
    content[-400:-396] = np.float32(np.frombuffer(content[-400:-396], "<f4")[0] * 1.01 + 0.001).tobytes()
    published["step2"]["model.safetensors"] = Whole(bytes(content), large=True)
    found = f"sha256:{published['step2']['model.safetensors'].digest}"
    rewrite(published, f"sha256:{weights.digest}", found)


def rewrite(published: Branches, old: str, new: str) -> None:
    """Write a file's digest into the record and the manifests of revisions, as one would who hides that it was changed."""
    record = published["step2"]["revision.json"]
    published["step2"]["revision.json"] = Whole(record.content.replace(old.encode(), new.encode()))
    digests = [(old, new), *((digest_bytes(one.content), digest_bytes(other.content)) for one, other in
               [(record, published["step2"]["revision.json"])])]  # fmt: skip
    published["main"]["revisions/step2/revision.json"] = published["step2"]["revision.json"]
    for path in ("revisions/step2/manifest.json", "revisions/manifest.json"):
        before = published["main"][path].content
        after = before
        for one, other in digests:
            after = after.replace(one.encode(), other.encode())
        digests.append((digest_bytes(before), digest_bytes(after)))
        published["main"][path] = Whole(after)


def reseal_card(published: Branches, change: bytes, to: bytes) -> None:
    """Change the card, and its digest in the card's manifest."""
    card = published["main"]["README.md"].content
    assert change in card
    published["main"]["README.md"] = Whole(card.replace(change, to))
    manifest = json.loads(published["main"]["card/manifest.json"].content)
    for entry in manifest["files"]:
        if entry["path"] == "README.md":
            changed_card = published["main"]["README.md"].content
            entry |= {"digest": digest_bytes(changed_card), "size_bytes": len(changed_card)}
    published["main"]["card/manifest.json"] = Whole(json.dumps(manifest).encode())


def below_of(published: Branches) -> str:
    return digest_of_stages(
        *(json.loads(published["main"][f"{stage}/manifest.json"].content)["files"] for stage in STAGES if stage != "card")
    )


def release_tag(published: Branches) -> str:
    files = {stage: json.loads(published["main"][f"{stage}/manifest.json"].content)["files"] for stage in STAGES}
    rows = {stage: [[one["path"], one["size_bytes"], one["digest"]] for one in listed] for stage, listed in files.items()}
    digest = release_digest_of({stage: digest_value(listed) for stage, listed in rows.items()})
    return f"release-{digest.removeprefix('sha256:')[:12]}"


def problems(findings: list[Finding]) -> list[str]:
    return [finding.problem for finding in findings if finding.check == "records"]


def test_weights_that_were_changed_with_every_digest_of_their_file_are_found_by_the_cards_digest(hub, published):
    forged(published)
    assert problems(look(hub, published)) == ["the manifests are not those that the card was written from"]


def test_weights_that_were_changed_with_the_card_too_are_found_by_the_tag(hub, published):
    hub.tags = {release_tag(published): "a" * 40, "v1": "b" * 40}
    assert problems(look(hub, published)) == []
    before = below_of(published)
    forged(published)
    reseal_card(published, before.encode(), below_of(published).encode())
    assert problems(look(hub, published)) == ["no tag is of the release that the manifests list"]
    hub.tags = {release_tag(published): "a" * 40, "release-000000000000": "b" * 40}
    assert problems(look(hub, published)) == []


def test_weights_that_were_changed_with_all_that_is_not_read_are_found_by_reading_all(hub, published):
    before = below_of(published)
    forged(published)
    reseal_card(published, before.encode(), below_of(published).encode())
    assert problems(look(hub, published)) == []
    hub.add(published, "treering-examples/sapling")
    found = audit("treering-examples/sapling", Wanted(hub.endpoint, deep=True)).findings
    assert problems(list(found)) == ["the weights of step2 are not those that its record says were published"]


def test_weights_that_say_they_are_others_than_those_trained_are_found(hub, published):
    forged(published)
    told = json.loads(published["step2"]["revision.json"].content)["weights_digest"]
    record = published["step2"]["revision.json"].content
    head, _, tail = record.rpartition(told.encode())
    published["step2"]["revision.json"] = Whole(head + b"sha256:" + b"7" * 64 + tail)
    told = problems(look(hub, published))
    assert "step2 was published as it was trained, in float32, and its record says other weights" in told


def test_a_card_that_does_not_say_of_what_it_is_is_found(hub, published):
    reseal_card(published, b"everything below this card", b"everything")
    (problem,) = problems(look(hub, published))
    assert problem == "the manifests are not those that the card was written from"


@pytest.mark.parametrize(
    "path",
    [
        "training/ledger.jsonl",
        "training/manifest.json",
        "evaluation/manifest.json",
        "card/manifest.json",
        "revisions/manifest.json",
        "order/manifest.json",
        "recipe.yaml",
    ],
)
@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": "treering/manifest", "version": 1, "files": 3}'])
def test_a_record_that_is_gone_or_cannot_be_read_is_found_by_itself(hub, published, path, content):
    """Whatever lists it is gone too, so that its absence is all there is to see."""
    del published["main"][path]
    if content is not None:
        published["main"][path] = Whole(content)
    for stage in ("training", "card"):
        if path.startswith(stage) or path == "recipe.yaml":
            published["main"].pop(f"{stage}/manifest.json", None)
    told = [finding for finding in look(hub, published) if finding.check == "records"]
    assert any(finding.branches == ("main",) and path in " ".join(finding.evidence) for finding in told), told


def test_revisions_without_records_are_found(hub, published):
    del published["main"]["revisions/manifest.json"]
    for files in published.values():
        del files["revision.json"]
    told = [finding for finding in look(hub, published) if finding.check == "records"]
    assert ("step0", "step1", "step2", "step4", "main") in [finding.branches for finding in told]


@pytest.mark.parametrize("content", [b"garbage", b"[1]", b'{"format": "treering/revision-of-mine"}'])
def test_a_revision_whose_record_cannot_be_read_is_found(hub, published, content):
    published["step1"]["revision.json"] = Whole(content)
    told = [finding for finding in look(hub, published) if finding.check == "records"]
    assert any(finding.branches == ("step1",) and "no revision.json" in finding.problem for finding in told)


def test_a_branch_that_no_manifest_lists_is_found(hub, published):
    manifest = json.loads(published["main"]["revisions/manifest.json"].content)
    manifest["files"] = [entry for entry in manifest["files"] if not entry["path"].startswith("step2/")]
    published["main"]["revisions/manifest.json"] = Whole(json.dumps(manifest).encode())
    assert "no manifest lists the files of step2" in problems(look(hub, published))


def test_a_ledger_without_a_kept_step_is_found(hub, published):
    lines = published["main"]["training/ledger.jsonl"].content.splitlines(keepends=True)
    published["main"]["training/ledger.jsonl"] = Whole(b"".join(lines[:-1]))
    assert "no record of the training has the weights of step4" in problems(look(hub, published))


def test_weights_of_main_that_are_not_the_last_revisions_are_found(hub, published):
    published["main"]["model.safetensors"] = published["step2"]["model.safetensors"]
    told = [finding for finding in look(hub, published) if finding.check == "records"]
    assert [finding.branches for finding in told] == [("main",)]


def test_revisions_without_a_main_or_by_themselves_lack_nothing(hub, published, run, tmp_path):
    assert problems(look(hub, without(published, ["main"]))) == []
    assert problems(list(audit(str(run.path / "revisions" / "step2")).findings)) == []


def test_a_repository_of_checkpoints_has_no_records_to_lack(hub, published, run):
    manifest = published["main"]["checkpoints/manifest.json"]
    branches: Branches = {"main": {"checkpoints/manifest.json": manifest}}
    for name in ("step0", "step2", "step4"):
        files = sorted((run.stage("checkpoints") / name).iterdir())
        branches[name] = {file.name: Whole(file.read_bytes(), large=file.name.endswith(LARGE)) for file in files}
    assert problems(look(hub, branches)) == []


def test_a_training_that_was_imported_has_no_ledger_and_a_record_of_each_checkpoint(hub, published):
    sections = resolved(parse_recipe(published["main"]["recipe.yaml"].content.decode(), "recipe.yaml"))
    sections["training"]["engine"] = {"name": "gpt-neox", "checkpoints": "save"}
    sections["order"]["name"] = "neox-v1"
    as_they_are = {"normalisation": "none", "deduplication": "none"}
    sections["corpus"] |= {"sources": [{"neox": "data", "validation": "held"}], **as_they_are}
    sections["tokens"]["tokenizer"] = {"path": "tokenizer.json"}
    published["main"]["recipe.yaml"] = Whole(write_yaml(sections).encode())
    del published["main"]["training/ledger.jsonl"]
    for name in ("step0", "step1", "step2", "step4"):
        record = json.loads(published[name]["revision.json"].content)
        body = {"step": record["step"], "weights_digest": record["trained_digest"]}
        published["main"][f"training/imported/{name}.json"] = Whole(json.dumps(body).encode())
    told = problems(look(hub, published))
    assert any("the recipe on `main` is not that of" in problem for problem in told)  # it was read, and it is another
    assert not any("ledger" in problem or "training" in problem for problem in told), told
    published["main"]["training/imported/step2.json"] = published["main"]["training/imported/step1.json"]
    assert "no record of the training has the weights of step2" in problems(look(hub, published))
    body = {"step": 2, "weights_digest": "sha256:" + "0" * 64}
    published["main"]["training/imported/step2.json"] = Whole(json.dumps(body).encode())
    assert "step2 was not made from the checkpoint that the training left" in problems(look(hub, published))
