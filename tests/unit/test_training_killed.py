"""A run killed with SIGKILL at random moments and begun again, until it ends: the bytes of the one nobody touched."""

import json
import shutil
from pathlib import Path

import pytest
from starting import start
from training_making import outcome, prepare, write_recipe

from treering.checkpoints.store import saved_steps
from treering.config.run_directory import RunDirectory
from treering.training.run import train

# One process brings torch and then forks a child for each attempt, so that a kill costs no second start. Half of the
# children kill themselves in the middle of a file operation, most of which are those of the thread that saves, half are killed
# from outside after a while; after so many kills the next is left alone.
TRAIN = """
import json, os, random, signal, sys, time
from pathlib import Path
from treering.checkpoints.store import saved_steps
from treering.config.run_directory import open_run
from treering.training.determinism import set_arithmetic
from treering.training.run import train

set_arithmetic(1)  # its first call takes longer than the training
run, draw = open_run(Path(sys.argv[1])), random.Random(int(sys.argv[2]))

def attempt(fatal):
    seen = 0
    def kill_at_the_fatal_call(event, arguments):
        nonlocal seen
        if (event == "open" or event.startswith(("os.", "shutil."))) and arguments and str(run.path) in str(arguments[0]):
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
    sys.addaudithook(kill_at_the_fatal_call)
    train(run)

kills = []
while True:
    spared, inside = len(kills) == 9, draw.random() < 0.5
    fatal = draw.randrange(15, 110) if inside and not spared else -1
    child = os.fork()
    if child == 0:
        attempt(fatal)
        os._exit(0)
    if not inside and not spared:
        time.sleep(draw.uniform(0.02, 0.25))
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        break
    assert status == -signal.SIGKILL, status
    kills.append(saved_steps(run.stage("checkpoints")))
print(json.dumps(kills))
"""


@pytest.mark.parametrize("resumable_every", [1, 4])
def test_a_run_killed_at_random_moments_ends_in_the_bytes_of_the_uninterrupted_one(
    tmp_path: Path, resumable_every: int
) -> None:
    recipe = write_recipe(tmp_path, checkpoints={"resumable_every": resumable_every})
    tiny_run = prepare(recipe, tmp_path / "runs")
    tiny_trained = RunDirectory(tmp_path / "whole" / "tiny", tiny_run.recipe)
    shutil.copytree(tiny_run.path, tiny_trained.path)
    train(tiny_trained)
    kills: list[list[int]] = []
    again = 0
    while len(kills) < 5:  # a lucky attempt may end early: then from the beginning
        for name in ("checkpoints", "training", ".training.working"):
            shutil.rmtree(tiny_run.path / name, ignore_errors=True)
        result = start("-c", TRAIN, tiny_run.path, 7 + again)
        assert result.returncode == 0, result.stderr
        kills += json.loads(result.stdout)
        again += 1
        assert outcome(tiny_run) == outcome(tiny_trained)
    assert not (tiny_run.path / ".training.working").exists()
    assert any(steps for steps in kills)  # not all of them before the first checkpoint
    assert saved_steps(tiny_run.stage("checkpoints")) == [0, 1, 2, 4, 6, 12]
