"""`treering evaluate`: from revisions to scores, of a run or of any release."""

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from treering.cli.arguments import RUNS, Json, Runs, parse_steps
from treering.errors import InputError

NAME = "evaluate"
_Release = Annotated[str | None, typer.Option("--release", help="Score this instead: ORG/NAME on the Hub, or a folder.")]
_Tasks = Annotated[str | None, typer.Option("--tasks", help="Tasks of a release, with commas between.")]
_Data = Annotated[
    list[str] | None, typer.Option("--data", help="Where their items lie: a folder, or TASK=PATH, once for each.")
]
_Revisions = Annotated[
    str | None, typer.Option("--revisions", help="Which of a release: all, last, or steps with commas between; all.")
]
_ShareOf = Annotated[str | None, typer.Option("--share", help="K/N: do the K-th part of N, counted from 0, and no more.")]


def command(
    target: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A recipe, or a run's folder.")] = None,
    release: _Release = None,
    tasks: _Tasks = None,
    data: _Data = None,
    revisions: _Revisions = None,
    num_fewshot: Annotated[int | None, typer.Option("--num-fewshot", min=0, help="Solved items in front of each; 0.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Contexts in a forward pass; 32.")] = None,
    samples: Annotated[bool, typer.Option("--samples", help="Keep prompts and answers of every item.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where a release's scores go.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="The Hub's address.")] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="How step branches are named, with (?P<step>...).")] = None,
    tokens_per_step: Annotated[
        int | None, typer.Option("--tokens-per-step", min=1, help="Tokens of an update, to compare at like tokens.")
    ] = None,
    device: Annotated[Literal["cpu", "cuda"] | None, typer.Option("--device", help="Where a release is scored; cpu.")] = None,
    share: _ShareOf = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Score revisions: a run's, on held-out text and with the LM Evaluation Harness, as its recipe says; or any release's."""
    if (target is None) == (release is None):
        found = "neither" if target is None else "both"
        raise InputError("say what to score", expected="a recipe or a run's folder, or --release", found=found)
    part = None if share is None else _part(share)
    given = {
        "--tasks": tasks, "--data": data, "--revisions": revisions, "--num-fewshot": num_fewshot, "--batch-size": batch_size,
        "--samples": samples or None, "--out": out, "--endpoint": endpoint, "--pattern": pattern,
        "--tokens-per-step": tokens_per_step, "--device": device,
    }  # fmt: skip
    if release is None:
        _refuse_settings([name for name, value in given.items() if value is not None and value != []])
        _evaluate_run(target or Path(), runs, part, as_json=as_json)
        return
    settings = {"tasks": _listed(tasks), "data": _places(data or []), "num_fewshot": num_fewshot or 0}
    settings |= {"batch_size": batch_size or 32, "samples": samples, "revisions": parse_steps(revisions or "all")}
    asked = _Asked(release, settings, endpoint, pattern, tokens_per_step, device or "cpu")
    _evaluate_release(asked, out, part, as_json=as_json)


def _refuse_settings(given: list[str]) -> None:
    """Refuse settings for a run: those of its recipe are in its digests, and others would go unheard."""
    if given:
        raise InputError(
            "what a run is scored on is said by its recipe",
            where=given[0],
            advice="change `evaluation:` there, or score --release RUN, whose results go elsewhere",
        )


class _Asked(NamedTuple):
    """What was asked for of a release."""

    release: str
    settings: dict[str, Any]
    endpoint: str | None
    pattern: str | None
    tokens_per_step: int | None
    device: Literal["cpu", "cuda"]


def _evaluate_run(target: Path, runs: Path, part: tuple[int, int] | None, *, as_json: bool) -> None:
    from treering.cli.results import print_evaluation, read_evaluation
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next
    from treering.config.run_directory import find_run, hold_run
    from treering.evaluation.scoring import Share
    from treering.evaluation.stage import evaluate, evaluate_share

    find_run(target, runs)
    with hold_run(target, runs, shared=part is not None) as run:
        if part is not None:
            evaluate_share(run, Share(*part), TerminalProgress())
            print_next(command_text("evaluate", run.path))
            return
        evaluate(run, TerminalProgress())
        record = read_evaluation(run)
    if as_json:
        print_json(record)
        return
    print_evaluation(record)
    print_next(command_text("card", run.path))


def _evaluate_release(asked: _Asked, out: Path | None, part: tuple[int, int] | None, *, as_json: bool) -> None:
    from treering.cli.results import print_harness, read_harness
    from treering.cli.terminal import TerminalProgress, print_json, say
    from treering.config.schema import EvaluationSection
    from treering.evaluation.release import ScoredRelease, evaluate_release
    from treering.evaluation.scoring import Share
    from treering.hub.reading import open_release
    from treering.hub.scoring import subjects_of
    from treering.training.determinism import device_named

    settings, progress = EvaluationSection(**asked.settings), TerminalProgress()
    opened = open_release(asked.release, asked.endpoint, asked.pattern)
    selected = opened.select(settings.revisions)
    if asked.tokens_per_step is not None and len({revision.stage for revision in selected}) > 1:
        raise InputError(
            "steps of several stages are not so many tokens each", where="--tokens-per-step", advice="leave it out"
        )
    subjects = subjects_of(opened, selected, asked.tokens_per_step, progress)
    release = ScoredRelease(opened.name, subjects, settings, device_named(asked.device))
    folder = out or Path("evaluations") / _folder_name(opened.name)
    evaluate_release(release, folder, None if part is None else Share(*part), progress)
    if part is not None:
        say(f"part {part[0]} of {part[1]} is done; the same command without --share writes {folder}")
        return
    records = read_harness(folder, [subject.file_name for subject in subjects])
    if as_json:
        print_json({"harness": records})
        return
    print_harness(records)
    say(f"\n{folder}: harness/, items/, comparison.json, figures/")


def _folder_name(release: str) -> str:
    """Return what a release's scores are called after: ORG--NAME, or its folder, that of the run where it is a run's."""
    if not Path(release).is_dir():
        return release.replace("/", "--")
    folder = Path(release).resolve()
    return folder.parent.name if folder.name == "revisions" else folder.name


def _listed(tasks: str | None) -> tuple[str, ...]:
    listed = tuple(task.strip() for task in (tasks or "").split(",") if task.strip())
    if not listed:
        raise InputError("say which tasks", expected="--tasks arc_easy,sciq, or pythia, blimp, or a task file's path")
    return listed


def _places(data: list[str]) -> str | dict[str, str] | None:
    """Return where items lie, as a recipe's `evaluation.data` says it."""
    if len(data) == 1 and ("=" not in data[0] or Path(data[0]).exists()):
        return data[0]
    if odd := [place for place in data if "=" not in place]:
        raise InputError("this says not of which task", where="--data", expected="TASK=PATH", found=odd[0])
    return {name: path for name, _, path in (place.partition("=") for place in data)} or None


def _part(share: str) -> tuple[int, int]:
    """Return which part of how many, K from 0."""
    number, _, processes = share.partition("/")
    if not (
        number.isascii() and number.isdigit() and processes.isascii() and processes.isdigit() and int(number) < int(processes)
    ):
        raise InputError("this is no part of the work", where="--share", expected="K/N, K from 0 to N - 1", found=share)
    return int(number), int(processes)
