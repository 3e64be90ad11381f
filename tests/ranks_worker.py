"""One rank of a group, started by torchrun: trains made-up recipes and writes out, on rank 0, what came of each.

`ranks_worker.py SHARD JSON [die]`: what the ranks spread, and a list of changes to the small recipe's sections, all of one
model. With `die`, the last rank kills itself during the fifth update.
"""

import json
import os
import signal
import sys

import torch
from training_making import resolve, state_digest, synthetic_batches

from treering.checkpoints.state import initial_state
from treering.errors import TreeringError
from treering.training.determinism import set_arithmetic
from treering.training.meeting import open_ranks
from treering.training.signals import StopSignals
from treering.training.steps import steps


def main() -> None:
    """Train every recipe in one group."""
    changes, dies = json.loads(sys.argv[2]), sys.argv[3:] == ["die"]
    set_arithmetic(1)
    # torchrun sends SIGTERM to the others as soon as one has died; as in a run, that is not what ends them.
    with open_ranks(resolve(**changes[0]), sys.argv[1]) as ranks, StopSignals():
        for change in changes:
            recipe = resolve(**change)
            state, reports = ranks.place(initial_state(recipe.model) if ranks.rank == 0 else None, torch.device("cpu")), []
            for report in steps(state, synthetic_batches(recipe), recipe, ranks):
                reports.append(vars(report))
                if dies and report.step == 5 and ranks.rank == ranks.world_size - 1:
                    os.kill(os.getpid(), signal.SIGKILL)
            whole = ranks.collect(state)
            if whole is not None:
                sys.stdout.write(json.dumps({"state": state_digest(whole), "reports": reports}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except TreeringError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
