"""Tasks of the LM Evaluation Harness that need no download, and those that a recipe names by path.

Reads: held-out documents, and the task files a recipe names.
Writes: `evaluation/tasks/`: each task's YAML and its items.
Promises: importing this package imports no torch; items are chosen by digest, so equal text gives equal items.
"""
