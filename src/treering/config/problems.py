"""What pydantic finds wrong with a recipe, said in sentences with the line and the field."""

import difflib
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from treering.config.presets import PresetError
from treering.config.schema import ModelSection, Recipe
from treering.config.yaml_text import Place, Problem

_SHOWN_CHARACTERS = 80
_NEEDED = {
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "float_type": "a number is needed",
    "finite_number": "a finite number is needed",
    "bool_type": "true or false is needed",
    "string_type": "text is needed",
    "string_too_short": "text of at least {min_length} character(s) is needed",
    "string_too_long": "text of at most {max_length} characters is needed",
    "string_pattern_mismatch": "text of the form {pattern} is needed",
    "tuple_type": "a list is needed",
    "too_short": "a list of at least {min_length} is needed",
    "too_long": "a list of at most {max_length} is needed",
    "model_type": "a mapping of fields is needed",
    "model_attributes_type": "a mapping of fields is needed",
    "greater_than": "a number above {gt} is needed",
    "greater_than_equal": "a number of at least {ge} is needed",
    "less_than": "a number below {lt} is needed",
    "less_than_equal": "a number of at most {le} is needed",
    "literal_error": "one of {expected} is needed",
    "missing": "this is missing",
    "union_tag_not_found": "say what this source is: `builtin`, `path`, `dataset` or `neox`",
}
_FOLLOWS_FROM: dict[Place, Place] = {
    ("order", "sequence_length"): ("model",),
    ("training", "micro_batch_size"): ("training", "global_batch_size"),
    ("model", "intermediate_size"): ("model", "hidden_size"),
}


def describe(found: Sequence[ErrorDetails]) -> Iterator[Problem]:
    """Yield each finding of pydantic in treering's words, without those that only follow from another."""
    places = [_place(details) for details in found]
    for details, place in zip(found, places, strict=True):
        if not _follows(details["type"], place, places):
            yield Problem(place, _sentence(details, place))


def wrong_sections(found: Sequence[ErrorDetails]) -> frozenset[str]:
    """Return the names of the recipe's sections that have a problem of their own."""
    return frozenset(str(details["loc"][0]) for details in found if details["loc"])


def _follows(kind: str, place: Place, places: Sequence[Place]) -> bool:
    """Whether a problem is there only because of another: pydantic counts wrong items of a list as absent ones."""
    if kind == "too_short":
        return any(other[: len(place)] == place and len(other) > len(place) for other in places)
    source = _FOLLOWS_FROM.get(place)
    if kind != "missing" or source is None:
        return False
    return any(other[: len(source)] == source[: len(other)] for other in places if other != place)


def _sentence(details: ErrorDetails, place: Place) -> str:
    kind, value = details["type"], details["input"]
    if kind == "extra_forbidden":
        return "unknown field" + _did_you_mean(str(place[-1]), _fields_around(details["loc"]))
    if kind == "value_error":
        return details["msg"].removeprefix("Value error, ")
    message = details["msg"]
    sentence = _NEEDED.get(kind, message[:1].lower() + message[1:]).format_map(details.get("ctx", {}))
    if kind == "union_tag_not_found" and place[-1] == "engine":
        return "say which engine this is: `name: treering`, `name: deepspeed` or `name: gpt-neox`"
    if kind in ("missing", "union_tag_not_found"):
        return sentence
    advice = ": put it in quotes" if kind == "string_type" and isinstance(value, int | float) else ""
    return f"{sentence}, found {_shown(value)}{advice}"


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(known)}"


def _place(details: ErrorDetails) -> Place:
    """Return where a problem is in the YAML: pydantic's location without the names of union members it puts there."""
    place: Place = ()
    annotation: Any = Recipe
    for part in details["loc"]:
        members = _members(annotation)
        if part in members:
            annotation = members[part]
        else:
            place, annotation = (*place, part), _inside(annotation, part)
    if isinstance(details.get("ctx", {}).get("error"), PresetError):
        place = (*place, "preset")
    return place


def _fields_around(location: tuple[str | int, ...]) -> list[str]:
    annotation: Any = Recipe
    for part in location[:-1]:
        annotation = _members(annotation).get(part) or _inside(annotation, part)
    fields = list(annotation.model_fields) if _is_section(annotation) else []
    return ["preset", *fields] if annotation is ModelSection else fields


def _members(annotation: Any) -> dict[str | int, Any]:
    """Return the models of a tagged union by tag; nothing for any other annotation."""
    members = {}
    for argument in get_args(_bare(annotation)):
        if get_origin(argument) is Annotated:
            model, *metadata = get_args(argument)
            members.update({extra.tag: model for extra in metadata if isinstance(extra, Tag)})
    return members


def _inside(annotation: Any, part: str | int) -> Any:
    """Return the annotation of a field of a model, or of an item of a tuple."""
    annotation = _bare(annotation)
    if isinstance(part, int):
        return next(iter(get_args(annotation)), None)
    field = annotation.model_fields.get(part) if _is_section(annotation) else None
    return None if field is None else field.annotation


def _bare(annotation: Any) -> Any:
    """Return an annotation without its metadata and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [argument for argument in get_args(annotation) if argument is not types.NoneType]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
