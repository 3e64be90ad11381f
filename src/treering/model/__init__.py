"""Model: the network under Hugging Face's parameter names, its first weights, its counts.

Reads: the recipe's `model` section.
Writes: nothing.
Promises: a parameter's first value depends on its name, its shape, the initialisation and `model.seed`, and is the same
on every machine; the network computes what `transformers` computes from the same weights, up to rounding.
"""
