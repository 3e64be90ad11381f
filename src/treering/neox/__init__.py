"""GPT-NeoX as a neighbour: its data order built, checked and looked up, and its checkpoints made into revisions.

Reads: GPT-NeoX's `.bin` and `.idx`, the index maps it leaves beside them, and its `global_stepN` folders.
Writes: index maps of the same names and bytes; a folder `stepN` for each checkpoint.
Promises: batch *n* of a GPT-NeoX run follows from the sizes of its documents, its number of updates, batch size, sequence
length and seed, and from nothing else; what is looked up in maps that are no permutation of these documents ends instead of
answering; nothing in a checkpoint's files is executed.
"""
