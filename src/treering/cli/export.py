"""`treering export`: from checkpoints to revisions."""

from treering.cli.arguments import RUNS, Runs, Target

NAME = "export"


def command(target: Target, runs: Runs = RUNS) -> None:
    """Write every checkpoint as a folder that transformers loads, after checking that it computes the same."""
    from treering.cli.terminal import TerminalProgress, print_next, say, size_text
    from treering.config.run_directory import open_run
    from treering.provenance.files import exclusive
    from treering.revisions.stage import export

    run = open_run(target, runs)
    with exclusive(run.path):
        manifest = export(run, TerminalProgress())
    folders = sorted({entry.path.partition("/")[0] for entry in manifest.files if "/" in entry.path})
    say(
        f"{run.stage('revisions')}: {len(folders)} revisions, {size_text(manifest.size_bytes)}, logits agree with transformers'"
    )
    print_next(f"treering evaluate {run.path}")
