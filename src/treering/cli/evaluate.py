"""`treering evaluate`: from revisions to scores."""

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "evaluate"


def command(target: Target, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Score every revision on held-out text, and the last one with the LM Evaluation Harness."""
    from treering.cli.results import print_evaluation
    from treering.cli.terminal import TerminalProgress, print_json, print_next
    from treering.config.run_directory import open_run
    from treering.evaluation.stage import evaluate
    from treering.provenance.canonical import read_record
    from treering.provenance.files import exclusive

    run = open_run(target, runs)
    with exclusive(run.path):
        evaluate(run, TerminalProgress())
    if as_json:
        print_json(read_record(run.stage("evaluation") / "evaluation.json", "evaluation", 1))
        return
    print_evaluation(run)
    print_next(f"treering card {run.path}")
