"""Scores of any release with step branches or folders: the harness's tasks on its revisions, in a folder of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from treering.config.schema import EvaluationSection
from treering.errors import InputError
from treering.evaluation.comparison import COMPARISON_RECORD, compare
from treering.evaluation.figures import FigureData, draw_figures
from treering.evaluation.harness import HarnessTasks, harness_version
from treering.evaluation.harness_records import HARNESS_RECORD, harness_body, items_table
from treering.evaluation.references import references_digest
from treering.evaluation.scoring import ALL, Scoring, Share, Subject
from treering.evaluation.tasks.catalogue import HELD_OUT_TASKS, EvaluationTask, find_tasks, task_digests
from treering.evaluation.tasks.material import Material
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import held, whole_directory, write_atomically
from treering.provenance.manifests import MANIFEST, Manifest, find_stage, read_manifest, write_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.loading import load_tokenizer, longest_input, parameters_of

_STAGE = "scores of a release"
_RELEASE_RECORD = ("scored-release", 1)
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class ScoredRelease:
    """A release to score: its name, its revisions in order, the settings, and what is known of its training.

    Attributes:
        tokens_per_step: None where it is not known; then nothing is compared at like tokens.
    """

    name: str
    subjects: Sequence[Subject]
    settings: EvaluationSection
    tokens_per_step: int | None
    device: torch.device


def evaluate_release(
    release: ScoredRelease, folder: Path, share: Share | None = None, progress: Progress = SILENCE
) -> Manifest | None:
    """Write a release's scores into a folder and return its manifest; what was scored from the same inputs is left as it is.

    Scores are also kept beside the folder, so that a task or a revision more costs its own time only.

    Args:
        share: Score this part alone, beside processes that score others; nothing is then written but what they share.

    Raises:
        InputError: When a task is unknown or cannot be used, its items would be made of a run's held-out text, or the folder
            holds something else.
        NonFiniteError: When a revision gives scores that are no numbers.
        IntegrityError: When the folder is not what its manifest says.
        StorageError: When it cannot be written.
    """
    tasks = find_tasks(release.settings.tasks, release.settings.data)
    _refuse_held_out_text(tasks)
    _refuse_something_else(folder)
    reads = _reads(release, tasks)
    inputs = digest_value({"stage": _STAGE, "version": _FORMAT_VERSION, "reads": reads})
    working = folder.with_name(f".{folder.name}.working")
    with held(working, shared=share is not None):
        if manifest := find_stage(folder, inputs, replaceable=True):
            return manifest
        with TemporaryDirectory() as prepared:
            built = _build(release, tasks, Path(prepared))
        scoring = Scoring(working, built, task_digests(tasks), release.settings, release.device)
        scoring.score(release.subjects, share or ALL, progress)
        if share is not None:
            return None
        with whole_directory(folder) as partial:
            _write(release, partial, scoring)
            write_record(partial / "release.json", *_RELEASE_RECORD, _describe(release))
            return write_manifest(partial, _STAGE, inputs, reads)


def _refuse_held_out_text(tasks: Sequence[EvaluationTask]) -> None:
    if held_out := [task.definition.name for task in tasks if task.definition.name in HELD_OUT_TASKS]:
        raise InputError(
            f"the items of `{held_out[0]}` are made from the held-out text of a run of treering's",
            where="--tasks",
            advice="leave it out",
        )


def _refuse_something_else(folder: Path) -> None:
    """Do nothing where a folder is not there, is empty, or holds the scores of a release, which may be replaced."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).exists() or read_manifest(folder).stage != _STAGE:
        raise InputError("this folder holds something else than the scores of a release", where=folder, advice="another --out")


def _reads(release: ScoredRelease, tasks: Sequence[EvaluationTask]) -> dict[str, str]:
    """Return the digests of all that the scores follow from."""
    kept = ("num_fewshot", "batch_size", "samples")
    settings = {field: getattr(release.settings, field) for field in kept}
    return {
        **{f"revisions/{subject.name}": digest_value(dict(subject.origin)) for subject in release.subjects},
        **{f"tasks/{name}": digest for name, digest in task_digests(tasks).items()},
        "settings": digest_value({**settings, "tokens_per_step": release.tokens_per_step}),
        "lm_eval": digest_value(harness_version()),
        "references": references_digest(),
    }


def _build(release: ScoredRelease, tasks: Sequence[EvaluationTask], prepared: Path) -> HarnessTasks:
    last = release.subjects[-1].open_folder()

    def token_counts(texts: Sequence[str]) -> np.ndarray:
        return np.array([len(ids) for ids in load_tokenizer(last)(list(texts))["input_ids"]])

    for task in tasks:
        task.write(prepared, Material((), token_counts, longest_input(last)))
    return HarnessTasks([task.prepared(prepared) for task in tasks], release.settings.num_fewshot)


def _write(release: ScoredRelease, folder: Path, scoring: Scoring) -> None:
    bodies = []
    for subject in release.subjects:
        scored = scoring.kept(subject)
        bodies.append(harness_body(subject, scored, release.settings, scoring.built, {}))
        write_record(folder / "harness" / f"{subject.file_name}.json", *HARNESS_RECORD, bodies[-1])
        write_atomically(folder / "items" / f"{subject.file_name}.parquet", items_table(scored))
        for task in scoring.built.built if release.settings.samples else ():
            samples = scoring.samples_file(subject, task).read_bytes()
            write_atomically(folder / "samples" / subject.file_name / f"{task}.jsonl", samples)
    tokens = {subject.name: _tokens(release, subject) for subject in release.subjects}
    comparison = compare(bodies, tokens, parameters_of(release.subjects[-1].open_folder()))
    if comparison is not None:
        write_record(folder / "comparison.json", *COMPARISON_RECORD, comparison)
    if all(subject.step is not None for subject in release.subjects):
        curves = [] if comparison is None else comparison["curves"]
        draw_figures(folder / "figures", FigureData(bodies, (), tokens, None, np.zeros(0), 0, curves))


def _tokens(release: ScoredRelease, subject: Subject) -> int | None:
    return None if release.tokens_per_step is None or subject.step is None else subject.step * release.tokens_per_step


def _describe(release: ScoredRelease) -> dict[str, Any]:
    return {
        "release": release.name,
        "revisions": [{"name": subject.name, "step": subject.step, **subject.origin} for subject in release.subjects],
        "tasks": list(release.settings.tasks),
        "num_fewshot": release.settings.num_fewshot,
        "batch_size": release.settings.batch_size,
        "tokens_per_step": release.tokens_per_step,
        "device": release.device.type,
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
    }
