"""The command line: one file per verb, each a thin sheet over one library function.

Reads: arguments.
Writes: data on stdout, progress and warnings on stderr.
Promises: exit code 0 done, 1 a finding, 2 the user's input, 3 the environment; every verb is safe to repeat.
"""
