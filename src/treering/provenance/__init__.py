"""Provenance: what a file is, what it was made from, and on which machine.

Reads: nothing of a run.
Writes: every `manifest.json`, and every record of every stage.
Promises: a file or folder is whole or absent; equal content has equal bytes and so equal digests.
"""
