"""Evaluation: what each revision can do, on held-out text and with the LM Evaluation Harness.

Reads: `corpus/validation`, `tokens/`, `order/`, `revisions/`, and the task files a recipe names.
Writes: `evaluation/` (held-out scores of every revision, the unigram model's, the harness's for the last revision, and the
tasks with their data as evaluated).
Promises: every revision is scored on the same targets; tasks' items depend on the held-out text and on fixed arithmetic, on
no random generator; nothing is downloaded, no code of a task file is run; twice gives the same bytes.
"""
