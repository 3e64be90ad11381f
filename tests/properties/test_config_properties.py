"""What holds of every recipe: it is read back as it was written, with the same digest; and no text makes reading fall over."""

import copy
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from treering.config.digests import recipe_digest, resolved, run_digest, stage_digest
from treering.config.reading import parse_recipe
from treering.config.schema import Recipe
from treering.config.yaml_text import read_yaml, write_yaml
from treering.errors import RecipeError

AWKWARD = [
    *(
        "",
        " ",
        "~",
        "null",
        "no",
        "yes",
        "on",
        "True",
        "false",
        "1",
        "01",
        "0x1F",
        "0o17",
        "1_000",
        "1e3",
        "1e-3",
        ".5",
        "5.",
        ".inf",
    ),
    *(
        ".nan",
        "2020-01-01",
        "2001-12-14t21:59:43.10-05:00",
        "12:30:45",
        "=",
        "<<",
        "*a",
        "&a",
        "!a",
        "!!str a",
        "a: b",
        "a #b",
        "#a",
    ),
    *(
        "- a",
        "? a",
        ": a",
        "%YAML 1.1",
        "---",
        "...",
        "[a",
        "{a",
        "a]",
        "'",
        '"',
        "`",
        "@a",
        "|",
        ">",
        "\\",
        "\\n",
        "a\nb",
        "a\n\nb\n",
    ),
    *(
        "\n",
        "\ta",
        "a\t",
        " a",
        "a ",
        "a\rb",
        "a\r\nb",
        "\x00",
        "\x07",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\xa0",
        "\u2028",
        "\u2029",
        "\ufeff",
    ),
    *("\ufffe", "é", "e\u0301", "漢字", "\U0001f600", "\U0010ffff", "a" * 2000, "word " * 400),
]
TEXT = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FULL_TEXT = TEXT.filter(bool)
FINITE = {"allow_nan": False, "allow_infinity": False}
DIGEST = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}", fullmatch=True)
SEED = st.integers(0, 2**63 - 1)


