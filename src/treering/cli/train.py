"""`treering train`: from the order to the last checkpoint."""

from treering.cli.arguments import RUNS, Json, Runs, Shard, Target

NAME = "train"


def command(target: Target, runs: Runs = RUNS, shard: Shard = "moments", as_json: Json = False) -> None:
    """Train to the last step from wherever the run stands: the same command resumes it.

    Several processes train one run together, to the same bytes (DeepSpeed's apart), when started by torchrun: `torchrun
    --nproc-per-node 4 -m treering train RUN`. SIGTERM or Ctrl-C ends it after the update at work, with what was done kept and
    exit code 75. Where the recipe says that GPT-NeoX trained (`training.engine`), its checkpoints are imported instead.
    """
    from contextlib import nullcontext

    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.config.run_directory import find_run, hold_run
    from treering.neox.training import import_training
    from treering.provenance.canonical import read_record
    from treering.provenance.progress import SILENCE
    from treering.training.meeting import open_ranks
    from treering.training.run import train

    begun = find_run(target, runs)
    with open_ranks(begun.recipe, shard) as ranks:
        first = ranks.rank == 0
        with hold_run(target, runs) if first else nullcontext(begun) as run:
            if run.recipe.training.imported:
                import_training(run, TerminalProgress(), ranks)
            else:
                train(run, TerminalProgress() if first else SILENCE, ranks)
        if not first:
            return
        record = read_record(run.stage("training") / "training.json", "training", 1)
    if as_json:
        print_json(record)
        return
    told = "imported from GPT-NeoX"
    if not run.recipe.training.imported:
        told = f"loss {record['first_loss_nats']:.3f} → {record['mean_loss_nats_last_tenth']:.3f} nats"
    say(
        f"{run.stage('checkpoints')}: {len(record['checkpoint_steps'])} checkpoints, step {record['steps']}, "
        f"{record['tokens']:,} tokens, {told}"
    )
    print_next(command_text("export", run.path))
