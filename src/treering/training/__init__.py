"""Training: step n → step n + 1, and the run that keeps what the loop yields.

Reads: `tokens/`, `order/`, and the last whole checkpoint.
Writes: `checkpoints/stepN/`, `training/{ledger.jsonl,environment.json,training.json}`, `observe/{training,history}.jsonl`.
Promises: the state after n updates depends on recipe and n; the number of processes, stopping, resuming, saving and watching
change no bit on one kind of machine with the recorded software; another kind is refused, not tried. Through DeepSpeed the
number of processes does, and the ledger names it. What GPT-NeoX trained is imported here by `neox.training`, without a
ledger.
"""
