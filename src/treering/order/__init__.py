"""Order: which sequences are trained on, and when.

Reads: `tokens/manifest.json`, the number of training tokens; in GPT-NeoX's order their documents' lengths, and which data
sets are blended.
Writes: `order/order.json`; in GPT-NeoX's order its index maps, under its names and with its bytes.
Promises: batch *n* depends on the tokens, `order.seed`, `order.sequence_length`, the batch size and *n*, and on nothing
else; treering's own order depends on neither batch size, run length nor number of processes, and is computed, not stored;
GPT-NeoX's depends on the batch size and the number of updates, and on no number of processes.
"""
