"""How far honest runs on other hardware and counterfeits are from a re-run: `python benchmarks/counterfeits.py`.

A publisher, a process whose libraries are held to an older instruction set, trains the quickstart and, from each of many of its
checkpoints, a segment: honestly, and in each way of cheating. Then this process, on all the instructions it has, judges every
segment as `treering verify` does. The table has, for each, how the trials were judged, and how many times this machine's own
noise the published weights were away.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from treering.checkpoints.state import TrainingState, initial_state, named_tensors
from treering.config.run_directory import RunDirectory, open_run
from treering.config.schema import Recipe
from treering.corpus.stage import prepare_corpus
from treering.order.batches import FlatBatches
from treering.order.stage import open_batches, prepare_order
from treering.provenance.environment import describe_machine
from treering.tokens.stage import prepare_tokens
from treering.training.determinism import set_arithmetic
from treering.training.steps import StepReport, steps
from treering.verification.acceptance import Distance, Outcome, distances, neighbour, other_arithmetic, verdict_of
from treering.verification.verdicts import Verdict

QUICKSTART = Path(__file__).resolve().parent.parent / "recipes" / "quickstart.yaml"
MACHINES = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
JUDGED = (Verdict.CONSISTENT, Verdict.NOT_RUN, Verdict.DIVERGED)
SMALL = "\n  ".join(("hidden_size: 64", "num_hidden_layers: 2", "num_attention_heads: 2"))


@dataclass(frozen=True)
class Swapped(FlatBatches):
    """Batches of which some are given in place of others."""

    instead: tuple[tuple[int, int], ...] = ()

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of the batch given for `step`."""
        return super().batch(dict(self.instead).get(step, step))


