"""Tokens: documents become a tokenizer and one flat token file per split, with the way back from token to document.

Reads: `corpus/manifest.json`, its documents; a `tokenizer.json` where the recipe names one; the recipe's data sets where the
corpus is tokens already, which are taken over as they are.
Writes: `tokens/tokenizer.json`, `tokens/{train,validation}.{bin,idx}`, `tokens/tokens.json`.
Promises: the tokens depend on the corpus, the tokenizer and the token type, and on nothing else: not on the number of
processes, the size of batches, or which encoder is installed; every text reads back from its tokens, and none becomes a
special token; tokens that are taken over stay as they are, each one of the tokenizer's.
"""
