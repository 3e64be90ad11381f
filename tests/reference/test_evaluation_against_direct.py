"""Scores against straightforward computations of the same: one sequence, one choice at a time, in float64."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from evaluation_making import addresses, documents, make_run, material, tiny_model
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from treering.config.run_directory import RunDirectory
from treering.evaluation.harness import HarnessTasks
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_scores import ScoredTask, TaskScore
from treering.evaluation.heldout import nats_of_targets, score_nats, take_heldout
from treering.evaluation.tasks.catalogue import find_tasks, read_items
from treering.evaluation.tasks.definition import read_definition
from treering.provenance.progress import SILENCE
from treering.revisions.loading import load_tokenizer
from treering.tokens.store import TokenStore, open_tokenizer

UNIT = 2**-24  # half the distance from 1 to the next float32: the relative error of one rounding


def tolerance_nats(model: PreTrainedModel, largest_logit: float) -> float:
    """How far one target's nats in float32 may be from those in float64.

    A logit is the end of a chain of matrix products, five a layer and the head, and of two LayerNorms a layer and one more.
    Each sums at most as many terms as the network is wide in its MLP, and so errs by at most that many roundings of its
    largest value; LayerNorms bring values back to order one, so relative errors add up along the chain. Nats are the
    difference of two logits' functions, each of slope at most one; their own roundings are two more.
    """
    config = model.config
    chain = 7 * config.num_hidden_layers + 2
    return 2 * (chain * config.intermediate_size + 2) * UNIT * max(largest_logit, 1.0)


@torch.inference_mode()
def nats_one_by_one(model: PreTrainedModel, ids: Sequence[int], first_target: int) -> tuple[float, float]:
    """The summed nats of ids[first_target:] in float64, and the largest logit."""
    logits = model.double()(torch.tensor([list(ids[:-1])]), use_cache=False).logits[0]
    targets = torch.tensor(list(ids[1:]))
    nats = cross_entropy(logits[first_target - 1 :], targets[first_target - 1 :], reduction="sum")
    return float(nats), float(logits.abs().max())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("reference"), steps=(0,))


@pytest.fixture(scope="module")
def tokenizer(run: RunDirectory) -> PreTrainedTokenizerBase:
    return load_tokenizer(run.stage("revisions") / "step0")


def test_bits_per_byte_is_that_of_a_loop_over_sequences_in_float64(run: RunDirectory) -> None:
    tokens, own = TokenStore(run.stage("tokens"), "validation").tokens, open_tokenizer(run.stage("tokens"))
    held = take_heldout(tokens, own.byte_lengths(), 48, 2000)
    with SILENCE.task("test") as watched:
        score, _ = score_nats(nats_of_targets(tiny_model(0), held, 7, watched), held, "step0")

    reference, nats, largest = tiny_model(0), 0.0, 0.0
    for start in range(0, 2000, 48):
        ids = [int(token) for token in tokens[start : min(start + 48, 2000) + 1]]
        part, logit = nats_one_by_one(reference, ids, 1)
        nats, largest = nats + part, max(largest, logit)
    text_bytes = len(own.decode_bytes(np.array(tokens[1:2001])))

    assert (score.targets, score.bytes) == (2000, text_bytes)
    bound = tolerance_nats(reference, largest)
    assert score.loss_nats == pytest.approx(nats / 2000, abs=bound)
    assert score.bits_per_byte == pytest.approx(
        nats / (math.log(2) * text_bytes), abs=bound * 2000 / (math.log(2) * text_bytes)
    )


def harness_score(run: RunDirectory, name: str, folder: Path, items: int) -> tuple[TaskScore, list[dict[str, Any]]]:
    """What the harness says of the tiny model on the first items of one of treering's own tasks, and those items."""
    [task] = find_tasks([name])
    task.write(folder, material(documents(addresses(6, 9000))))
    path = folder / f"{name}.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:items]))
    tokenizer = load_tokenizer(run.stage("revisions") / "step0")
    with SILENCE.task("test") as watched:
        built = HarnessTasks([read_definition(folder / f"{name}.yaml")], 0)
        found: list[ScoredTask] = []
        built.score(lambda: tiny_model(0), lambda model: WatchedModel(model, tokenizer, 8, watched), found.append)
    score = found[0].score
    assert score.samples == items
    return score, read_items(path)


def choice_nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, context: str, choice: str) -> tuple[float, float]:
    """The nats of a choice after its context, after EOD where there is none, and how far float32 may be from them."""
    before = tokenizer.encode(context) if context else [tokenizer.eos_token_id]
    ids = tokenizer.encode(context + choice) if context else before + tokenizer.encode(choice)
    nats, largest = nats_one_by_one(model, ids, len(before))
    return nats, tolerance_nats(model, largest) * (len(ids) - len(before))


@pytest.mark.parametrize(("name", "context", "choices", "delimiter"), [
    ("heldout_continuation", "context", "choices", " "),
    ("number_agreement", None, "sentences", ""),
])  # fmt: skip
def test_acc_is_that_of_choosing_the_likeliest_directly(
    run: RunDirectory,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    name: str,
    context: str | None,
    choices: str,
    delimiter: str,
) -> None:
    score, items = harness_score(run, name, tmp_path, 24)
    model, correct, normalised, close = tiny_model(0), 0, 0, 0
    for item in items:
        scored = [
            choice_nats(model, tokenizer, item[context] if context else "", delimiter + choice) for choice in item[choices]
        ]
        nats = [value for value, _ in scored]
        per_character = [value / len(choice) for value, choice in zip(nats, item[choices], strict=True)]
        correct += int(np.argmin(nats)) == item["answer"]
        normalised += int(np.argmin(per_character)) == item["answer"]
        best, second = sorted(nats)[:2]
        close += second - best < 2 * max(bound for _, bound in scored)
    found = {metric.metric: metric.value for metric in score.metrics}
    # A choice may fall otherwise only where two are closer than rounding can part them.
    assert abs(found["acc"] * len(items) - correct) <= close + 1e-9
    assert close <= len(items) // 4
    if "acc_norm" in found:
        assert abs(found["acc_norm"] * len(items) - normalised) <= close + 1e-9


def test_perplexities_are_those_of_windows_scored_directly(
    run: RunDirectory, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    score, items = harness_score(run, "heldout_perplexity", tmp_path, 8)
    model, nats, bound = tiny_model(0), 0.0, 0.0
    longest = model.config.max_position_embeddings
    for item in items:
        ids = [tokenizer.eos_token_id, *tokenizer.encode(item["text"])]
        for start in range(1, len(ids), longest):
            stop = min(start + longest, len(ids))
            window = ids[max(0, stop - longest - 1) : stop]  # the last window reaches back for as much context as fits
            part, largest = nats_one_by_one(model, window, len(window) - (stop - start))
            nats, bound = nats + part, bound + tolerance_nats(model, largest) * (stop - start)
    text_bytes = sum(len(item["text"].encode()) for item in items)
    found = {metric.metric: metric.value for metric in score.metrics}
    assert found["bits_per_byte"] == pytest.approx(nats / text_bytes / math.log(2), abs=bound / text_bytes / math.log(2))
    assert found["byte_perplexity"] == pytest.approx(math.exp(nats / text_bytes), rel=math.expm1(bound / text_bytes))