@dataclass(frozen=True)
class OneToken(FlatBatches):
    """Batches of which one has one token that is not the corpus's."""

    changed: int = 0

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`."""
        rows = super().batch(step)
        if step == self.changed:
            rows[0, rows.shape[1] // 2] = (rows[0, rows.shape[1] // 2] + 1) % 4096
        return rows


def clone(state: TrainingState) -> TrainingState:
    """Return a copy."""
    groups = ({n: t.detach().clone() for n, t in g.items()} for g in (state.weights, state.first_moments, state.second_moments))
    return TrainingState(state.step, *groups)


def go(state: TrainingState, batches: FlatBatches, recipe: Recipe, updates: int) -> Outcome:
    """Train on, from a copy."""
    state = clone(state)
    return Outcome(list(islice(steps(state, batches, recipe), updates)), clone(state))


def changed(recipe: Recipe, **optimizer: float) -> Recipe:
    """Return a recipe whose optimizer differs."""
    new = recipe.training.optimizer.model_copy(update=optimizer)
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"optimizer": new})})


def faster(recipe: Recipe, factor: float) -> Recipe:
    """Return a recipe whose every learning rate is multiplied."""
    training = changed(recipe, learning_rate=recipe.training.optimizer.learning_rate * factor).training
    floor = training.schedule.minimum_learning_rate * factor
    schedule = training.schedule.model_copy(update={"minimum_learning_rate": floor})
    return recipe.model_copy(update={"training": training.model_copy(update={"schedule": schedule})})


@dataclass(frozen=True)
class Trial:
    """What a publisher starts a segment with."""

    state: TrainingState
    batches: FlatBatches
    recipe: Recipe
    updates: int
    stranger: TrainingState  # of a run with another weight seed, at the same step

    @cached_property
    def outcome(self) -> Outcome:
        """What the recipe comes to."""
        return go(self.state, self.batches, self.recipe, self.updates)

    def honest(self) -> Outcome:
        """The recipe, done."""
        return self.outcome

    def with_batches(self, kind: type[FlatBatches], **more: Any) -> Outcome:
        """The recipe on other batches."""
        given = self.batches
        other = kind(given.tokens, given.order, given.sequence_length, given.global_batch_size, **more)
        return go(self.state, other, self.recipe, self.updates)

    def swapped(self) -> Outcome:
        """One batch in the middle exchanged for one that comes later."""
        middle = self.state.step + self.updates // 2
        return self.with_batches(Swapped, instead=((middle, middle + self.updates),))

    def reordered(self) -> Outcome:
        """Two neighbouring batches in each other's place."""
        middle = self.state.step + self.updates // 2
        return self.with_batches(Swapped, instead=((middle, middle - 1), (middle - 1, middle)))

    def one_token(self) -> Outcome:
        """One token of one batch altered."""
        return self.with_batches(OneToken, changed=self.state.step + self.updates // 2)

    def other_seed(self) -> Outcome:
        """Another data seed."""
        order = replace(self.batches.order, seed=self.batches.order.seed + 1)
        return go(self.state, replace(self.batches, order=order), self.recipe, self.updates)

    def another_run(self) -> Outcome:
        """The end of the same segment of a run with another weight seed, under this run's numbers."""
        return Outcome(self.honest().reports, go(self.stranger, self.batches, self.recipe, self.updates).state)

    def tuned(self) -> Outcome:
        """One more update at a hundredth of the rate, on a batch the segment had."""
        honest = self.honest()
        more = go(TrainingState(self.state.step, *named(honest.state)), self.batches, faster(self.recipe, 0.01), 1).state
        return Outcome(honest.reports, replace(honest.state, weights=more.weights))

    def bridged(self) -> Outcome:
        """A lost checkpoint made up: half-way between the ones before and after it."""
        after = go(self.state, self.batches, self.recipe, 2 * self.updates)
        pairs = zip(named(self.state), named(after.state), strict=True)
        groups = ({n: (mine[n] + theirs[n]) / 2 for n in mine} for mine, theirs in pairs)
        return Outcome(after.reports[: self.updates], TrainingState(self.state.step + self.updates, *groups))

    def rounded(self) -> Outcome:
        """The weights moved by a millionth, which nobody could tell from another machine's."""
        honest = self.honest()
        weights = {
            name: weight * (1 + 1e-7 * (index % 3 - 1)) for index, (name, weight) in enumerate(honest.state.weights.items())
        }
        return Outcome(honest.reports, replace(honest.state, weights=weights))

    def bent(self) -> Outcome:
        """One LayerNorm bias moved by a thousandth of what its numbers are."""
        honest = self.honest()
        name = "gpt_neox.final_layer_norm.bias"
        weights = {**honest.state.weights, name: honest.state.weights[name] * 1.001}
        return Outcome(honest.reports, replace(honest.state, weights=weights))


def named(state: TrainingState) -> tuple[dict[str, torch.Tensor], ...]:
    """Return the three groups."""
    return state.weights, state.first_moments, state.second_moments


KINDS: dict[str, Callable[[Trial], Outcome]] = {
    "honest": Trial.honest,
    "one batch replaced by a later one": Trial.swapped,
    "two neighbouring batches exchanged": Trial.reordered,
    "one token of one batch altered": Trial.one_token,
    "another data seed": Trial.other_seed,
    "learning rate × 1.01": lambda trial: replace(trial, recipe=faster(trial.recipe, 1.01)).honest(),
    "learning rate × 0.99": lambda trial: replace(trial, recipe=faster(trial.recipe, 0.99)).honest(),
    "learning rate × 1.001": lambda trial: replace(trial, recipe=faster(trial.recipe, 1.001)).honest(),
    "weight decay × 1.1": lambda trial: replace(
        trial, recipe=changed(trial.recipe, weight_decay=trial.recipe.training.optimizer.weight_decay * 1.1)
    ).honest(),
    "the checkpoint of another run": Trial.another_run,
    "fine-tuned by one small update": Trial.tuned,
    "a hole bridged by interpolation": Trial.bridged,
    "one bias × 1.001": Trial.bent,
    "weights × (1 ± 1e-7)": Trial.rounded,
}


def publish(run: RunDirectory, folder: Path, starts: list[int], updates: int) -> None:
    """Train, and write every kind of segment from each start."""
    recipe, batches = run.recipe, open_batches(run)
    set_arithmetic(recipe.training.threads)
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"seed": recipe.model.seed + 1})})
    mine, strange = initial_state(recipe.model), initial_state(other.model)
    loops = steps(mine, batches, recipe), steps(strange, batches, other)
    for start in starts:
        for state, loop in zip((mine, strange), loops, strict=True):
            list(islice(loop, start - state.step))
        trial = Trial(clone(mine), batches, recipe, updates, clone(strange))
        write(folder / f"{start}", Outcome([], trial.state))
        for number, make in enumerate(KINDS.values()):
            write(folder / f"{start}-{number}", make(trial))
        print(f"published {start}", file=sys.stderr, flush=True)


def write(path: Path, outcome: Outcome) -> None:
    """Write an outcome."""
    weights, moments = named_tensors(outcome.state)
    save_file({name: tensor.contiguous() for name, tensor in {**weights, **moments}.items()}, path.with_suffix(".safetensors"))
    body = {"step": outcome.state.step, "reports": [asdict(report) for report in outcome.reports]}
    path.with_suffix(".json").write_text(json.dumps(body), encoding="utf-8")


def read(path: Path) -> Outcome:
    """Read an outcome."""
    tensors, body = load_file(path.with_suffix(".safetensors")), json.loads(path.with_suffix(".json").read_bytes())
    kinds = ("first_moment.", "second_moment.")
    weights = {name: tensor for name, tensor in tensors.items() if not name.startswith(kinds)}
    moments = ({name: tensors[kind + name] for name in weights} for kind in kinds)
    reports = [StepReport(**report) for report in body["reports"]]
    return Outcome(reports, TrainingState(body["step"], weights, *moments))


def judge(run: RunDirectory, folder: Path, starts: list[int], updates: int) -> Iterator[tuple[str, list[Distance]]]:
    """Yield each kind with its distances, for each start."""
    recipe, batches = run.recipe, open_batches(run)
    another = other_arithmetic(recipe)
    for start in starts:
        state = read(folder / f"{start}").state
        set_arithmetic(recipe.training.threads)
        here = go(state, batches, recipe, updates)
        set_arithmetic(another.training.threads)
        elsewhere = go(neighbour(state), batches, another, updates)
        for number, kind in enumerate(KINDS):
            yield kind, list(distances(state, read(folder / f"{start}-{number}"), here, elsewhere))


def recipe_text(precision: str, small: bool, compiled: bool) -> str:
    """Return the quickstart on one thread, in a precision, its blocks eager or compiled."""
    arithmetic = f"threads: 1\n  precision: {precision}\n  compiled: {str(compiled).lower()}"
    text = QUICKSTART.read_text(encoding="utf-8").replace("threads: 2", arithmetic)
    return text.replace("preset: sapling", f"preset: sapling\n  {SMALL}") if small else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=8, help="updates in a segment")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--small", action="store_true", help="two layers of 64 instead of the quickstart's network")
    parser.add_argument("--compiled", action="store_true", help="compiled blocks, each process with its own instruction set")
    parser.add_argument("--machines", nargs="+", default=list(MACHINES))
    parser.add_argument("--raw", type=Path, help="a file for every distance")
    parser.add_argument("--publish", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.publish.parent if given.publish else Path(scratch)
        path = folder / "recipe.yaml"
        if not given.publish:
            path.write_text(recipe_text(given.precision, given.small, given.compiled), encoding="utf-8")
        run = open_run(path, folder)
        last = run.recipe.training.steps - 2 * given.updates
        starts = [last * (number + 1) // given.trials for number in range(given.trials)]
        if given.publish:
            publish(run, given.publish, starts, given.updates)
            return
        for prepare in (prepare_corpus, prepare_tokens, prepare_order):
            prepare(run)
        kind = f"{given.precision}, {'compiled' if given.compiled else 'eager'}"
        print(f"{describe_machine()}, torch {torch.__version__}, segments of {given.updates} updates, {kind}")
        for machine in given.machines:
            at = folder / machine
            at.mkdir()
            again = [sys.executable, __file__, *sys.argv[1:], "--publish", str(at)]
            subprocess.run(again, check=True, env={**os.environ, **MACHINES[machine]})
            report(machine, list(judge(run, at, starts, given.updates)), given.raw)


def report(machine: str, judged: list[tuple[str, list[Distance]]], raw: Path | None) -> None:
    """Print a machine's table."""
    found: dict[str, list[list[Distance]]] = defaultdict(list)
    for kind, of_trial in judged:
        found[kind].append(of_trial)
    if raw:
        with raw.open("a") as file:
            for kind, of_trial in judged:
                file.write(json.dumps([machine, kind, [[d.what, d.apart, d.noise] for d in of_trial]]) + "\n")
    print(f"published on {machine}")
    for kind, trials in found.items():
        verdicts = Counter(verdict_of(of_trial) for of_trial in trials)
        told = ", ".join(f"{verdicts[verdict]:>2} {verdict.value}" for verdict in JUDGED)
        ratios = sorted(max(distance.ratio for distance in of_trial) for of_trial in trials)
        weights = sorted(of_trial[0].ratio for of_trial in trials)
        print(
            f"{kind:<36} {told}; weights × noise {weights[0]:.2f} to {weights[-1]:.2f};"
            f" furthest {ratios[0]:.2f} {statistics.median(ratios):.2f} {ratios[-1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
