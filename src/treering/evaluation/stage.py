"""The stage: score every revision on held-out text, and those that the recipe says with the harness; write the records."""

from collections.abc import Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from treering.config.digests import stage_digest
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.evaluation.harness import HarnessTasks, WatchedModel, harness_version
from treering.evaluation.harness_scores import score_groups
from treering.evaluation.heldout import HeldoutTokens, nats_of_targets, score_nats, take_heldout
from treering.evaluation.tasks.catalogue import EvaluationTask, find_tasks
from treering.evaluation.tasks.material import Material
from treering.evaluation.unigram import count_tokens, score_unigram
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import remove_tree, whole_directory, write_atomically
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress, Task
from treering.revisions.loading import load_model, load_tokenizer
from treering.revisions.records import read_revisions
from treering.tokens.documents import open_documents
from treering.tokens.store import TokenStore, open_tokenizer
from treering.training.determinism import open_device, set_arithmetic

_FORMAT_VERSION = 1
_DTYPE = torch.float32


def evaluate(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write `evaluation/` and return its manifest; a whole one made from the same inputs is left as it is.

    An interrupted evaluation goes on after the last revision it had scored.

    Raises:
        InputError: When a task is unknown or cannot be used, or an earlier stage has not been done.
        CorpusError: When there is too little held-out text.
        NonFiniteError: When a revision gives scores that are no numbers.
        IntegrityError: When earlier stages are not what their manifests say.
    """
    tasks = find_tasks(run.recipe.evaluation.tasks, run.recipe.evaluation.data)
    reads = run.reads("corpus", "tokens", "order", "revisions")
    for task in tasks:
        reads |= task.reads
    if tasks:
        reads["lm_eval"] = digest_value(harness_version())
    if manifest := run.find("evaluation", reads, replaceable=True):
        remove_tree(_working_folder(run))
        return manifest
    set_arithmetic(run.recipe.training.threads)
    return _evaluate(run, tasks, reads, progress)


def _evaluate(run: RunDirectory, tasks: Sequence[EvaluationTask], reads: dict[str, str], progress: Progress) -> Manifest:
    stage = _Stage(run)
    scored = _open_working_folder(run, stage_digest(run.recipe, "evaluation", reads))
    with whole_directory(run.stage("evaluation")) as folder:
        built = stage.build_tasks(folder, tasks)  # what is wrong with a task is said before anything long begins
        stage.score_revisions(scored, progress)
        heldout = stage.keep_heldout(scored, folder)
        unigram = stage.write_unigram(folder)
        stage.run_harness(scored, folder, built, progress)
        write_record(folder / "evaluation.json", "evaluation", _FORMAT_VERSION, _summary(heldout, unigram))
        run.seal(folder, "evaluation", reads)
    remove_tree(_working_folder(run))
    return run.verified("evaluation")


class _Stage:
    """What all parts of the stage look at: the run, its revisions and its held-out tokens."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.settings = run.recipe.evaluation
        self.revisions: list[dict[str, Any]] = read_revisions(run.stage("revisions"))["revisions"]
        self.device = open_device(run.recipe.training)
        self.tokenizer = open_tokenizer(run.stage("tokens"))
        self.heldout = self._take_heldout()

    def _take_heldout(self) -> HeldoutTokens:
        store = TokenStore(self.run.stage("tokens"), "validation")
        documents = open_documents(self.run.stage("corpus"), self.run.stage("tokens"), "validation")
        sizes = (stop - start for start, stop in (store.place_of(number) for number in range(store.documents)))
        domains = ((document.domain, size) for document, size in zip(documents, sizes, strict=True))
        length, most = self.run.recipe.order.sequence_length, self.settings.heldout_tokens
        return take_heldout(store.tokens, self.tokenizer.byte_lengths(), length, most, domains)

    def load_model(self, name: str) -> PreTrainedModel:
        """Return a revision's model, its weights in the number type that all scores are computed in."""
        model = load_model(self.run.stage("revisions") / name, _DTYPE)
        torch.nn.Module.to(model, self.device)  # in place; transformers wraps its own `to` beyond what types can follow
        return model

    def score_revisions(self, scored: Path, progress: Progress) -> None:
        """Write a record for each revision that has none yet, each whole as soon as it is known."""
        waiting = [revision for revision in self.revisions if not _record(scored, revision).exists()]
        total = len(waiting) * len(self.heldout.targets)
        with progress.task("held-out text", total, "tokens") as watched:
            for revision in waiting:
                watched.note(revision["name"])
                nats = self._nats(revision["name"], watched)
                score, domains = score_nats(nats, self.heldout, revision["name"])
                about = {"revision": revision["name"], "step": revision["step"], "tokens_digest": self.heldout.digest}
                about["domains"] = [{"domain": domain, **own.fields()} for domain, own in domains.items()]
                write_atomically(_nats_file(scored, revision), _array_bytes(nats))
                write_record(_record(scored, revision), "heldout", _FORMAT_VERSION, about | score.fields())

    def _nats(self, name: str, watched: Task) -> np.ndarray:
        """Return a revision's surprise at each held-out target; its model is let go of."""
        return nats_of_targets(self.load_model(name), self.heldout, self.settings.batch_size, watched)

    def keep_heldout(self, scored: Path, folder: Path) -> list[dict[str, Any]]:
        """Copy the revisions' records into the stage's folder and return them in step order."""
        records = [read_record(_record(scored, revision), "heldout", _FORMAT_VERSION) for revision in self.revisions]
        for revision, record in zip(self.revisions, records, strict=True):
            write_record(_record(folder / "heldout", revision), "heldout", _FORMAT_VERSION, record)
            write_atomically(_nats_file(folder / "heldout", revision), _nats_file(scored, revision).read_bytes())
        return sorted(records, key=lambda record: record["step"])

    def write_unigram(self, folder: Path) -> dict[str, Any]:
        """Write the unigram model's score on the same targets and return it."""
        train = TokenStore(self.run.stage("tokens"), "train").tokens
        score = score_unigram(count_tokens(train, self.tokenizer.vocabulary_size), self.heldout)
        write_record(folder / "unigram.json", "unigram", _FORMAT_VERSION, score.fields())
        return score.fields()

    def build_tasks(self, folder: Path, tasks: Sequence[EvaluationTask]) -> HarnessTasks:
        """Write the tasks with their items, and return them built.

        Raises:
            InputError: When the harness cannot use one, its items cannot be had, or a step to score is no revision.
        """
        self._wanted()
        for task in tasks:
            task.write(folder / "tasks", self._material())
        return HarnessTasks([task.prepared(folder / "tasks") for task in tasks], self.settings.num_fewshot)

    def run_harness(self, scored: Path, folder: Path, built: HarnessTasks, progress: Progress) -> None:
        """Write what each wanted revision scores on the tasks, each whole as soon as it is known."""
        wanted = self._wanted()
        waiting = [revision for revision in wanted if not _harness_record(scored, revision).exists()]
        with progress.task("evaluation harness", None, "requests") as watched:
            for revision in waiting:
                watched.note(revision["name"])
                body = self._score_with(built, revision, watched)
                write_record(_harness_record(scored, revision), "harness", _FORMAT_VERSION, body)
        for revision in wanted:
            record = read_record(_harness_record(scored, revision), "harness", _FORMAT_VERSION)
            write_record(_harness_record(folder, revision), "harness", _FORMAT_VERSION, record)

    def _score_with(self, built: HarnessTasks, revision: dict[str, Any], watched: Task) -> dict[str, Any]:
        tokenizer = load_tokenizer(self.run.stage("revisions") / revision["name"])
        scores = built.score(
            lambda: self.load_model(revision["name"]),
            lambda model: WatchedModel(model, tokenizer, self.settings.batch_size, watched),
        )
        return {
            "revision": revision["name"],
            "step": revision["step"],
            "weights_digest": revision["weights_digest"],
            "harness_version": harness_version(),
            "dtype": str(_DTYPE).removeprefix("torch."),
            "num_fewshot": self.settings.num_fewshot,
            "batch_size": self.settings.batch_size,
            "tasks": [asdict(score) for score in scores],
            "groups": [asdict(score) for score in score_groups(scores)],
        }

    def _wanted(self) -> list[dict[str, Any]]:
        """Return the revisions that the recipe wants scored with the harness, in step order, the last among them.

        Raises:
            InputError: When a step is no revision.
        """
        ordered, wanted = sorted(self.revisions, key=lambda revision: revision["step"]), self.settings.revisions
        if wanted in ("all", "last"):
            return ordered if wanted == "all" else ordered[-1:]
        steps = [revision["step"] for revision in ordered]
        if unknown := [step for step in wanted if step not in steps]:
            raise InputError(
                "there is no such revision", where="evaluation.revisions", expected=", ".join(map(str, steps)), found=unknown[0]
            )
        return [revision for revision in ordered if revision["step"] in (*wanted, steps[-1])]

    def _material(self) -> Material:
        documents = open_documents(self.run.stage("corpus"), self.run.stage("tokens"), "validation")
        return Material(documents, self._token_counts, self.run.recipe.model.max_position_embeddings)

    def _token_counts(self, texts: Sequence[str]) -> np.ndarray:
        _, offsets = self.tokenizer.encode(list(texts))
        return np.diff(offsets)


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


def _record(folder: Path, revision: dict[str, Any]) -> Path:
    return folder / f"{revision['name']}.json"


def _array_bytes(array: np.ndarray) -> bytes:
    """Return an array in numpy's format."""
    file = BytesIO()
    np.lib.format.write_array(file, array.astype("<f4", copy=False), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _nats_file(folder: Path, revision: dict[str, Any]) -> Path:
    return folder / f"{revision['name']}.npy"


def _harness_record(folder: Path, revision: dict[str, Any]) -> Path:
    return folder / "harness" / f"{revision['name']}.json"


def _working_folder(run: RunDirectory) -> Path:
    return run.path / ".evaluation.working"


def _open_working_folder(run: RunDirectory, inputs: str) -> Path:
    """Return the folder of records that outlive an interruption, after removing those made from other inputs."""
    folder = _working_folder(run) / inputs.removeprefix("sha256:")
    if not folder.exists():
        remove_tree(_working_folder(run))
    return folder
