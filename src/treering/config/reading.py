"""A recipe file to a resolved recipe: strict reading that names every problem at once, each with its line."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from treering.config.consistency import contradictions
from treering.config.problems import describe, wrong_sections
from treering.config.schema import Recipe, Section, spell_out
from treering.config.yaml_text import read_yaml, sentences
from treering.errors import InputError, RecipeError

_LARGEST_RECIPE_BYTES = 1 << 20
_START_FROM = "`treering new NAME` writes one to start from"


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
    value, lines = read_yaml(text, where)
    if not isinstance(value, dict):
        raise RecipeError(where, ["a recipe is a mapping of sections"], advice=_START_FROM)
    try:
        recipe = Recipe.model_validate(value)
        problems, sections = [], dict(recipe)
    except ValidationError as error:
        recipe, found = None, error.errors(include_url=False)
        problems, sections = list(describe(found)), _sound_sections(value, wrong_sections(found))
    problems += contradictions(sections)
    if recipe is None or problems:
        raise RecipeError(where, sentences(problems, lines))
    return recipe


def _sound_sections(value: dict[str, Any], wrong: frozenset[str]) -> dict[str, Any]:
    """Return the sections without a problem, so that contradictions between them are named beside the problems of others."""
    spelled = spell_out(value)
    kinds = {name: field.annotation for name, field in Recipe.model_fields.items() if name not in wrong}
    return {
        name: kind.model_validate(spelled.get(name, {}))
        for name, kind in kinds.items()
        if isinstance(kind, type) and issubclass(kind, Section)
    }


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_RECIPE_BYTES + 1)
        if len(content) > _LARGEST_RECIPE_BYTES:
            raise InputError("this is too large for a recipe", where=path, expected=f"at most {_LARGEST_RECIPE_BYTES} bytes")
        return content.decode()
    except FileNotFoundError as error:
        raise InputError("there is no such recipe, and no such run", where=path, advice=_START_FROM) from error
    except IsADirectoryError as error:
        raise InputError("a recipe is a file, this is a folder", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("this recipe is not UTF-8 text", where=path, found=f"byte {error.start}: {error.reason}") from error
    except OSError as error:
        raise InputError("this recipe cannot be read", where=path, found=error.strerror) from error
