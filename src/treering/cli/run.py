"""`treering run`: the whole way."""

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "run"
_SHOWN_BATCH = 64


def command(target: Target, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Go the whole way: corpus, tokens, order, training, revisions, evaluation, card. The same command resumes it."""
    from treering.card.release import release_digest
    from treering.card.required import require_card
    from treering.cli.results import print_evaluation, read_evaluation
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.cli.way import walk
    from treering.config.run_directory import hold_run
    from treering.errors import InputError
    from treering.evaluation.tasks.catalogue import find_tasks
    from treering.provenance.environment import launched_as

    if (launched := launched_as()) is not None and launched.world_size > 1:
        raise InputError(
            "the whole way is walked by one process",
            found=f"{launched.world_size} of them",
            advice="treering prepare, then torchrun … -m treering train, then treering run for what comes after",
        )
    with hold_run(target, runs) as run:
        # What would stop the way at its end is said before anything long begins.
        require_card(run.recipe)
        find_tasks(run.recipe.evaluation.tasks, run.recipe.evaluation.data)
        walk(run, TerminalProgress())
        record = {
            "card": str(run.stage("card") / "README.md"),
            "release_digest": release_digest(run),
            "evaluation": read_evaluation(run),
        }
    if as_json:
        print_json(record)
        return
    print_evaluation(record["evaluation"])
    say(f"\ncard     {record['card']}\nrelease  {record['release_digest']}")
    print_next(
        command_text("verify", run.path, "--all"),
        command_text("install", run.path),
        command_text("batch", min(_SHOWN_BATCH, run.recipe.training.steps - 1), run.path),
        command_text("show", run.path / "recipe.yaml"),
    )
