"""Corpus: which texts there are, in which order, where each comes from, and which of them are held out.

Reads: the recipe's sources: files, folders, data sets, or the corpus that comes as a package; or tokens, GPT-NeoX's data sets.
Writes: `corpus/corpus.json`, and for `train` and `validation` the shards (`.jsonl`) and the way into them (`.offsets`); of
tokens only which data sets they are, by digest, and which of their documents are held out.
Promises: every document is valid Unicode with an id that is its digest, and its source and row; which texts are held out
depends on them and on `validation_fraction` alone; of tokens the last documents are, or another data set, never one that is
trained on; what is dropped is counted and said why; memory does not grow
with the corpus; a source that cannot be read as declared is refused, never skipped.
"""
