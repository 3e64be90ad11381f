"""No card with a slot left open."""

import pytest

from treering.card.slots import no_open_slots
from treering.errors import ClaimError


@pytest.mark.parametrize(
    "line", ["A {X}B parameter model", "Benchmarks: {}", "TODO: bias", "| a |  | b |", "| a || b |", "to be done, TBD"]
)
def test_a_placeholder_a_reminder_or_an_empty_cell_is_refused(line):
    with pytest.raises(ClaimError, match="slots left open"):
        no_open_slots(f"# title\n\n{line}\n", f"# title\n\n{line}\n", [])


def test_braces_and_reminders_in_the_name_of_a_domain_are_its_own():
    no_open_slots("| TODO: `{x}` |\n", "| … |\n", ["TODO: `{x}`"])


@pytest.mark.parametrize("value", ["None", "nan", "inf", "", " ", "{dtype}"])
def test_a_value_that_is_none_is_refused(value):
    with pytest.raises(ClaimError, match="slots left open"):
        no_open_slots("# title\n", "", ["fine", value])


@pytest.mark.parametrize("line", ["trained for None steps", "a loss of nan"])
def test_a_none_between_our_own_words_is_refused(line):
    with pytest.raises(ClaimError, match="slots left open"):
        no_open_slots(line, line, [])


def test_code_blocks_may_have_braces_and_people_may_say_none():
    no_open_slots('```python\nprint(f"{x}") # TODO\n```\nNone of it is true.\n', "…\n", ["None of it is true."])


def test_braces_after_a_code_block_are_seen():
    with pytest.raises(ClaimError, match="slots left open"):
        no_open_slots("````\n```\n{a}\n````\n{b}\n", "````\n```\n{a}\n````\n{b}\n", [])
