"""Card: what a release says about itself, every number of it with its evidence.

Reads: the recipe, and the records of `corpus/`, `tokens/`, `order/`, `training/`, `revisions/` and `evaluation/`.
Writes: `card/README.md`, `card/claims.json`, `card/recipe.yaml`.
Promises: every number on the card follows from a record that `claims.json` names; no slot is left open; records that
contradict each other give no card.
"""
