"""`treering train`: from the order to the last checkpoint."""

from treering.cli.arguments import RUNS, Runs, Target

NAME = "train"


def command(target: Target, runs: Runs = RUNS) -> None:
    """Train to the last step from wherever the run stands: the same command resumes it."""
    from treering.cli.terminal import TerminalProgress, print_next, say
    from treering.config.run_directory import open_run
    from treering.provenance.canonical import read_record
    from treering.provenance.files import exclusive
    from treering.training.run import train

    run = open_run(target, runs)
    with exclusive(run.path):
        train(run, TerminalProgress())
    record = read_record(run.stage("training") / "training.json", "training", 1)
    say(
        f"{run.stage('checkpoints')}: {len(record['checkpoint_steps'])} checkpoints, step {record['steps']}, "
        f"{record['tokens']:,} tokens, loss {record['first_loss_nats']:.3f} → {record['mean_loss_nats_last_tenth']:.3f} nats"
    )
    print_next(f"treering export {run.path}")
