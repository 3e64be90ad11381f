"""Named architectures, one YAML each, and how a recipe's model section builds on one."""

import difflib
from functools import cache
from importlib import resources
from typing import Any

from ruamel.yaml import YAML


class PresetError(ValueError):
    """A recipe names a preset that there is not."""


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names of all presets, sorted by name."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def load_preset(name: str) -> dict[str, Any]:
    """Return a preset's architecture fields.

    Raises:
        PresetError: When there is no preset of that name; says which is nearest, or else lists all.
    """
    if name not in preset_names():
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(preset_names())}"
        raise PresetError(f"there is no preset `{name}`; {hint}")
    text = (resources.files(__name__) / f"{name}.yaml").read_text(encoding="utf-8")
    return YAML(typ="safe", pure=True).load(text)


def apply_preset(section: dict[str, Any]) -> dict[str, Any]:
    """Return a model section with its preset's fields spelled out under its own; without a preset, a copy.

    Raises:
        PresetError: When the preset is unknown.
    """
    own = {field: value for field, value in section.items() if field != "preset"}
    if "preset" not in section:
        return own
    name = section["preset"]
    if not isinstance(name, str):
        raise PresetError(f"the name of a preset is needed; there are: {', '.join(preset_names())}")
    preset = load_preset(name)
    if isinstance(own.get("initialisation"), dict):
        own["initialisation"] = {**preset.get("initialisation", {}), **own["initialisation"]}
    if "hidden_size" in own:
        preset.pop("intermediate_size", None)
    return {**preset, **own}
