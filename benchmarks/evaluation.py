"""Evaluating many revisions: `python benchmarks/evaluation.py RUN --data EVALS --revisions 12 --commands 2`.

RUN is a finished run (the quickstart's), EVALS a folder of real evaluation data: `ARC-Easy/validation.jsonl`,
`sciq/validation.jsonl`, `lambada/lambada_test_openai.jsonl`, `blimp/PARADIGM.jsonl`. Five tasks are scored on so many
revisions in one process, as `treering evaluate` does; the peer is the command `lm_eval` once for a revision, with the same
tasks by its own files and the same items, batch size and threads, timed for so many revisions of which the mean stands for
all. The command draws 100,000 samples for the perplexity's standard error, treering 1,000. Scores of those are compared,
number by number. Results are printed, for docs/log.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from results import made_on

from treering.evaluation.harness import HarnessTasks
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_scores import ScoredTask
from treering.evaluation.tasks.catalogue import find_tasks
from treering.evaluation.tasks.harness_index import find_harness_tasks
from treering.provenance.progress import SILENCE
from treering.revisions.loading import load_model, load_tokenizer

TASKS = {
    "arc_easy": "ARC-Easy/validation.jsonl",
    "sciq": "sciq/validation.jsonl",
    "lambada_openai": "lambada/lambada_test_openai.jsonl",
    "blimp_adjunct_island": "blimp/adjunct_island.jsonl",
    "blimp_causative": "blimp/causative.jsonl",
}
BATCH, THREADS = 32, 2
Scores = dict[str, dict[str, float]]


def ours(revisions: list[Path], data: Path) -> tuple[float, dict[str, Scores]]:
    """Return the seconds that all revisions took, imports apart, and their scores."""
    start, found = time.perf_counter(), {}
    places = {name: str(data / place) for name, place in TASKS.items()}
    built = HarnessTasks([task.prepared(data) for task in find_tasks(list(TASKS), places)], 0)
    with SILENCE.task("scoring") as watched:
        for folder in revisions:
            scores: list[ScoredTask] = []
            built.score(
                lambda folder=folder: load_model(folder, torch.float32),
                lambda model, folder=folder: WatchedModel(model, load_tokenizer(folder), BATCH, watched),
                scores.append,
            )
            tasks = [scored.score for scored in scores]
            found[folder.name] = {task.task: {metric.metric: metric.value for metric in task.metrics} for task in tasks}
    return time.perf_counter() - start, found


def theirs(revision: Path, data: Path, folder: Path) -> tuple[float, Scores]:
    """Return the seconds that the command took for a revision, and its scores."""
    include = folder / "tasks"
    include.mkdir(exist_ok=True)
    for name, place in TASKS.items():
        (known,) = find_harness_tasks(name)
        scored = "train" if name.startswith("blimp") else "test"
        splits = {"training_split": None, "validation_split": scored, "test_split": None, "fewshot_split": None}
        items = {"data_files": {scored: str((data / place).resolve())}}
        body = {"include": str(known.file), **splits, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": items}
        (include / f"{name}.yaml").write_text(yaml.safe_dump({**body, "task": name}), encoding="utf-8")
    out = folder / revision.name
    command = [
        sys.executable,
        "-m",
        "lm_eval",
        "--model",
        "hf",
        "--model_args",
        f"pretrained={revision.resolve()},dtype=float32",
    ]
    command += ["--tasks", ",".join(TASKS), "--include_path", str(include), "--device", "cpu", "--batch_size", str(BATCH)]
    command += ["--num_fewshot", "0", "--output_path", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    taken = time.perf_counter() - start
    (path,) = out.rglob("results_*.json")
    results: dict[str, dict[str, Any]] = json.loads(path.read_text())["results"]
    kept = {name: {key.removesuffix(",none"): value for key, value in scores.items()} for name, scores in results.items()}
    return taken, kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--revisions", type=int, default=12)
    parser.add_argument("--commands", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(THREADS)
    print(made_on(["torch", "transformers", "lm_eval"]))
    folders = sorted((given.run / "revisions").glob("step*"), key=lambda path: int(path.name.removeprefix("step")))
    revisions = folders[-given.revisions :]
    seconds, scores = ours(revisions, given.data)
    print(f"treering: {len(revisions)} revisions × {len(TASKS)} tasks in {seconds:.0f} s", flush=True)
    taken, apart, numbers = [], 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        for revision in revisions[-given.commands :]:
            one, expected = theirs(revision, given.data, Path(name))
            taken.append(one)
            for task, metrics in scores[revision.name].items():
                for metric, value in metrics.items():
                    numbers += 1
                    difference = abs(value - expected[task][metric]) / abs(expected[task][metric] or 1.0)
                    apart = max(apart, difference)
                    if value != expected[task][metric]:
                        print(f"  {revision.name} {task} {metric}: {value!r}, the command says {expected[task][metric]!r}")
            print(f"lm_eval {revision.name}: {one:.0f} s", flush=True)
    whole = statistics.fmean(taken) * len(revisions)
    print(f"{whole / seconds:.2f} × as fast as the command once a revision; {numbers} numbers {apart:.1g} apart at most")


if __name__ == "__main__":
    main()
