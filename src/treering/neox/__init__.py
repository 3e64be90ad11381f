"""GPT-NeoX as a neighbour: its configurations made into recipes and back, its checkpoints made into revisions.

Reads: GPT-NeoX's configurations, and its `global_stepN` folders.
Writes: a recipe, or a configuration; a folder `stepN` for each checkpoint.
Promises: every key of a configuration is translated, said to be without effect, or refused; nothing in a checkpoint's files
is executed; no revision is written whose logits transformers does not compute. (Its data sets are a source of `corpus`, its
data order one of `order`.)
"""
