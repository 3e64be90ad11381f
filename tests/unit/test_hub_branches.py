"""Names that say steps, and names that say none."""

import re
import time

import pytest

from treering.checkpoints.schedule import checkpoint_name
from treering.errors import InputError
from treering.hub.branches import LONGEST_NAME, Place, place_of, step_of


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("step0", Place(0, 0, None)),
        ("step1000", Place(0, 1000, None)),
        ("stage1-step101000-tokens424B", Place(1, 101_000, 424 * 10**9)),
        ("stage2-ingredient3-step11931-tokens50B", Place(2, 11_931, 50 * 10**9)),
        ("step1000-tokens4B", Place(0, 1000, 4 * 10**9)),
        ("step477000-tokens2T", Place(0, 477_000, 2 * 10**12)),
        ("step0-tokens0", Place(0, 0, 0)),
        ("ckpt_356", Place(0, 356, None)),
        ("global_step1000", Place(0, 1000, None)),
        ("step_1000", Place(0, 1000, None)),
        ("iter_0001000", Place(0, 1000, None)),
    ],
)
def test_the_names_in_use_say_their_steps(name, place):
    assert place_of(name) == place
    assert step_of(name) == place.step


@pytest.mark.parametrize(
    "name",
    [
        *("main", "step", "", "step-1", "step1.5", "Step1", "my-step1", "step1-old", "step1\n", "steps1", "1", "ckpt356"),
        *("stage1", "step1-tokens", "step1-tokens4X", "step١", "step²", "refs/pr/1", "iter_", "step1/config"),
    ],
)
def test_other_names_say_none(name):
    assert place_of(name) is None
    assert step_of(name) is None


def test_treerings_own_names_are_read_back():
    assert [step_of(checkpoint_name(step)) for step in (0, 1, 512, 143_000)] == [0, 1, 512, 143_000]


def test_a_users_pattern_takes_the_place_of_the_known_forms():
    pattern = r"seed1/epoch-(?P<stage>\d+)-(?P<step>\d+)"
    assert place_of("seed1/epoch-2-500", pattern) == Place(2, 500, None)
    assert step_of("seed1/epoch-2-500") is None
    assert step_of("step500", pattern) is None
    assert step_of("seed1/epoch-2-500-old", pattern) is None


def test_a_pattern_may_leave_the_step_out_of_some_names():
    assert step_of("main", r"main|step(?P<step>\d+)") is None
    assert step_of("step7", r"main|step(?P<step>\d+)") == 7


def test_a_pattern_may_name_other_groups():
    pattern = r"(?P<unit>\w+)-(?P<tokens>\w+)-(?P<step>\d+)"
    assert place_of("a-many-3", pattern) == Place(0, 3, None)


@pytest.mark.parametrize("pattern", [r"step(?P<step>\d+", "(?u)(?P<step>x)", "(?P<step>a{99999999999999999999})", "*"])
def test_a_pattern_that_is_no_regular_expression_is_refused(pattern):
    with pytest.raises(InputError, match="no regular expression"):
        step_of("step1", pattern)


def test_a_pattern_without_the_group_is_refused_whatever_the_name():
    with pytest.raises(InputError, match="which part is the step"):
        step_of("", r"step(\d+)")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("step1k", r"step(?P<step>\w+)"),
        ("step٣", r"step(?P<step>.+)"),
        ("late-1", r"(?P<stage>\w+)-(?P<step>\d+)"),
        ("step", r"step(?P<step>\d*)"),
    ],
)
def test_a_pattern_that_takes_something_else_for_a_number_is_refused(name, pattern):
    with pytest.raises(InputError, match="takes for a number what is none"):
        step_of(name, pattern)


@pytest.mark.parametrize(
    "name",
    [
        *("../../step1", "/step1", "a//step1", ".hidden/step1", "a/../step1", "a/./step1", "step1/", "step1.", "..", "."),
        *("a\\step1", "a:step1", "a step1", "a\tstep1", "a\x1b[31mstep1", "a\u202estep1", "a\x00step1", "a@{step1", "a*step1"),
    ],
)
def test_what_git_allows_in_no_name_says_nothing_under_the_widest_pattern(name):
    widest = re.compile(r"(?s).*?(?P<step>\d*)[^\d]*")
    assert widest.fullmatch(name)
    assert step_of(name, widest.pattern) is None


def test_longer_names_than_any_in_use_say_nothing():
    pattern = r".*step(?P<step>\d+)"
    name = "a" * (LONGEST_NAME - 5) + "step1"
    assert step_of(name, pattern) == 1
    assert step_of("a" + name, pattern) is None
    assert step_of("step" + "0" * LONGEST_NAME) is None


@pytest.mark.parametrize("name", ["step" + "1" * (LONGEST_NAME - 5) + "x", "stage1-" * 35, "step1-tokens" + "1" * 230 + "!"])
def test_the_known_forms_are_quick_on_the_worst_names(name):
    began = time.perf_counter()
    assert step_of(name) is None
    assert time.perf_counter() - began < 0.1
