"""The tree of errors: what they say, their exit codes, and that they survive a process border."""

import pickle
import re

import pytest

from treering import errors


def tree() -> dict[type[errors.TreeringError], str]:
    """Every error class with its parent's name, as the code has them."""
    found: dict[type[errors.TreeringError], str] = {}
    pending = [errors.TreeringError]
    while pending:
        parent = pending.pop()
        for kind in parent.__subclasses__():
            found[kind] = parent.__name__
            pending.append(kind)
    return {kind: parent for kind, parent in found.items() if kind.__module__ == "treering.errors"}


def test_the_tree_drawn_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([│├└─ ]*)([A-Z]\w+(?:Error|Mismatch))\b", line):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            if depth:
                drawn[match[2]] = path[depth - 1]
    assert drawn == {kind.__name__: parent for kind, parent in tree().items()}


def test_the_exit_codes_drawn_in_the_docstring_are_those_of_the_classes() -> None:
    drawn = dict(re.findall(r"(\w+(?:Error|Mismatch)) +exit (\d+)", errors.__doc__ or ""))
    assert drawn
    for name, code in drawn.items():
        kind = getattr(errors, name)
        assert kind.exit_code == int(code)
        assert all(child.exit_code == int(code) for child, parent in tree().items() if parent == name)


def test_a_message_says_where_expected_found_and_what_to_do() -> None:
    error = errors.InputError("too large", where="a.txt", expected="at most 3", found=4, advice="cut it")
    assert str(error) == "a.txt: too large\n  expected: at most 3\n  found:    4\n  do:       cut it"


def test_a_part_that_is_not_given_takes_no_line() -> None:
    assert str(errors.InputError("too large")) == "too large"
    assert str(errors.InputError("too large", found=0)) == "too large\n  found:    0"


def test_a_recipe_error_lists_every_problem_and_counts_them() -> None:
    error = errors.RecipeError("r.yaml", ["one", "two"], advice="mend")
    assert str(error) == "r.yaml: 2 problems in this recipe\n  - one\n  - two\n  do:       mend"
    assert error.problems == ("one", "two")
    assert str(errors.RecipeError("r.yaml", ["one"])).startswith("r.yaml: 1 problem in this recipe\n")


@pytest.mark.parametrize("kind", sorted(tree(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_an_error_from_a_worker_process_arrives_whole(kind: type[errors.TreeringError]) -> None:
    error = (
        errors.RecipeError("r.yaml", ["one", "two"], advice="mend")
        if kind is errors.RecipeError
        else kind("bad", where="w", expected="e", found="f", advice="a")
    )
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
    assert arrived.exit_code == error.exit_code
