"""Results that more than one verb prints, and finding the run they are of."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treering.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from treering.config.run_directory import RunDirectory

_UNFOLDED = 10_000  # characters of a line, for those who read what is no terminal


def choose_run(target: Path | None, runs: Path) -> "RunDirectory":
    """Open an existing run without beginning one: a recipe's, a folder's, or the only one there is.

    Raises:
        InputError: When there is none, or several to choose from.
        RecipeError: When its recipe is wrong.
    """
    from treering.config.run_directory import RECIPE, find_run

    if target is not None:
        return find_run(target, runs)
    found = sorted(path.parent for path in runs.glob(f"*/{RECIPE}"))
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise InputError("say which run is meant", where=runs, expected="one run in this folder", found=listed)
    return find_run(found[0], runs)


def read_evaluation(run: "RunDirectory") -> dict[str, Any]:
    """Return a run's scores: held-out text by revision, and the harness's records under `harness`, in step order.

    Raises:
        FormatError: When a record is missing or cannot be read.
    """
    from treering.provenance.canonical import read_record

    folder = run.stage("evaluation")
    scores = read_record(folder / "evaluation.json", "evaluation", 1)
    named = [row["name"] for row in scores["revisions"] if (folder / "harness" / f"{row['name']}.json").exists()]
    return {**scores, "harness": read_harness(folder, named)}


def read_harness(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the harness's records of revisions, by the names of their files.

    Raises:
        FormatError: When one is missing or cannot be read.
    """
    from treering.provenance.canonical import read_record

    return [read_record(folder / "harness" / f"{name}.json", "harness", 1) for name in names]


def print_evaluation(record: dict[str, Any]) -> None:
    """Print what `read_evaluation` returned as tables."""
    rows = [
        (row["name"], f"{row['loss_nats']:.4f}", f"{row['perplexity']:.2f}", f"{row['bits_per_byte']:.4f}")
        for row in record["revisions"]
    ]
    rows.append(("unigram model", "", "", f"{record['unigram_bits_per_byte']:.4f}"))
    print_table("Held-out text", ("revision", "loss (nats)", "perplexity", "bits per byte"), rows)
    print_harness(record["harness"])


def print_harness(records: list[dict[str, Any]]) -> None:
    """Print the last revision's scores with the harness, and the first metric of each task over training.

    Where items were trained on, `unseen` is the score of the others.
    """
    from treering.cli.terminal import say

    harness = records[-1]
    shown = [*(task for task in harness["tasks"] if task["group"] is None), *harness["groups"]]
    overlap = any(task["without_overlap"] is not None for task in shown)
    columns = ("task", "metric", "value", f"{harness['confidence']:.0%} interval", "chance", *["unseen"] * overlap)
    rows = [_score(task, metric)[: len(columns)] for task in shown for metric in task["metrics"]]
    print_table(f"LM Evaluation Harness {harness['harness_version']}, {harness['revision']}", columns, rows)
    if overlap:
        say("unseen: of the items that were not trained on")
    for task in shown:
        if task.get("truncated"):
            say(f"{task['task']}: {task['truncated']} contexts lost their beginning, to fit into the model's length")
    if len(records) > 1 and shown:
        names = [task["task"] for task in shown]
        metrics = [{task["task"]: task["metrics"][0] for task in (*record["tasks"], *record["groups"])} for record in records]
        columns = ("revision", *(f"{name} {metrics[0][name]['metric']}" for name in names))
        values = ([f"{found[name]['value']:.4f}" for name in names] for found in metrics)
        rows = [(record["revision"], *row) for record, row in zip(records, values, strict=True)]
        print_table("Over training", columns, rows)


def _score(task: dict[str, Any], metric: dict[str, Any]) -> tuple[str, ...]:
    apart = {other["metric"]: other["value"] for other in (task["without_overlap"] or {"metrics": []})["metrics"]}
    interval = "" if metric["interval"] is None else "{:.3f}–{:.3f}".format(*metric["interval"])
    numbers = (metric["value"], metric["chance"], apart.get(metric["metric"]))
    value, chance, unseen = ("" if number is None else f"{number:.4f}" for number in numbers)
    return task["task"], metric["metric"], value, interval, chance, unseen


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as narrow as its words allow; of what is wider than the terminal nothing is cut."""
    from rich.table import Table

    from treering.cli.terminal import say

    say(f"\n{title}")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def _console() -> "Console":
    """Return where tables go: a terminal, or, with nothing folded, whoever reads the output."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_UNFOLDED)
