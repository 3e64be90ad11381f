"""`treering run`: the whole way."""

from treering.cli.arguments import RUNS, Runs, Target

NAME = "run"


def command(target: Target, runs: Runs = RUNS) -> None:
    """Go the whole way: corpus, tokens, order, training, revisions, evaluation, card. The same command resumes it."""
    from treering.card.release import release_digest
    from treering.card.required import require_card
    from treering.cli.results import print_evaluation
    from treering.cli.terminal import TerminalProgress, print_next, say
    from treering.cli.way import walk
    from treering.config.run_directory import open_run
    from treering.provenance.files import exclusive

    run = open_run(target, runs)
    require_card(run.recipe)
    with exclusive(run.path):
        walk(run, TerminalProgress())
    print_evaluation(run)
    say(f"\ncard     {run.stage('card') / 'README.md'}\nrelease  {release_digest(run)}")
    print_next(
        f"treering install {run.path}",
        f"treering batch 64 {run.path}",
        f"treering show {run.path / 'recipe.yaml'}",
    )
