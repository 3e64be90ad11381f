"""YAML to recipe: strict reading that names every problem at once, each with its line."""

import difflib
import json
import types
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from treering.config.consistency import contradictions
from treering.config.schema import Recipe
from treering.errors import InputError, RecipeError

_LARGEST_RECIPE_BYTES = 1 << 20
_MOST_NODES = 50_000

Place = tuple[str | int, ...]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe file and return it resolved.

    Raises:
        InputError: When the file is missing, too large or not text.
        RecipeError: When it is not YAML 1.2, or any field is unknown, missing, of a wrong type or contradictory.
    """
    return parse_recipe(_read_text(path), str(path))


def parse_recipe(text: str, where: str) -> Recipe:
    """Return the resolved recipe that a YAML text spells.

    Args:
        where: What to call the text in errors.

    Raises:
        RecipeError: As for `read_recipe`.
    """
    tree = _parse_yaml(text, where)
    lines = dict(_lines(tree))
    try:
        recipe = Recipe.model_validate(_plain(tree))
    except ValidationError as error:
        raise RecipeError(where, [_describe(details, lines) for details in error.errors()]) from error
    if problems := list(contradictions(recipe)):
        raise RecipeError(where, [_locate(problem.place, lines) + problem.sentence for problem in problems])
    return recipe


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_RECIPE_BYTES:
            raise InputError("this is too large for a recipe", where=path, expected=f"at most {_LARGEST_RECIPE_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError("there is no such recipe", where=path, advice="`treering new NAME` writes one to start from") from error
    except IsADirectoryError as error:
        raise InputError("a recipe is a file, this is a folder", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("this recipe is not UTF-8 text", where=path, found=f"byte {error.start}: {error.reason}") from error


def _parse_yaml(text: str, where: str) -> CommentedMap:
    try:
        tree = YAML(typ="rt", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f"line {mark.line + 1}: "
        sentence = (error.problem or str(error)).partition("\n")[0]
        raise RecipeError(where, [f"{place}{sentence}"]) from error
    except (YAMLError, ValueError) as error:
        raise RecipeError(where, [str(error).partition("\n")[0]]) from error
    if not isinstance(tree, CommentedMap):
        raise RecipeError(where, ["a recipe is a mapping of sections"], advice="`treering new NAME` writes one to start from")
    _refuse_bombs(tree, where)
    return tree


def _refuse_bombs(tree: object, where: str) -> None:
    count, pending = 0, [tree]
    while pending:
        count += 1
        if count > _MOST_NODES:
            raise RecipeError(where, [f"aliases expand to more than {_MOST_NODES} values"])
        node = pending.pop()
        if isinstance(node, dict):
            if odd := [key for key in node if not isinstance(key, str)]:
                raise RecipeError(where, [f"a field's name is text, found {key!r}" for key in odd])
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _plain(node: object) -> Any:
    """Return a YAML value in Python's own types: lists as tuples, dates as the text they were written as."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return tuple(_plain(value) for value in node)
    for kind in (bool, int, float):
        if isinstance(node, kind):
            return kind(node)
    return None if node is None else str(node)


def _lines(node: object, place: Place = ()) -> Iterator[tuple[Place, int]]:
    if isinstance(node, CommentedMap):
        for key, value in node.items():
            yield (*place, key), node.lc.key(key)[0] + 1
            yield from _lines(value, (*place, key))
    elif isinstance(node, CommentedSeq):
        for index, value in enumerate(node):
            yield (*place, index), node.lc.item(index)[0] + 1
            yield from _lines(value, (*place, index))


def _describe(details: ErrorDetails, lines: dict[Place, int]) -> str:
    place = _without_tags(details["loc"], lines)
    sentence = details["msg"].removeprefix("Value error, ")
    match details["type"]:
        case "extra_forbidden":
            sentence = "unknown field" + _did_you_mean(place)
        case "missing":
            sentence = "this field is missing"
        case "union_tag_not_found":
            sentence = "say what this source is: `builtin`, `path` or `dataset`"
        case _:
            found = details["input"]
            if isinstance(found, str | int | float | bool) or found is None:
                sentence = f"{sentence[0].lower()}{sentence[1:]}, found {json.dumps(found)}"
    return _locate(place, lines) + sentence


def _locate(place: Place, lines: dict[Place, int]) -> str:
    known = next((place[:size] for size in range(len(place), 0, -1) if place[:size] in lines), None)
    line = f"line {lines[known]}: " if known else ""
    return f"{line}{'.'.join(str(part) for part in place)}: "


def _without_tags(place: Place, lines: dict[Place, int]) -> Place:
    """Drop the names of union members that pydantic puts into locations."""
    kept: Place = ()
    for part in place:
        tag = part in ("builtin", "path", "dataset", "train", "load") and (*kept, part) not in lines and part != place[-1]
        if not tag:
            kept = (*kept, part)
    return kept


def _did_you_mean(place: Place) -> str:
    known = sorted(_fields_at(place[:-1]))
    near = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}"


def _fields_at(place: Place) -> set[str]:
    models: list[type[BaseModel]] = [Recipe]
    for part in place:
        if isinstance(part, int):
            continue
        annotations = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        models = [model for annotation in annotations for model in _models_in(annotation)]
    return {field for model in models for field in model.model_fields} | ({"preset"} if place == ("model",) else set())


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Annotated, Union, types.UnionType, tuple):
        for argument in get_args(annotation):
            yield from _models_in(argument)


def write_yaml(value: Any) -> str:
    """Return a JSON value as YAML 1.2 text that `parse_recipe` reads back to the same value."""
    stream = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 1000
    yaml.dump(value, stream)
    return stream.getvalue()
