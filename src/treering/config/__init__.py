"""Config: what a run is, in one YAML that says everything that can change a bit.

Reads: a recipe.
Writes: `recipe.yaml`, the resolved recipe.
Promises: every problem of a recipe is named at once, with its line; the resolved recipe is a recipe with the same
digest; nothing outside it (no flag, no environment variable) changes a number.
"""
