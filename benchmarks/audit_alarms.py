"""How often the audit's trajectory check is wrong: `python benchmarks/audit_alarms.py --walks 2000 --trainings 40 [RELEASE …]`.

Honest releases, in which nothing should be found: simulated walks (drift, noise and decay at rates of three schedules), small
models trained here with AdamW at rates from 1e-4 to 1e-2, and folders of revisions that are given, each with every second,
third … branch and from later branches on too. Then the same with one fault each, which should be found. There is no peer: no
other tool looks for these. Results are printed, for docs/log.md and docs/audit.md.
"""

import argparse
import collections
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from results import made_on
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from treering.hub.audit.distances import course_of
from treering.hub.audit.paths import Track, Training, paths_of
from treering.hub.audit.release import Wanted, open_listing, read_contents
from treering.hub.audit.trajectory import check_trajectory
from treering.hub.branches import Place
from treering.hub.listed import Branch
from treering.provenance.progress import SILENCE

Rows = dict[str, np.ndarray]  # of each tensor [branches, numbers]
PYTHIA = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))
SCHEDULES = {
    "Pythia's": PYTHIA,
    "powers of two": (0, *(2**power for power in range(12))),
    "every 500": tuple(range(0, 25_001, 500)),
    "every 1000, late": tuple(range(100_000, 150_001, 1000)),
    "four": (0, 1000, 2000, 3000),
}
TYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Run:
    """An honest run: where it is from, the steps of its branches and their numbers."""

    kind: str
    steps: tuple[int, ...]
    rows: Rows

    def part(self, places: list[int]) -> "Run":
        """Return it with some of its branches only."""
        return Run(self.kind, tuple(self.steps[n] for n in places), {name: row[places] for name, row in self.rows.items()})


def alarms(run: Run) -> list[str]:
    """Return the checks that find something."""
    branches = tuple(Branch(f"step{step}", Place(0, step, None), "step", None, {}) for step in run.steps)
    matrices = {name: 2 if "norm" not in name and "bias" not in name else 1 for name in run.rows}
    tracks = [Track(name, branches, course_of(list(rows), run.steps), matrices[name]) for name, rows in run.rows.items()]
    return [finding.check for finding in check_trajectory([Training(branches, tuple(tracks))])]


def rounded(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Return numbers as a number type holds them."""
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)).to(getattr(torch, dtype)).float().numpy()


def walks(number: int, random: np.random.Generator) -> Iterator[Run]:
    """Yield simulated runs of six tensors."""
    for _ in range(number):
        name = str(random.choice(list(SCHEDULES)))
        steps, dtype = SCHEDULES[name], str(random.choice(TYPES))
        peak, decay = 10 ** random.uniform(-4.3, -3), random.choice([0.0, 0.01, 0.1])
        rates = rate_of(np.asarray(steps, dtype=float), str(random.choice(["cosine", "stable", "plain"]))) * peak
        lengths = {"a": 4096, "b": 8192, "c": 16384, "d": 4096, "norm": 512, "bias": 64}
        rows = {tensor: walk(steps, rates, decay, count, random) for tensor, count in lengths.items()}
        yield Run(f"walk, {name}", steps, {tensor: rounded(row, dtype) for tensor, row in rows.items()})


def walk(steps: tuple[int, ...], rates: np.ndarray, decay: float, numbers: int, random: np.random.Generator) -> np.ndarray:
    """Return one tensor's course: pulled to a place of its own, pushed on, shaken and decayed, in pieces of each interval."""
    std = 10 ** random.uniform(-2, -1.3)
    here, home, drift = random.normal(0, std, numbers), random.normal(0, 2 * std, numbers), random.normal(size=numbers)
    pull, push, noise = 10 ** random.uniform(-1, 0.7), 10 ** random.uniform(-2.5, -1), 10 ** random.uniform(-1, 0)
    rows = [here.copy()]
    for rate, gap in zip(rates[1:], np.diff(steps), strict=True):
        pieces = int(min(gap, 8))
        for _ in range(pieces):
            some = gap / pieces
            here = home + (here - home) * np.exp(-rate * pull * some)
            here = here * np.exp(-rate * decay * some) + rate * some * push * drift
            here = here + rate * np.sqrt(some) * noise * random.normal(size=numbers)
        rows.append(here.copy())
    return np.stack(rows)


def rate_of(steps: np.ndarray, schedule: str) -> np.ndarray:
    """Return the rate at steps, as a share of the peak."""
    last = steps[-1]
    warm = np.minimum(1.0, (steps + 1) / (0.01 * last)) if schedule != "plain" else np.ones_like(steps)
    if schedule == "stable":
        return warm * np.where(steps > 0.8 * last, np.maximum(0.02, (last - steps) / (0.2 * last)), 1.0)
    return warm * (0.1 + 0.45 * (1 + np.cos(np.pi * steps / last)))


def trained(seed: int) -> Run:
    """Return a small model's training on text of a random grammar, its settings drawn: two seeds have the same in turn."""
    random = np.random.default_rng(seed // 2)
    peak, decay, updates = 10 ** random.uniform(-4, -2), random.choice([0.0, 0.01, 0.1]), int(random.choice([300, 600, 1000]))
    every, batch = int(random.choice([10, 25, 50, 100])), int(random.choice([4, 16]))
    beta, schedule = random.choice([0.95, 0.999]), str(random.choice(["cosine", "stable", "plain"]))
    steps = sorted({0, *(2**power for power in range(10) if 2**power < updates), *range(0, updates + 1, every), updates})
    if random.random() < 0.3:
        steps = sorted({*range(0, updates + 1, every), updates})
    torch.manual_seed(seed)
    config = GPTNeoXConfig(vocab_size=256, hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                           intermediate_size=256, max_position_embeddings=32)  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, float(beta)), weight_decay=float(decay))
    following = torch.from_numpy(random.dirichlet(np.full(256, 0.02), 256)).cumsum(1)
    rates = rate_of(np.arange(updates + 1, dtype=float), schedule) * peak
    kept: dict[str, list[np.ndarray]] = collections.defaultdict(list)
    for step in range(updates + 1):
        if step in steps:
            for name, tensor in model.state_dict().items():
                kept[name].append(tensor.detach().numpy().ravel()[:16384].copy())
        tokens = torch.randint(0, 256, (batch, 1))
        for _ in range(31):
            drawn = torch.searchsorted(following[tokens[:, -1]], torch.rand(batch, 1, dtype=torch.float64))
            tokens = torch.cat([tokens, drawn.clamp(max=255)], 1)
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.step()
        optimizer.zero_grad()
    dtype = str(random.choice(TYPES))
    return Run("trained here", tuple(steps), {name: rounded(np.stack(rows), dtype) for name, rows in kept.items()})


