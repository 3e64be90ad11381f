"""The stage: score every revision on held-out text, and those that the recipe says with the harness; write the records."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from treering import __version__
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.evaluation.comparison import COMPARISON_RECORD, compare
from treering.evaluation.contamination import find_items, shortest_text
from treering.evaluation.figures import FigureData, draw_figures
from treering.evaluation.harness import HarnessTasks, harness_version
from treering.evaluation.harness_building import BuiltTask
from treering.evaluation.harness_records import (
    HARNESS_RECORD,
    NUMBER_TYPES_RECORD,
    Kept,
    harness_body,
    items_table,
    number_types_body,
)
from treering.evaluation.heldout import HeldoutTokens, take_heldout
from treering.evaluation.heldout_scoring import HeldoutScoring
from treering.evaluation.overlap_records import write_items, write_overlap
from treering.evaluation.references import references_digest
from treering.evaluation.scoring import ALL, Scoring, Share, Subject, key_of
from treering.evaluation.tasks.catalogue import EvaluationTask, find_tasks, task_digests
from treering.evaluation.tasks.material import Material
from treering.evaluation.training_side import open_training_text, training_losses
from treering.evaluation.unigram import count_tokens, score_unigram
from treering.model.shapes import count_parameters
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import whole_directory, write_atomically
from treering.provenance.manifests import Manifest, read_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.files import DTYPES
from treering.revisions.records import read_revisions
from treering.tokens.documents import open_documents
from treering.tokens.store import TokenStore, open_tokenizer
from treering.training.determinism import open_device, set_arithmetic

_FORMAT_VERSION = 1
_DTYPE = torch.float32


def evaluate(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write `evaluation/` and return its manifest; a whole one made from the same inputs is left as it is.

    An interrupted evaluation goes on after the last task of a revision that it had scored; where tasks are added, or
    revisions, only they are scored.

    Raises:
        InputError: When a task is unknown or cannot be used, or an earlier stage has not been done.
        CorpusError: When there is too little held-out text.
        NonFiniteError: When a revision gives scores that are no numbers.
        IntegrityError: When earlier stages are not what their manifests say.
    """
    tasks, reads = _inputs(run)
    if manifest := run.find("evaluation", reads, replaceable=True):
        return manifest
    set_arithmetic(run.recipe.training.threads)
    return _evaluate(run, tasks, reads, progress)


def evaluate_share(run: RunDirectory, share: Share, progress: Progress = SILENCE) -> None:
    """Score a share of the revisions and tasks, beside processes that score others; `evaluate` then finds all of it done.

    Raises:
        TreeringError: As `evaluate` does.
    """
    tasks, reads = _inputs(run)
    if run.find("evaluation", reads, replaceable=True):
        return
    set_arithmetic(run.recipe.training.threads)
    with TemporaryDirectory() as folder:
        _Stage(run, Path(folder), tasks).score(share, progress)


def _inputs(run: RunDirectory) -> tuple[list[EvaluationTask], dict[str, str]]:
    """Return the tasks, and the digests of all that is read."""
    tasks = find_tasks(run.recipe.evaluation.tasks, run.recipe.evaluation.data)
    reads = run.reads("corpus", "tokens", "order", "training", "revisions")
    for task in tasks:
        reads |= task.reads
    if tasks:
        reads["lm_eval"] = digest_value(harness_version())
        reads["references"] = references_digest()
    return tasks, reads


def _evaluate(run: RunDirectory, tasks: Sequence[EvaluationTask], reads: dict[str, str], progress: Progress) -> Manifest:
    with whole_directory(run.stage("evaluation")) as folder:
        stage = _Stage(run, folder, tasks)  # what is wrong with a task is said before anything long begins
        stage.score(ALL, progress)
        heldout = stage.heldout_scoring.copy(stage.all_subjects, folder / "heldout")
        unigram = stage.write_unigram()
        apart = stage.write_overlap(progress)
        harness = stage.write_harness(apart)
        summary = _summary(heldout, unigram)
        write_record(folder / "evaluation.json", "evaluation", _FORMAT_VERSION, summary)
        stage.write_comparison(summary, harness, unigram)
        run.seal(folder, "evaluation", reads)
    return run.verified("evaluation")


