"""`treering train`: from the order to the last checkpoint."""

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "train"


def command(target: Target, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Train to the last step from wherever the run stands: the same command resumes it."""
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.config.run_directory import find_run, hold_run
    from treering.provenance.canonical import read_record
    from treering.training.run import train

    find_run(target, runs)
    with hold_run(target, runs) as run:
        train(run, TerminalProgress())
        record = read_record(run.stage("training") / "training.json", "training", 1)
    if as_json:
        print_json(record)
        return
    say(
        f"{run.stage('checkpoints')}: {len(record['checkpoint_steps'])} checkpoints, step {record['steps']}, "
        f"{record['tokens']:,} tokens, loss {record['first_loss_nats']:.3f} → {record['mean_loss_nats_last_tenth']:.3f} nats"
    )
    print_next(command_text("export", run.path))
