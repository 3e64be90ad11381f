"""GPT-NeoX as a neighbour: the order in which it reads a data set, built, checked and looked up.

Reads: GPT-NeoX's `.bin` and `.idx`, and the index maps it leaves beside them.
Writes: index maps of the same names and bytes.
Promises: batch *n* of a GPT-NeoX run follows from the sizes of its documents, its number of updates, batch size, sequence
length and seed, and from nothing else; a map that is no permutation, or not of these documents, is refused.
"""