class _Stage:
    """What all parts of the stage look at: the run, its revisions, its held-out tokens, its tasks.

    What was scored is kept beside the stage's folder, whatever becomes of that.

    Raises:
        InputError: When the harness cannot use a task, its items cannot be had, or a step to score is no revision.
    """

    def __init__(self, run: RunDirectory, folder: Path, tasks: Sequence[EvaluationTask]) -> None:
        self.run, self.folder, self.scored = run, folder, run.path / ".evaluation.working"
        self.settings = run.recipe.evaluation
        self.text_digest = [read_manifest(run.stage(stage)).digest for stage in ("tokens", "order")]
        listed = read_revisions(run.stage("revisions"))
        self.revisions: list[dict[str, Any]] = sorted(listed["revisions"], key=lambda revision: revision["step"])
        self.tokenizer = open_tokenizer(run.stage("tokens"))
        self.heldout = self._take_heldout()
        self.all_subjects = [self._subject(revision, _DTYPE) for revision in self.revisions]
        self.subjects = [subject for subject in self.all_subjects if subject.step in self._wanted()]
        self.released = self._subject(self.revisions[-1], DTYPES[run.recipe.revisions.dtype])
        device, threads = open_device(run.recipe.training), run.recipe.training.threads
        self.heldout_scoring = HeldoutScoring(self.scored, self.heldout, self.settings.batch_size, device, threads)
        self.scoring = Scoring(self.scored, self._build(tasks), task_digests(tasks), self.settings, device)

    def _take_heldout(self) -> HeldoutTokens:
        store = TokenStore(self.run.stage("tokens"), "validation")
        documents = open_documents(self.run.stage("corpus"), self.run.stage("tokens"), "validation")
        sizes = (stop - start for start, stop in (store.place_of(number) for number in range(store.documents)))
        domains = ((document.domain, size) for document, size in zip(documents, sizes, strict=True))
        length, most = self.run.recipe.order.sequence_length, self.settings.heldout_tokens
        return take_heldout(store.tokens, self.tokenizer.byte_lengths(), length, most, domains)

    def _build(self, tasks: Sequence[EvaluationTask]) -> HarnessTasks:
        """Write the tasks with their items, and return them built."""
        documents = open_documents(self.run.stage("corpus"), self.run.stage("tokens"), "validation")
        material = Material(documents, self._token_counts, self.run.recipe.model.max_position_embeddings)
        for task in tasks:
            task.write(self.folder / "tasks", material)
        return HarnessTasks([task.prepared(self.folder / "tasks") for task in tasks], self.settings.num_fewshot)

    def _token_counts(self, texts: Sequence[str]) -> np.ndarray:
        _, offsets = self.tokenizer.encode(list(texts))
        return np.diff(offsets)

    def _subject(self, revision: dict[str, Any], dtype: torch.dtype) -> Subject:
        folder, weights = self.run.stage("revisions") / revision["name"], {"weights_digest": revision["weights_digest"]}
        return Subject(revision["name"], revision["step"], dtype, lambda: weights, lambda: folder)

    def _wanted(self) -> list[int]:
        """Return the steps whose revisions the recipe wants scored with the harness, the last among them.

        Raises:
            InputError: When a step is no revision.
        """
        wanted, steps = self.settings.revisions, [revision["step"] for revision in self.revisions]
        if wanted in ("all", "last"):
            return steps if wanted == "all" else steps[-1:]
        if unknown := [step for step in wanted if step not in steps]:
            raise InputError(
                "there is no such revision", where="evaluation.revisions", expected=", ".join(map(str, steps)), found=unknown[0]
            )
        return [*wanted, steps[-1]]

    def score(self, share: Share, progress: Progress) -> None:
        """Write the records of a share that are not there yet, each whole as soon as it is known."""
        self.heldout_scoring.score(share.of(self.all_subjects), progress)
        self.scoring.score([*self.subjects, *self._in_released_type()], share, progress)

    def _in_released_type(self) -> list[Subject]:
        """Return the last revision as it is released, where that is another number type than scores are computed in."""
        return [] if self.released.dtype == _DTYPE else [self.released]

    def write_unigram(self) -> dict[str, Any]:
        """Write the unigram model's score on the same targets and return it."""
        train = TokenStore(self.run.stage("tokens"), "train").tokens
        score = score_unigram(count_tokens(train, self.tokenizer.vocabulary_size), self.heldout)
        write_record(self.folder / "unigram.json", "unigram", _FORMAT_VERSION, score.fields())
        return score.fields()

    def write_overlap(self, progress: Progress) -> Kept:
        """Write which items the run trained on, and return of each task with such items the places of the others.

        What was found is kept beside the stage's folder like scores: the training text may be long.
        """
        built, words = self.scoring.built.built, self.settings.overlap_words
        if not built or words is None:
            return {}
        keys = {name: self._overlap_key(task, words) for name, task in built.items()}
        waiting = {name: task for name, task in built.items() if not (self.scored / "overlap" / keys[name]).exists()}
        if waiting:
            for found in find_items(waiting, open_training_text(self.run), words, progress):
                with whole_directory(self.scored / "overlap" / keys[found.task]) as kept:
                    write_items(kept, found)
        kept = [self.scored / "overlap" / key for key in keys.values()]
        return write_overlap(self.folder / "overlap", kept, words, shortest_text(words))

    def _overlap_key(self, task: BuiltTask, words: int) -> str:
        training = self.run.recipe.training
        inputs = {
            "task": [task.definition.name, task.definition.group, task.data_digest, dict(task.hashes)],
            "text": [*self.text_digest, training.steps, training.global_batch_size],
            "search": [words, __version__],
        }
        return f"{task.definition.name}.{key_of(inputs)}"

    def write_harness(self, apart: Kept) -> list[dict[str, Any]]:
        """Write what each subject scores on the tasks, and return the records in step order."""
        bodies = []
        for subject in self.subjects:
            scored = self.scoring.kept(subject)
            bodies.append(harness_body(subject, scored, self.settings, self.scoring.built, apart))
            write_record(self.folder / "harness" / f"{subject.name}.json", *HARNESS_RECORD, bodies[-1])
            write_atomically(self.folder / "items" / f"{subject.name}.parquet", items_table(scored))
            for task in self.scoring.built.built if self.settings.samples else ():
                samples = self.scoring.samples_file(subject, task).read_bytes()
                write_atomically(self.folder / "samples" / subject.name / f"{task}.jsonl", samples)
        for released in self._in_released_type():
            pairs = list(zip(self.scoring.kept(self.subjects[-1]), self.scoring.kept(released), strict=True))
            body = number_types_body(self.subjects[-1], released, pairs)
            write_record(self.folder / "number-types.json", *NUMBER_TYPES_RECORD, body)
        return bodies

    def write_comparison(self, summary: dict[str, Any], harness: list[dict[str, Any]], unigram: dict[str, Any]) -> None:
        """Write how the scores compare with published ones, and the pictures of both."""
        recipe = self.run.recipe
        tokens_per_update = recipe.training.global_batch_size * recipe.order.sequence_length
        tokens = {revision["name"]: revision["step"] * tokens_per_update for revision in self.revisions}
        comparison = compare(harness, tokens, count_parameters(recipe.model).parameters)
        if comparison is not None:
            write_record(self.folder / "comparison.json", *COMPARISON_RECORD, comparison)
        data = FigureData(
            harness=harness,
            heldout=summary["revisions"],
            tokens=tokens,
            unigram_loss_nats=unigram["loss_nats"],
            training_loss_nats=training_losses(self.run),
            tokens_per_update=tokens_per_update,
            curves=[] if comparison is None else comparison["curves"],
        )
        draw_figures(self.folder / "figures", data)


def _summary(heldout: Sequence[dict[str, Any]], unigram: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of all revisions, and whether the last is better than knowing nothing and than counting tokens."""
    untrained = heldout[0]["bits_per_byte"] if heldout[0]["step"] == 0 else None
    last = heldout[-1]["bits_per_byte"]
    kept = ("step", "loss_nats", "perplexity", "bits_per_byte")
    return {
        "revisions": [{"name": record["revision"], **{key: record[key] for key in kept}} for record in heldout],
        "untrained_bits_per_byte": untrained,
        "unigram_bits_per_byte": unigram["bits_per_byte"],
        "last_bits_per_byte": last,
        "better_than_untrained": None if untrained is None else last < untrained,
        "better_than_unigram": last < unigram["bits_per_byte"],
    }
