"""One digest for a whole release."""

import pytest
from card_making import lay_out_run, recipe_with_card

from treering.card.release import STAGES_BELOW, digest_of_stages, release_digest
from treering.card.stage import write_card
from treering.errors import InputError, ManifestError
from treering.provenance.canonical import read_record
from treering.provenance.digests import digest_value
from treering.provenance.manifests import read_manifest


@pytest.fixture
def run(tmp_path, quickstart):
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart))
    write_card(run)
    return run


def test_the_release_digest_is_that_of_all_stages_in_order(run):
    stages = ["corpus", "tokens", "order", "checkpoints", "training", "revisions", "evaluation", "card"]
    digests = [[stage, read_manifest(run.stage(stage)).digest] for stage in stages]
    assert release_digest(run) == digest_value(digests)


def test_the_card_shows_the_digest_of_everything_below_it(run):
    below = [[stage, read_manifest(run.stage(stage)).digest] for stage in STAGES_BELOW]
    files = [read_record(run.stage(stage) / "manifest.json", "manifest", 1)["files"] for stage in STAGES_BELOW]
    assert digest_of_stages(*files) == digest_value(below)
    assert f"`{digest_value(below)}`" in (run.stage("card") / "README.md").read_text()


def test_equal_runs_have_equal_release_digests_and_another_word_gives_another(tmp_path, run, quickstart):
    same = lay_out_run(tmp_path / "same", recipe_with_card(quickstart))
    other = lay_out_run(tmp_path / "other", recipe_with_card(quickstart, about="Somebody else."))
    write_card(same)
    write_card(other)
    assert release_digest(same) == release_digest(run) != release_digest(other)


def test_a_release_without_its_card_has_no_digest(tmp_path, quickstart):
    with pytest.raises(InputError, match="card"):
        release_digest(lay_out_run(tmp_path / "bare", recipe_with_card(quickstart)))


def test_a_changed_card_has_no_digest(run):
    path = run.stage("card") / "README.md"
    path.write_text(path.read_text() + "More.\n")
    with pytest.raises(ManifestError):
        release_digest(run)
