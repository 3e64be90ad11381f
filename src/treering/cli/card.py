"""`treering card`: from records to the model card, and back."""

from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "card"


def command(
    target: Target,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; compare the card with the records it follows from.")
    ] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Write the model card: every number from a record, every entry only a person knows from the recipe."""
    from treering.card.checking import check_claims
    from treering.card.release import release_digest
    from treering.card.stage import write_card
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.config.run_directory import find_run, hold_run

    find_run(target, runs)
    with hold_run(target, runs) as run:
        if not check:
            write_card(run, TerminalProgress())
        check_claims(run)
        record = {"card": str(run.stage("card") / "README.md"), "release_digest": release_digest(run)}
    if as_json:
        print_json(record)
        return
    say(f"card     {record['card']}\nrelease  {record['release_digest']}")
    print_next(command_text("install", run.path))
