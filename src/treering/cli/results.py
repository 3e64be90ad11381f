"""Results that more than one verb prints, and finding the run they are of."""

from pathlib import Path
from typing import TYPE_CHECKING

from treering.errors import InputError

if TYPE_CHECKING:
    from treering.config.run_directory import RunDirectory


def find_run(target: Path | None, runs: Path) -> "RunDirectory":
    """Open an existing run without beginning one: a recipe's, a folder's, or the only one there is.

    Raises:
        InputError: When there is none, or several to choose from.
    """
    from treering.config.reading import read_recipe
    from treering.config.run_directory import RECIPE, open_run

    if target is not None and not target.is_dir():
        target = runs / read_recipe(target).name
        if not (target / RECIPE).exists():
            raise InputError("this recipe has not been run", where=target, advice="treering run RECIPE")
    if target is not None:
        return open_run(target, runs)
    found = sorted(path.parent for path in runs.glob(f"*/{RECIPE}"))
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise InputError("say which run is meant", where=runs, expected="one run in this folder", found=listed)
    return open_run(found[0], runs)


def print_evaluation(run: "RunDirectory") -> None:
    """Print the evaluation of a run: held-out text by revision, and the harness's tasks."""
    from rich.console import Console
    from rich.table import Table

    from treering.provenance.canonical import read_record

    record = read_record(run.stage("evaluation") / "evaluation.json", "evaluation", 1)
    held_out = Table("revision", "loss (nats)", "perplexity", "bits per byte", title="Held-out text")
    for row in record["revisions"]:
        held_out.add_row(row["name"], f"{row['loss_nats']:.4f}", f"{row['perplexity']:.2f}", f"{row['bits_per_byte']:.4f}")
    held_out.add_section()
    held_out.add_row("unigram model", "", "", f"{record['unigram_bits_per_byte']:.4f}")
    harness = read_record(run.stage("evaluation") / "harness.json", "harness", 1)
    tasks = Table("task", "metric", "value", "± stderr", "chance", title=f"LM Evaluation Harness {harness['harness_version']}")
    for task in harness["tasks"]:
        for metric in task["metrics"]:
            values = (metric["value"], metric["stderr"], metric["chance"])
            tasks.add_row(task["task"], metric["metric"], *("" if value is None else f"{value:.4f}" for value in values))
    console = Console()
    console.print(held_out, tasks)
