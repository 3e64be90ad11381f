"""The audit: what is wrong with a release of many branches, found without downloading its weights.

Reads: of a repository on a Hub each branch's list of files with their digests, its settings, and small parts of its
safetensors; or the same of a folder of revisions, or of a run.
Writes: nothing, a page apart where one is asked for; `--deep` reads every byte of the weights, and keeps none.
Promises: each finding has its evidence; what could not be looked at is said; no pickle is loaded, no code and no template of a
repository is run, and nothing that a server says becomes a path or reaches a terminal or a page as it came.
"""
