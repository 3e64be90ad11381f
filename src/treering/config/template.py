"""The recipe that `treering new` writes."""

from importlib import resources

from treering.config.reading import parse_recipe
from treering.config.yaml_text import write_yaml


def new_recipe(name: str) -> str:
    """Return a commented recipe of this name.

    Raises:
        RecipeError: When the name cannot be a run's.
    """
    text = (resources.files("treering.config") / "new_recipe.yaml").read_text(encoding="utf-8")
    text = text.replace("name: NAME", write_yaml({"name": name}).rstrip(), 1)
    parse_recipe(text, f"{name}.yaml")
    return text
