"""Evaluation: what each revision can do, on held-out text and with the LM Evaluation Harness.

Reads: `corpus/validation`, `tokens/`, `order/`, `training/`, `revisions/`, and the task files a recipe names; or any release's
revisions.
Writes: `evaluation/` (held-out scores of every revision, by domain and by token, the unigram model's, the harness's for every
revision that the recipe says, by item too; the tasks with their data as evaluated; which items were trained on; published
scores beside; pictures), or such scores of another release into a folder of their own.
Promises: every revision is scored on the same targets; tasks' items depend on the held-out text and on fixed arithmetic, on
no random generator; no code of a task file is run, and nothing is downloaded but the items of the harness's own tasks where
the recipe does not say where they lie; a revision's scores do not depend on the others; twice gives the same bytes.
"""
