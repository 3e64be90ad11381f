"""Checkpoints: the training state on disk, whole or absent.

Reads: the recipe's `checkpoints` section; a training state.
Writes: `checkpoints/stepN/`, each with its own manifest; `checkpoints/manifest.json` when the last is there.
Promises: a checkpoint with moments is all that the next step needs and nothing else, one without them its weights; loading
gives the bits that were saved.
"""
