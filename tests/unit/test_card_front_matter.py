"""The Hub's own client reads the front matter as it is meant."""

import pytest
from card_making import lay_out_run, recipe_with_card
from huggingface_hub import ModelCard

from treering.card.stage import write_card


def metadata_of(tmp_path, quickstart, **changes) -> ModelCard:
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart, **changes))
    write_card(run)
    return ModelCard.load(run.stage("card") / "README.md")


def test_the_hub_reads_every_field(tmp_path, quickstart):
    data = metadata_of(tmp_path, quickstart, datasets=("acme/speeches",)).data
    assert (data.license, data.language, data.library_name, data.pipeline_tag) == (
        "apache-2.0",
        ["en"],
        "transformers",
        "text-generation",
    )
    assert data.datasets == ["acme/speeches", "sotu"]
    assert "treering" in data.tags
    assert data.model_name == "sapling"
    assert data.metrics == ["acc", "bits_per_byte", "perplexity"]


def test_the_hub_reads_every_result_as_a_number(tmp_path, quickstart):
    results = {(r.dataset_name, r.metric_type): r for r in metadata_of(tmp_path, quickstart).data.eval_results}
    agreement = results["number_agreement", "acc"]
    assert (agreement.metric_value, agreement.metric_args) == (0.7125, {"num_fewshot": 0, "stderr": 0.0226})
    assert agreement.source_url == "https://github.com/EleutherAI/lm-evaluation-harness"
    heldout = results["Documents held out from the training corpus", "perplexity"]
    assert isinstance(heldout.metric_value, float)


def test_the_hub_writes_back_what_it_reads(tmp_path, quickstart):
    card = metadata_of(tmp_path, quickstart)
    card.save(tmp_path / "again.md")
    assert ModelCard.load(tmp_path / "again.md").data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize("code", ["no", "nob", "en", "yo"])
def test_languages_that_yaml_takes_for_something_else_stay_languages(tmp_path, quickstart, code):
    assert metadata_of(tmp_path, quickstart, language=(code,)).data.language == [code]


@pytest.mark.parametrize(
    "tag",
    [
        "a: b",
        "- x",
        "yes",
        "1.0",
        "1e3",
        "null",
        "~",
        "#x",
        "'quoted'",
        '"quoted"',
        "---",
        "x\ny: z",
        "é ü",
        "&a",
        "*a",
        "!t",
        "2026-01-01",
    ],
)
def test_a_tag_stays_the_text_it_is_and_breaks_nothing_out_of(tmp_path, quickstart, tag):
    data = metadata_of(tmp_path, quickstart, tags=(tag,)).data
    assert data.tags[-1] == " ".join(tag.split())
    assert data.license == "apache-2.0"


def test_another_license_is_named_and_linked(tmp_path, quickstart):
    data = metadata_of(tmp_path, quickstart, license="other", license_name="orchard-1", license_link="https://x.org/l").data
    assert (data.license, data.license_name, data.license_link) == ("other", "orchard-1", "https://x.org/l")


def test_the_card_begins_below_the_front_matter(tmp_path, quickstart):
    assert metadata_of(tmp_path, quickstart).text.lstrip().startswith("# sapling\n")
