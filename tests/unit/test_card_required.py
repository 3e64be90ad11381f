"""What only a person knows: all of it is asked for at once."""

import subprocess
import sys

import pytest
from card_making import CARD, recipe_with_card

from treering.card.licenses import LICENSES
from treering.card.required import is_bibtex, is_link, repository, require_card
from treering.config.reading import read_recipe
from treering.config.schema import CardSection, Recipe
from treering.errors import RecipeError


def problems_of(quickstart: str, **changes: object) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        require_card(recipe_with_card(quickstart, **changes))
    return list(caught.value.problems)


def test_a_card_section_that_says_everything_is_let_through(quickstart):
    require_card(recipe_with_card(quickstart))


def test_the_quickstart_says_all_that_its_card_needs(repository):
    require_card(read_recipe(repository / "recipes" / "quickstart.yaml"))


def test_an_empty_card_section_is_refused_with_every_missing_entry_and_what_to_write(quickstart):
    recipe = recipe_with_card(quickstart)
    empty = Recipe.model_validate({**recipe.model_dump(), "card": {}})
    with pytest.raises(RecipeError) as caught:
        require_card(empty)
    named = [problem.partition(":")[0].removeprefix("card.") for problem in caught.value.problems]
    assert named == [field for field in CARD if field not in ("model_name", "suite_url")]
    assert all("; write " in problem and len(problem) > 40 for problem in caught.value.problems)


@pytest.mark.parametrize("blank", ["", "   ", "\n"])
def test_a_blank_entry_is_a_missing_one(quickstart, blank):
    assert any(problem.startswith("card.motivation: missing") for problem in problems_of(quickstart, motivation=blank))


@pytest.mark.parametrize("uses", [("one",), ("one", "two", "three", "four")])
def test_research_uses_are_two_or_three(quickstart, uses):
    assert problems_of(quickstart, research_uses=uses) == [f"card.research_uses: expected 2 or 3 entries, found {len(uses)}"]


@pytest.mark.parametrize("text", ["A model for {X}.", "TODO", "known: {}", "fill in. TBD"])
def test_a_slot_left_open_by_a_person_is_refused_before_anything_runs(quickstart, text):
    assert "slot left open" in problems_of(quickstart, known_biases=text)[0]


def test_a_license_that_the_hub_does_not_know_is_refused_with_the_nearest_one(quickstart):
    assert "did you mean `apache-2.0`?" in problems_of(quickstart, license="Apache 2.0")[0]
    assert "license_name and license_link" in problems_of(quickstart, license="Zorro")[0]


def test_another_license_needs_its_name_and_its_link(quickstart):
    assert len(problems_of(quickstart, license="other")) == 2
    require_card(recipe_with_card(quickstart, license="other", license_name="orchard-1", license_link="https://example.org/l"))


def test_the_licenses_are_listed_once_each():
    assert len(set(LICENSES)) == len(LICENSES) > 80


@pytest.mark.parametrize("code", ["english", "EN", "e", "en-US", "no\n"])
def test_a_language_is_an_iso_639_code(quickstart, code):
    assert "ISO 639" in problems_of(quickstart, language=(code,))[0]


@pytest.mark.parametrize("codes", [("en",), ("no", "deu"), ("multilingual",), ("code",)])
def test_iso_639_codes_and_the_hubs_two_words_are_languages(quickstart, codes):
    require_card(recipe_with_card(quickstart, language=codes))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "ftp://example.org",
        "example.org",
        "https://",
        "https://a b",
        "https://a>b",
        "http://x)<y",
        "None",
    ],
)
def test_only_http_links_are_links(quickstart, url):
    assert not is_link(url)
    assert "http" in problems_of(quickstart, paper=url)[0]
    assert "http" in problems_of(quickstart, suite_url=url)[0]


def test_a_paper_may_be_said_not_to_exist(quickstart):
    require_card(recipe_with_card(quickstart, paper="none"))


@pytest.mark.parametrize("citation", ["Smith 2026", "@misc{key, title = {x}", "@misc{key}}", "@misc{, a = 1}", "@misc{key}"])
def test_a_citation_is_bibtex_with_its_braces_balanced(quickstart, citation):
    assert not is_bibtex(citation)
    assert "BibTeX" in problems_of(quickstart, citation=citation)[0]


@pytest.mark.parametrize("name", ["a--b", "a..b", "a-", "a.git", "a" * 96])
def test_a_name_that_the_hub_refuses_is_refused(quickstart, name):
    assert problems_of(quickstart, model_name=name)[0].startswith("card.model_name")


def test_the_repository_takes_the_recipes_name_where_the_card_gives_none(quickstart):
    assert repository(recipe_with_card(quickstart, model_name=None)) == "acme-lab/quickstart"


def test_every_field_of_the_card_section_is_a_field_that_is_asked_for_or_optional():
    optional = {"model_name", "suite_url", "architecture_notes", "training_notes", "evaluation_commentary"}
    optional |= {"reproduction_notes", "license_name", "license_link", "datasets", "tags", "related_resources"}
    assert set(CardSection.model_fields) == optional | (set(CARD) - optional)


def test_asking_imports_neither_torch_nor_the_harness():
    code = "import sys, treering.card.required, treering.card.release, treering.card.stage, treering.card.checking\n"
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lm_eval', 'huggingface_hub')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
