"""Results that more than one verb prints, and finding the run they are of."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treering.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from treering.config.run_directory import RunDirectory


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
    from rich.console import Console
    from rich.table import Table

    held_out = Table("revision", "loss (nats)", "perplexity", "bits per byte", title="Held-out text")
    for row in record["revisions"]:
        held_out.add_row(row["name"], f"{row['loss_nats']:.4f}", f"{row['perplexity']:.2f}", f"{row['bits_per_byte']:.4f}")
    held_out.add_section()
    held_out.add_row("unigram model", "", "", f"{record['unigram_bits_per_byte']:.4f}")
    Console().print(held_out)
    print_harness(record["harness"])


def print_harness(records: list[dict[str, Any]]) -> None:
    """Print the last revision's scores with the harness, and the first metric of each task over training."""
    from rich.console import Console
    from rich.table import Table

    harness = records[-1]
    shown = [*(task for task in harness["tasks"] if task["group"] is None), *harness["groups"]]
    overlap = any(task["without_overlap"] is not None for task in shown)
    tasks = Table(title=f"LM Evaluation Harness {harness['harness_version']}, {harness['revision']}")
    for column in ("task", "metric", "value", f"{harness['confidence']:.0%} interval", "chance", *["unseen items"] * overlap):
        tasks.add_column(column, overflow="fold")
    for task in shown:
        apart = {metric["metric"]: metric["value"] for metric in (task["without_overlap"] or {"metrics": []})["metrics"]}
        for metric in task["metrics"]:
            interval = "" if metric["interval"] is None else "{:.3f}–{:.3f}".format(*metric["interval"])
            numbers = (metric["value"], metric["chance"], apart.get(metric["metric"]))
            value, chance, unseen = ("" if number is None else f"{number:.4f}" for number in numbers)
            tasks.add_row(task["task"], metric["metric"], value, interval, chance, *[unseen] * overlap)
    Console().print(tasks)
    if len(records) > 1 and shown:
        Console().print(_over_training(records, [task["task"] for task in shown]))


def _over_training(records: list[dict[str, Any]], names: list[str]) -> "Table":
    """Return the first metric of each task at each revision."""
    from rich.table import Table

    found = [{task["task"]: task["metrics"][0] for task in (*record["tasks"], *record["groups"])} for record in records]
    table = Table("revision", *(f"{name} {found[0][name]['metric']}" for name in names), title="Over training")
    for record, metrics in zip(records, found, strict=True):
        table.add_row(record["revision"], *(f"{metrics[name]['value']:.4f}" for name in names))
    return table
