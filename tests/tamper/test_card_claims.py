"""A card that has been tampered with, or whose records have, is found out."""

import json
import re

import pytest
from card_making import change_record, lay_out_run, recipe_with_card

from treering.card.checking import check_claims
from treering.card.claims import Claims
from treering.card.markdown import split_code
from treering.card.records import Records
from treering.card.stage import write_card
from treering.errors import ClaimError, FormatError


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory, repository):
    recipe = recipe_with_card((repository / "recipes" / "quickstart.yaml").read_text())
    run = lay_out_run(tmp_path_factory.mktemp("card") / "run", recipe)
    write_card(run)
    return run


@pytest.fixture
def run(laid_out):
    """A run with its card; whatever a test changes is put back."""
    before = {path: path.read_bytes() for path in laid_out.path.rglob("*") if path.is_file()}
    yield laid_out
    for path, content in before.items():
        path.write_bytes(content)


def alter(path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_an_honest_card_passes(run):
    check_claims(run)


def test_any_single_digit_altered_on_the_card_is_seen(run):
    readme = run.stage("card") / "README.md"
    honest = readme.read_text(encoding="utf-8")
    for place in [match.start() for match in re.finditer(r"\d", honest)][::9]:
        other = str((int(honest[place]) + 1) % 10)
        readme.write_text(honest[:place] + other + honest[place + 1 :], encoding="utf-8")
        with pytest.raises(ClaimError):
            check_claims(run)


def test_every_number_outside_code_is_claimed(run):
    claims = json.loads((run.stage("card") / "claims.json").read_bytes())["claims"]
    lines = {line for claim in claims for line in claim["sentence"].split("\n")}
    card = split_code((run.stage("card") / "README.md").read_text())
    numbers = [line for line in card.prose if re.search(r"(?<![\w.^-])\d", line)]
    assert len(numbers) > 40
    assert not [line for line in numbers if line not in lines]


@pytest.mark.parametrize(
    ("record", "field", "value"),
    [
        ("training/training.json", "parameters", 9_999_999),
        ("training/training.json", "tokens", 1),
        ("training/training.json", "run_digest", "sha256:0"),
        ("training/training.json", "first_loss_nats", 1.0),
        ("training/environment.json", "machine", {"processor": "Abacus", "architecture": "wood"}),
        ("revisions/revisions.json", "memory_float16_bytes", 1),
        ("revisions/revisions.json", "float32_disk_bytes", None),
        ("corpus/corpus.json", "dropped", {"duplicate": 77, "too_short": 0}),
        ("corpus/corpus.json", "domains", {"elsewhere": 1, "here": 2}),
        ("tokens/tokens.json", "train", {"documents": 1, "tokens": 2, "bytes": 3}),
        ("order/order.json", "seed", 4321),
        ("evaluation/evaluation.json", "untrained_bits_per_byte", 0.1),
        ("evaluation/unigram.json", "perplexity", 1.5),
        ("evaluation/harness/step512.json", "harness_version", "9.9"),
        ("evaluation/heldout/step512.json", "targets", 5),
        ("revisions/step512/config.json", "hidden_size", 4),
        ("evaluation/manifest.json", "files", []),
    ],
)
def test_a_record_altered_below_the_card_is_seen(run, record, field, value):
    change_record(run.path / record, **{field: value})
    with pytest.raises(ClaimError, match=record) as caught:
        check_claims(run)
    assert field in str(caught.value)


def test_a_score_altered_in_the_records_is_seen(run):
    path = run.stage("evaluation") / "harness" / "step512.json"
    tasks = json.loads(path.read_bytes())["tasks"]
    tasks[0]["metrics"][0]["value"] = 0.99
    change_record(path, tasks=tasks)
    with pytest.raises(ClaimError, match="/tasks/0/metrics/0/value"):
        check_claims(run)


def test_a_recipe_altered_below_the_card_is_seen(run):
    alter(run.path / "recipe.yaml", "learning_rate: 0.003", "learning_rate: 0.004")
    with pytest.raises(ClaimError, match=r"0\.003"):
        check_claims(run)


def test_a_number_altered_on_card_and_in_claims_alike_is_seen(run):
    for name in ("README.md", "claims.json"):
        alter(run.stage("card") / name, "| Parameters | 1,842,176 |", "| Parameters | 9,842,176 |")
    alter(run.stage("card") / "claims.json", '"value": "1,842,176"', '"value": "9,842,176"')
    with pytest.raises(ClaimError, match="1,842,176"):
        check_claims(run)


def test_a_claim_struck_from_the_list_is_seen(run):
    path = run.stage("card") / "claims.json"
    document = json.loads(path.read_bytes())
    kept = [claim for claim in document["claims"] if "Parameters | 1,842,176" not in claim["sentence"]]
    path.write_text(json.dumps({**document, "claims": kept}))
    with pytest.raises(ClaimError, match="without evidence"):
        check_claims(run)


def test_a_number_written_in_by_hand_is_seen(run):
    alter(run.stage("card") / "README.md", "## Citation", "It beats 99 other models.\n\n## Citation")
    with pytest.raises(ClaimError, match="It beats 99 other models"):
        check_claims(run)


def test_a_score_written_into_the_front_matter_by_hand_is_seen(run):
    alter(run.stage("card") / "README.md", "value: 0.7125", "value: 0.9125")
    with pytest.raises(ClaimError, match=r"0\.9125"):
        check_claims(run)


def test_a_word_altered_on_the_card_is_seen(run):
    alter(run.stage("card") / "README.md", "Do not rely on it", "Do rely on it")
    with pytest.raises(ClaimError, match="not the one"):
        check_claims(run)


def test_a_verdict_turned_round_is_seen(run):
    alter(run.stage("card") / "README.md", "is better than an untrained one", "is not better than an untrained one")
    with pytest.raises(ClaimError, match="no longer stands"):
        check_claims(run)


@pytest.mark.parametrize("address", ["../secret.json", "/etc/passwd", "training/../../x.json", "training/nowhere.json"])
def test_evidence_outside_the_run_or_nowhere_is_refused(run, address):
    path = run.stage("card") / "claims.json"
    document = json.loads(path.read_bytes())
    document["claims"][0]["evidence"] = [{"record": address, "field": "/parameters"}]
    path.write_text(json.dumps(document))
    with pytest.raises((ClaimError, FormatError)):
        check_claims(run)


@pytest.mark.parametrize(
    "claim", [{}, {"sentence": "x"}, {"sentence": "x", "value": "x", "form": "count", "evidence": [{}]}, 3]
)
def test_claims_that_are_none_are_refused(run, claim):
    path = run.stage("card") / "claims.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "claims": [claim]}))
    with pytest.raises(FormatError):
        check_claims(run)


def test_an_unknown_form_is_refused(run):
    alter(run.stage("card") / "claims.json", '"form": "parameters"', '"form": "flattery"')
    with pytest.raises(ClaimError, match="flattery"):
        check_claims(run)


@pytest.mark.parametrize("name", ["README.md", "claims.json"])
def test_a_missing_part_of_the_card_is_a_format_error(run, name):
    (run.stage("card") / name).unlink()
    with pytest.raises(FormatError):
        check_claims(run)


@pytest.mark.parametrize("text", ["It has 7 layers.\n", "---\nvalue: 0.9\n---\n", "| a | 5 |\n", "Up to 10% better.\n"])
def test_a_number_that_was_not_cited_cannot_be_written(run, text):
    with pytest.raises(ClaimError, match="without evidence"):
        Claims(Records(run.path)).settle(text)


@pytest.mark.parametrize("text", ["Loading in fp16, from step0 on.\n", "```\n1 + 1\n```\n", "UTF-8\n", "---\nname: v1\n---\n"])
def test_digits_of_names_and_of_code_need_no_citing(run, text):
    assert Claims(Records(run.path)).settle(text).text == text


def test_a_cited_number_stands_with_its_line_and_its_evidence(run):
    claims = Claims(Records(run.path))
    settled = claims.settle(f"One line.\nIt has {claims.amount('training/training.json#/parameters', 'parameter')}.\n")
    assert settled.text == "One line.\nIt has 1,842,176 parameters.\n"
    [claim] = settled.claims
    assert (claim.sentence, claim.value) == ("It has 1,842,176 parameters.", "1,842,176")
    assert claim.evidence == (("training/training.json", "/parameters"),)
