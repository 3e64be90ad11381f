"""`treering export`: from checkpoints to revisions."""

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "export"


def command(target: Target, runs: Runs = RUNS, as_json: Json = False) -> None:
    """Write every checkpoint as a folder that transformers loads, after checking that it computes the same."""
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say, size_text
    from treering.config.run_directory import find_run, hold_run
    from treering.provenance.canonical import read_record
    from treering.revisions.records import REVISIONS_RECORD
    from treering.revisions.stage import export

    find_run(target, runs)
    with hold_run(target, runs) as run:
        manifest = export(run, TerminalProgress())
        record = read_record(run.stage("revisions") / "revisions.json", *REVISIONS_RECORD)
    if as_json:
        print_json(record)
        return
    say(
        f"{run.stage('revisions')}: {len(record['revisions'])} revisions, {size_text(manifest.size_bytes)}, "
        "logits agree with transformers'"
    )
    print_next(command_text("evaluate", run.path))
