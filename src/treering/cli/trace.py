"""`treering trace`: which steps trained on a sequence or a document."""

from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "trace"


def command(
    target: Target,
    sequence: Annotated[int | None, typer.Option("--sequence", help="A sequence's number, as `batch` shows it.")] = None,
    document: Annotated[str | None, typer.Option("--document", help="A training document's digest, or its beginning.")] = None,
    number: Annotated[int | None, typer.Option("--number", min=0, help="A training document's number, from 0.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Show which batches held a sequence, or any part of a document; step n + 1 is the first to have learnt from batch n."""
    from treering.cli.results import choose_run
    from treering.cli.terminal import print_json, say
    from treering.errors import InputError
    from treering.order.lookup import trace_document, trace_sequence

    if [sequence, document, number].count(None) != 2:
        raise InputError("say one thing to trace", expected="--sequence N, --document DIGEST or --number N")
    run = choose_run(target, runs)
    record = (
        trace_sequence(run, sequence)
        if sequence is not None
        else trace_document(run, str(document) if number is None else number)
    )
    if as_json:
        print_json(record)
        return
    if sequence is not None:
        sources = ", ".join(found["source"] for found in record["documents"])
        say(f"sequence {sequence} ({sources}): {_batches(record['steps'])}")
        return
    found = record["document"]
    say(f"{found['id']}  {found['source']} row {found['row']}: {len(record['sequences'])} sequences")
    for part in record["sequences"]:
        say(f"  sequence {part['sequence_id']}: {_batches(part['steps'])}")


def _batches(steps: list[int]) -> str:
    return "in batch " + ", ".join(map(str, steps)) if steps else "in no batch of this run"
