"""Revisions: each checkpoint as a directory that `transformers` loads.

Reads: `checkpoints/`, `tokens/` (the tokenizer, and held-out tokens for the gates), `corpus/` (held-out texts).
Writes: `revisions/stepN/`, `revisions/revisions.json`; `install` fills Hugging Face's local cache.
Promises: no revision is written whose logits under `transformers` differ from treering's beyond rounding, or whose
tokenizer gives other ids than the corpus was trained with.
"""
