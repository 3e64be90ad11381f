"""Verification: whether a run's files are what they say, and whether its training gives the same bytes again.

Reads: a run's folder, or a copy of it: the recipe, and whatever stages are there.
Writes: `verification/files.json`, `verification/data.json`, `verification/segment-A-B.json`.
Promises: a segment is `reproduced` only if every update's numbers and every kept state's tensors are equal bit for bit,
`consistent` only on other hardware, or where DeepSpeed computed it, and within ten times this machine's own noise; what could
not be looked at is `not run`, never passed.
"""