def fields(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A section with all of the first fields and some of the others."""
    return st.fixed_dictionaries(required, optional=optional)


def positive(largest: int = 10**12) -> st.SearchStrategy[int]:
    """A count of at least one."""
    return st.integers(1, largest)


SOURCES = st.lists(
    st.just({"builtin": "sotu"})
    | fields(
        {"path": FULL_TEXT},
        {
            "documents": st.sampled_from(["file", "line"]),
            "text_field": TEXT,
            "domain": st.none() | FULL_TEXT.map(lambda text: text[:200]),
        },
    )
    | fields(
        {"dataset": FULL_TEXT, "revision": st.from_regex(r"[0-9a-f]{40}", fullmatch=True)}, {"configuration": st.none() | TEXT}
    ),
    min_size=1,
    max_size=3,
).map(tuple)
TOKENIZER = fields(
    {"vocabulary_size": st.integers(258, 4096)}, {"sample_fraction": st.floats(0, 1, exclude_min=True), "end_of_document": TEXT}
) | fields({"path": FULL_TEXT}, {"digest": DIGEST, "padding": st.none() | TEXT})
TRAINING = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 10_000_000),
        "global_batch_size": positive(),
        "optimizer": fields(
            {"learning_rate": st.floats(0, exclude_min=True, **FINITE)},
            {
                "betas": st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
                "eps": st.floats(0, exclude_min=True, **FINITE),
                "weight_decay": st.floats(0, **FINITE) | st.integers(0, 10),
                "gradient_clip": st.none() | st.floats(0, exclude_min=True, **FINITE),
            },
        ),
        "precision": st.sampled_from(["fp32", "bf16"]),
    }
)
RECIPES = fields(
    {
        "name": NAME,
        "corpus": fields({"sources": SOURCES}, {"validation_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True)}),
        "tokens": st.fixed_dictionaries({"tokenizer": TOKENIZER}),
        "order": fields({}, {"seed": SEED}),
        "model": fields({"preset": st.sampled_from(["sapling", "pythia-14m", "pythia-12b"])}, {"seed": SEED}),
        "training": TRAINING,
    },
    {
        "checkpoints": fields(
            {"every": positive()}, {"at": st.lists(st.integers(0, 10**6), unique=True, max_size=5).map(tuple)}
        ),
        "evaluation": fields({}, {"tasks": st.lists(TEXT, max_size=3).map(tuple), "num_fewshot": st.integers(0, 100)}),
        "card": fields(
            {}, {"motivation": st.none() | TEXT, "research_uses": st.lists(TEXT, max_size=3).map(tuple), "about": TEXT}
        ),
        "observe": fields({}, {"log_every": positive()}),
    },
).filter(
    lambda recipe: (
        recipe.get("checkpoints", {}).get("at") != () or recipe["checkpoints"]["every"] <= recipe["training"]["steps"]
    )
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(**FINITE) | TEXT,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=50)
@given(RECIPES)
def test_the_resolved_recipe_is_a_recipe_with_the_same_digests(fields: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(fields)
    again = parse_recipe(write_yaml(resolved(recipe)), "resolved")
    assert again == recipe
    assert recipe_digest(again) == recipe_digest(recipe)
    assert run_digest(again) == run_digest(recipe)
    assert write_yaml(resolved(again)) == write_yaml(resolved(recipe))


@settings(max_examples=50)
@given(RECIPES)
def test_a_short_recipe_as_yaml_is_the_same_as_its_fields(fields: dict[str, Any]) -> None:
    assert parse_recipe(write_yaml(fields), "short") == Recipe.model_validate(fields)


@settings(max_examples=50)
@given(RECIPES, st.data())
def test_what_is_only_watched_is_in_no_digest(fields: dict[str, Any], data: st.DataObject) -> None:
    watched = copy.deepcopy(fields)
    watched["observe"] = {"log_every": data.draw(positive()), "workers": data.draw(positive(64))}
    one, other = Recipe.model_validate(fields), Recipe.model_validate(watched)
    assert recipe_digest(one) == recipe_digest(other)
    assert run_digest(one) == run_digest(other)
    assert stage_digest(one, "corpus", {}) == stage_digest(other, "corpus", {})


@settings(max_examples=50)
@given(RECIPES, SEED)
def test_another_seed_is_another_run_on_the_same_corpus(fields: dict[str, Any], seed: int) -> None:
    one = Recipe.model_validate(fields)
    assume(seed != one.model.seed)
    other = Recipe.model_validate({**fields, "model": {**fields["model"], "seed": seed}})
    assert run_digest(one) != run_digest(other)
    assert stage_digest(one, "training", {}) != stage_digest(other, "training", {})
    assert stage_digest(one, "corpus", {}) == stage_digest(other, "corpus", {})


@given(JSON)
def test_every_json_value_is_read_back_from_its_yaml_to_the_bit(value: Any) -> None:
    again, _ = read_yaml(write_yaml({"value": value}), "value")
    assert repr(again["value"]) == repr(value)


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_a_text_that_looks_like_something_else_stays_that_text(text: str) -> None:
    value = {"value": text, text: {"inner": (text, text)}}
    assert read_yaml(write_yaml(value), "value")[0] == value


@settings(max_examples=300)
@given(st.text("ab:-?[]{},&*!|>'\"%@`#~<=. \n\t0189eEx_+\\", max_size=60))
@example("- - - -\n" * 50)
@example("? ? ? ?")
@example("a: &a\n  <<: *a\n")
@example("!!omap [a: 1]")
@example("- !!map\n")
@example("%TAG ! tag:x,2000:\n---\n!a b\n")
def test_reading_any_text_gives_a_recipe_error_and_no_other(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "any.yaml")
    assert str(caught.value).startswith("any.yaml: ")
    assert caught.value.problems


@given(JSON.map(lambda value: value if isinstance(value, dict) else {"corpus": value}))
def test_any_mapping_is_a_recipe_or_a_recipe_error(value: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        parse_recipe(write_yaml(value), "any.yaml")


@settings(max_examples=50)
@given(RECIPES, st.data())
def test_any_value_in_the_place_of_any_other_is_taken_or_refused_with_its_line(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    changed = resolved(Recipe.model_validate(fields))
    node, place = changed, []
    while isinstance(node, dict) and node:
        place.append(data.draw(st.sampled_from(sorted(node))))
        parent, node = node, node[place[-1]]
    parent[place[-1]] = data.draw(JSON)
    try:
        recipe = parse_recipe(write_yaml(changed), "changed.yaml")
    except RecipeError as error:
        assert all(problem.startswith("line ") for problem in error.problems)
    else:
        assert recipe_digest(parse_recipe(write_yaml(resolved(recipe)), "again.yaml")) == recipe_digest(recipe)
