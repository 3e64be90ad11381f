"""`treering evaluate`: from revisions to scores."""

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "evaluate"


def command(target: Target, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Score every revision on held-out text, and those that the recipe says (by default all) with the LM Evaluation Harness."""
    from treering.cli.results import print_evaluation, read_evaluation
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next
    from treering.config.run_directory import find_run, hold_run
    from treering.evaluation.stage import evaluate

    find_run(target, runs)
    with hold_run(target, runs) as run:
        evaluate(run, TerminalProgress())
        record = read_evaluation(run)
    if as_json:
        print_json(record)
        return
    print_evaluation(record)
    print_next(command_text("card", run.path))