def given(release: str) -> Run:
    """Return a folder of revisions as a run."""
    contents = read_contents(open_listing(release, Wanted(), SILENCE), SILENCE)
    (training,) = paths_of(contents)
    whole = [track for track in training.tracks if track.branches == training.branches]
    steps = tuple(branch.step for branch in training.branches)
    return Run(f"given: {Path(release).name}", steps, {track.tensor: track.course.values for track in whole})


def parts(run: Run, random: np.random.Generator) -> Iterator[Run]:
    """Yield a run, and what is left of it with fewer branches."""
    count = len(run.steps)
    yield run
    for stride in (2, 3, 5):
        yield run.part(list(range(0, count, stride)))
    for share in (0.25, 0.5):
        yield run.part(list(range(int(share * count), count)))
    yield run.part(sorted(random.choice(count, max(4, count // 2), replace=False).tolist()))


def faults(run: Run, other: Run, random: np.random.Generator) -> Iterator[tuple[str, Run]]:
    """Yield a run with one fault each; the other is one with the same steps and other first weights."""
    count = len(run.steps)
    inner = int(random.integers(2, count - 2))

    def changed(kind: str, change: dict[int, tuple[Rows, int]]) -> tuple[str, Run]:
        rows = {name: row.copy() for name, row in run.rows.items()}
        for place, (source, there) in change.items():
            for name, row in rows.items():
                row[place] = source[name][there]
        return kind, Run(run.kind, run.steps, rows)

    yield changed("a middle branch has nearly the last weights", {count // 2: (run.rows, count - 2)})
    yield changed("two neighbours exchanged", {inner: (run.rows, inner + 1), inner + 1: (run.rows, inner)})
    yield changed("a branch is another run's", {inner: (other.rows, inner)})
    yield changed("from a branch on another run's", {place: (other.rows, place) for place in range(inner, count)})
    yield changed("step 0 is another run's", {0: (other.rows, 0)})
    yield changed("the last branch is another run's", {count - 1: (other.rows, count - 1)})


def tell(title: str, counts: dict[str, list[int]]) -> None:
    """Print of how many how many were told of."""
    print(title)
    for kind, (found, whole) in sorted(counts.items()):
        print(f"  {kind:<46} {found:>5} of {whole:>5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="*")
    parser.add_argument("--walks", type=int, default=2000)
    parser.add_argument("--trainings", type=int, default=40)
    given_ = parser.parse_args()
    torch.set_num_threads(2)
    print(made_on(["torch", "transformers", "numpy"]))
    random = np.random.default_rng(0)
    false, seen = collections.defaultdict(lambda: [0, 0]), collections.defaultdict(lambda: [0, 0])
    for run in walks(given_.walks, random):
        count(false[run.kind], run)
    previous: dict[tuple[int, ...], Run] = {}
    runs = [trained(seed) for seed in range(given_.trainings)] + [given(release) for release in given_.releases]
    for run in runs:
        for part in parts(run, random):
            count(false[run.kind + (", whole" if part is run else ", fewer branches")], part)
    for run in [*runs, *walks(given_.walks // 20, random)]:
        other = previous.get(run.steps)
        if other is not None and len(run.steps) >= 6 and other.rows.keys() == run.rows.keys():
            for kind, faulty in faults(run, other, random):
                count(seen[f"{kind} ({'walk' if run.kind.startswith('walk') else 'trained'})"], faulty)
        previous[run.steps] = run
    tell("honest releases with a finding", false)
    tell("faulty releases with a finding", seen)


def count(counts: list[int], run: Run) -> None:
    """Count a run, and whether something was found in it."""
    counts[0] += bool(alarms(run))
    counts[1] += 1


if __name__ == "__main__":
    main()
