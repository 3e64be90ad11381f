"""`treering card`: from records to the model card."""

from treering.cli.arguments import RUNS, Runs, Target

NAME = "card"


def command(target: Target, runs: Runs = RUNS) -> None:
    """Write the model card: every number from a record, every entry only a person knows from the recipe."""
    from treering.card.release import release_digest
    from treering.card.stage import write_card
    from treering.cli.terminal import TerminalProgress, print_next, say
    from treering.config.run_directory import open_run
    from treering.provenance.files import exclusive

    run = open_run(target, runs)
    with exclusive(run.path):
        write_card(run, TerminalProgress())
    say(f"card     {run.stage('card') / 'README.md'}\nrelease  {release_digest(run)}")
    print_next(f"treering install {run.path}")
