"""Numbers as a reader likes them, in every size."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from treering.card import numbers
from treering.card.forms import FORMS


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (640, "640"), (1000, "1.0K"), (1_842_176, "1.8M"), (9_960_000, "10M"), (14_067_712, "14M"), (162_322_944, "162M"),
        (999_600_000, "1.0B"), (1_414_647_808, "1.4B"), (11_846_072_320, "12B"),
    ],
)  # fmt: skip
def test_parameters_are_written_as_the_field_writes_them(value, words):
    assert numbers.parameters(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 B"), (512, "512 B"), (999, "999 B"), (7_372_968, "7.4 MB"), (47_300_000_000, "47 GB"), (999_960, "1.0 MB")],
)
def test_sizes_are_written_in_the_unit_that_fits(value, words):
    assert numbers.size(value) == words


@pytest.mark.parametrize(
    ("value", "stderr", "words"), [(0.53, 0.0502, "0.5300 ± 0.0502"), (540.314, None, "540.31"), (1.632, None, "1.632")]
)
def test_scores_carry_their_error_to_the_same_decimal(value, stderr, words):
    assert numbers.score(value, stderr) == words


@pytest.mark.parametrize("value", [None, "3", True, math.nan, math.inf])
@pytest.mark.parametrize("form", ["count", "parameters", "size", "exact", "percent", "loss", "score", "yaml number"])
def test_what_is_no_number_is_not_written_as_one(form, value):
    with pytest.raises((TypeError, ValueError)):
        FORMS[form](value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_yaml_number_is_read_back_exactly_as_a_number(value):
    text = numbers.yaml_number(value)
    assert float(text) == value
    assert YAML(typ="safe", pure=True).load(text) == value


@pytest.mark.parametrize(("number", "word"), [(0, "steps"), (1, "step"), (2, "steps")])
def test_words_go_with_their_number(number, word):
    assert numbers.plural(number, "step") == word


@pytest.mark.parametrize(
    ("names", "words"),
    [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c"), (list("abcdefghijklmn"), None)],
)
def test_enumerations_are_cut_and_counted_when_long(names, words):
    expected = words if words is not None else "a, b, c, d, e, f, g, h, i, j, k, l and 2 more"
    assert numbers.listing(names) == expected


@pytest.mark.parametrize(
    ("method", "deviation"),
    [("small_init", "0.0559"), ("wang_init", "0.02946"), ("normal", "0.02"), ("scaled_normal", "0.005774")],
)
def test_first_deviations_are_those_of_pythia_14m(method, deviation):
    assert FORMS["first deviation"](method, 0.02, 6, 128) == deviation
