"""Several processes for tests: starting them, and what they make of the small recipe."""

import json
import subprocess
from pathlib import Path
from typing import Any

from starting import start, start_ranks
from training_making import resolve, state_digest, trained

# Every rank breaks off after the same update, as at a power cut.
_BREAK_OFF = """
import sys
from pathlib import Path
from training_making import StopAt, Stopped
from treering.config.run_directory import open_run
from treering.training.meeting import open_ranks
from treering.training.run import train

run = open_run(Path(sys.argv[1]))
with open_ranks(run.recipe) as ranks:
    try:
        train(run, StopAt(int(sys.argv[2])), ranks)
    except Stopped:
        pass
"""


def torchrun(world_size: int, *command: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Start so many ranks on this machine and wait for them."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", world_size)
    return start(*launcher, *command, timeout=timeout)


def by_one(change: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What one process makes of a recipe."""
    state, reports = trained(resolve(**change))
    return {"state": list(state_digest(state)), "reports": [vars(report) for report in reports]}


def by_ranks(
    world_size: int, shard: str, changes: list[dict[str, dict[str, Any]]], also: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """What so many ranks make of recipes."""
    result = start_ranks(world_size, "-m", "ranks_worker", shard, json.dumps(changes), also=also)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def break_off(world_size: int, run: Path, updates: int, also: tuple[str, ...] = ()) -> None:
    """Have so many ranks train a run and break off after so many updates of theirs."""
    broken = start_ranks(world_size, "-c", _BREAK_OFF, run, updates, also=also)
    assert broken.returncode == 0, broken.stderr
