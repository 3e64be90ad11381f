"""Order: which sequences are trained on, and when.

Reads: `tokens/manifest.json`, the number of training tokens.
Writes: `order/order.json`.
Promises: batch *n* depends on the tokens, `order.seed`, `order.sequence_length`, the batch size and *n*, and on nothing
else; the order itself depends on neither batch size, run length nor number of processes, and is computed, not stored.
"""
