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
from treering.evaluation.scoring import ALL, Scoring, Share, Subject, software
from treering.evaluation.tasks.catalogue import HELD_OUT_TASKS, EvaluationTask, OwnTask, find_tasks, task_digests
from treering.evaluation.tasks.material import Material
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import held, whole_directory, write_atomically
from treering.provenance.manifests import MANIFEST, Manifest, find_stage, read_manifest, write_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.loading import load_tokenizer, longest_input, parameters_of
from treering.training.determinism import only_deterministic_kernels

_STAGE = "scores of a release"
_RELEASE_RECORD = ("scored-release", 1)
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class ScoredRelease:
    """A release to score: its name, its revisions in order, the settings, and where it is computed."""

    name: str
    subjects: Sequence[Subject]
    settings: EvaluationSection
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
    only_deterministic_kernels()
    tasks = find_tasks(release.settings.tasks, release.settings.data)
    _refuse_held_out_text(tasks)
    _refuse_something_else(folder, release.name)
    folder = folder.resolve()
    working = folder.with_name(f".{folder.name}.working")
    with held(working, shared=share is not None):
        with TemporaryDirectory() as prepared:
            built = _build(release, tasks, Path(prepared))
        scoring = Scoring(working, built, task_digests(tasks), release.settings, release.device)
        if share is not None:
            scoring.score(release.subjects, share, progress)
            return None
        reads = _reads(release, scoring)
        inputs = digest_value({"stage": _STAGE, "version": _FORMAT_VERSION, "reads": reads})
        if manifest := find_stage(folder, inputs, replaceable=True):
            return manifest
        scoring.score(release.subjects, ALL, progress)
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


def _refuse_something_else(folder: Path, release: str) -> None:
    """Do nothing where a folder is not there, is empty, or holds scores of the same release, which may be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / MANIFEST).exists() or read_manifest(folder).stage != _STAGE:
        raise InputError("this folder holds something else than the scores of a release", where=folder, advice="another --out")
    if (found := read_record(folder / "release.json", *_RELEASE_RECORD)["release"]) != release:
        raise InputError(
            "this folder holds the scores of another release",
            where=folder,
            expected=release,
            found=found,
            advice="another --out",
        )


def _reads(release: ScoredRelease, scoring: Scoring) -> dict[str, str]:
    """Return the digests of all that the scores follow from."""
    settings = {field: getattr(release.settings, field) for field in ("num_fewshot", "batch_size", "samples")}
    tasks = {
        name: [scoring.task_digests[name], task.data_digest, dict(task.hashes)] for name, task in scoring.built.built.items()
    }
    origins = {
        f"revisions/{one.name}": digest_value([dict(one.origin), one.settings_digest, one.tokens]) for one in release.subjects
    }
    return {
        **origins,
        **{f"tasks/{name}": digest_value(task) for name, task in tasks.items()},
        "settings": digest_value(settings),
        "software": digest_value([*software(), harness_version(), release.device.type]),
        "references": references_digest(),
    }


def _build(release: ScoredRelease, tasks: Sequence[EvaluationTask], prepared: Path) -> HarnessTasks:
    own = any(isinstance(task, OwnTask) for task in tasks)
    material = _material(release.subjects[-1].folder) if own else Material((), lambda _: np.zeros(0), 0)
    for task in tasks:
        task.write(prepared, material)
    return HarnessTasks([task.prepared(prepared) for task in tasks], release.settings.num_fewshot)


def _material(folder: Path) -> Material:
    def token_counts(texts: Sequence[str]) -> np.ndarray:
        return np.array([len(ids) for ids in load_tokenizer(folder)(list(texts))["input_ids"]])

    return Material((), token_counts, longest_input(folder))


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
    tokens = {subject.name: subject.tokens for subject in release.subjects}
    comparison = compare(bodies, tokens, parameters_of(release.subjects[-1].folder))
    if comparison is not None:
        write_record(folder / "comparison.json", *COMPARISON_RECORD, comparison)
    data = FigureData(
        harness=bodies if _one_after_another(bodies) else [body | {"step": None} for body in bodies],
        heldout=(),
        tokens=tokens,
        unigram_loss_nats=None,
        training_loss_nats=np.zeros(0),
        tokens_per_update=0,
        curves=[] if comparison is None else comparison["curves"],
    )
    draw_figures(folder / "figures", data)


def _one_after_another(bodies: Sequence[dict[str, Any]]) -> bool:
    """Say whether steps tell where revisions stand: those of several stages of a training do not."""
    steps = [body["step"] for body in bodies]
    return None not in steps and steps == sorted(set(steps))


def _describe(release: ScoredRelease) -> dict[str, Any]:
    return {
        "release": release.name,
        "revisions": [{"name": subject.name, "step": subject.step, **subject.origin} for subject in release.subjects],
        "tasks": list(release.settings.tasks),
        "num_fewshot": release.settings.num_fewshot,
        "batch_size": release.settings.batch_size,
        "tokens": {subject.name: subject.tokens for subject in release.subjects},
        "device": release.device.type,
        "threads": torch.get_num_threads(),
        "torch_version": torch.__version__,
    }
