"""`treering batch`: what a step trains on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json, Runs

NAME = "batch"
_EXCERPT = 72


def command(
    step: Annotated[
        int, typer.Argument(metavar="STEP", help="The batch that update STEP → STEP + 1 eats.", show_default=False)
    ],
    target: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A recipe or a run's folder; by default the only run there is.")
    ] = None,
    runs: Runs = RUNS,
    full: Annotated[bool, typer.Option("--full", help="Print whole texts.")] = False,
    as_json: Json = False,
) -> None:
    """Show what a step trains on: sequences, texts, documents, sources."""
    from treering.cli.results import choose_run
    from treering.cli.terminal import command_text, print_json, print_next, say
    from treering.order.lookup import describe_batch

    run = choose_run(target, runs)
    record = describe_batch(run, step)
    if as_json:
        print_json(record)
        return
    say(f"batch {step} of {run.path}: {len(record['sequences'])} sequences of {record['sequence_length']} tokens")
    for sequence in record["sequences"]:
        say(_sequence_text(sequence, full=full))
    first = record["sequences"][0]
    print_next(
        command_text("trace", run.path, "--sequence", first["sequence_id"]),
        command_text("trace", run.path, "--number", first["documents"][0]["number"]),
    )


def _sequence_text(sequence: dict[str, Any], *, full: bool) -> str:
    epoch = "" if sequence["epoch"] is None else f"  epoch {sequence['epoch']}"
    lines = [f"\nposition {sequence['position']}  sequence {sequence['sequence_id']}{epoch}"]
    for document in sequence["documents"]:
        first, last = document["tokens"]
        metadata = "".join(f", {key} {value}" for key, value in document["metadata"].items() if value is not None)
        lines.append(
            f"  tokens [{first}, {last}): {document['source']} row {document['row']}{metadata}  {document['id'][:23]}…"
        )
    text = sequence["text"] if full else " ".join(sequence["text"].split())
    lines.append("  " + (text if full or len(text) <= _EXCERPT else f"{text[:_EXCERPT]} …"))
    return "\n".join(lines)
