"""Exact values that are the same on every machine; `python tests/golden_making.py` writes them anew.

Do that only when an algorithm is changed on purpose, which is a "Changes the bytes" entry in the changelog. Floats are kept
in hexadecimal, so that what is compared is bits.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from training_making import apply, norm_of, resolve

from treering.checkpoints.state import TrainingState, tensor_digest
from treering.config.schema import Optimizer, Recipe
from treering.model.initialisation import initial_weights
from treering.model.normal import normal_numbers
from treering.order.order import Order
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import derive_key
from treering.training.optimizer import AdamW
from treering.training.schedule import learning_rate

FOLDER = Path(__file__).resolve().parent / "golden" / "any"
SIZES = (1, 2, 3, 10, 99, 1000, 4097, 146_484_374, 2**40 + 7, 2**62)
SCHEDULES = ("cosine", "linear", "constant", "neox-v1", "neox")


def keys() -> list[dict[str, Any]]:
    """Keys of some domains, seeds and counters."""
    arguments: list[tuple[Any, ...]] = [("order/round", 1234, 0, 0), ("order/round", 2**63 - 1, 7, 15), ("é", 0, "name", 1)]
    return [{"arguments": list(given), "key": derive_key(*given)} for given in arguments]


def order() -> list[dict[str, Any]]:
    """Sequences at some positions of two epochs, and the digest of a whole epoch where it is small."""
    made = []
    for size in SIZES:
        for seed in (0, 1234):
            places = sorted({0, 1 % size, size // 3, size - 1})
            positions = places + ([size + place for place in places] if size < 2**61 else [])
            ids = Order(size, seed).sequence_ids(np.array(positions)).tolist()
            entry = {"sequences": size, "seed": seed, "positions": positions, "sequence_ids": ids}
            if size <= 5000:
                epoch = Order(size, seed).sequence_ids(np.arange(size)).tolist()
                entry["first_epoch"] = hashlib.sha256(canonical_json(epoch)).hexdigest()
            made.append(entry)
    return made


def initialisation() -> dict[str, Any]:
    """The beginnings of some streams of normal numbers, a digest of a long one, and every first weight of two tiny models."""
    names = ("gpt_neox.embed_in.weight", "gpt_neox.layers.0.attention.query_key_value.weight")
    streams = [
        {
            "seed": seed,
            "name": name,
            "numbers": [float(number).hex() for number in normal_numbers("model/weights", seed, name, 6, 1.0)],
            "first_100000": hashlib.sha256(normal_numbers("model/weights", seed, name, 100_000, 0.02).tobytes()).hexdigest(),
        }
        for seed in (0, 1234)
        for name in names
    ]
    methods = {"method": "normal", "output_method": "scaled_normal"}
    models = {
        "small_init and wang_init": resolve().model,
        "normal and scaled_normal": resolve(model={"initialisation": methods}).model,
    }
    weights = {kind: {name: tensor_digest(w) for name, w in initial_weights(model)} for kind, model in models.items()}
    return {"streams": streams, "weights": weights}


def pythia(schedule: str, steps: int = 143_000, warmup: int = 1430) -> Recipe:
    """A recipe with the settings of Pythia 160M and some schedule."""
    return resolve(
        training={
            "steps": steps,
            "optimizer": {"learning_rate": 6e-4},
            "schedule": {"name": schedule, "warmup_steps": warmup, "minimum_learning_rate": 6e-5},
        }
    )


def schedule() -> dict[str, dict[str, str]]:
    """The rates of some updates under every schedule."""
    updates = (0, 1, 2, 715, 1429, 1430, 1431, 71_500, 115_138, 115_139, 115_140, 141_570, 142_998, 142_999)
    return {name: {str(update): learning_rate(pythia(name).training, update).hex() for update in updates} for name in SCHEDULES}


def adamw() -> dict[str, Any]:
    """The state after some updates on gradients that are drawn by key: AdamW's bits depend on no machine."""
    shapes = {"a.weight": (70, 1000), "a.bias": (1000,), "a.layernorm.weight": (7,)}

    def drawn(kind: str, step: int, deviation: float) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(normal_numbers("golden", step, f"{kind} {name}", int(np.prod(shape)), deviation)).view(shape)
            for name, shape in shapes.items()
        }

    zeros = ({name: torch.zeros(shape) for name, shape in shapes.items()} for _ in range(2))
    state = TrainingState(0, drawn("weight", 0, 0.02), *zeros)
    optimizer = AdamW(Optimizer(learning_rate=1e-3))
    norms = [apply(optimizer, state, drawn("gradient", step, 0.1), 1e-3 / (step + 1), 0.75).hex() for step in range(5)]
    groups = {"weights": state.weights, "first_moments": state.first_moments, "second_moments": state.second_moments}
    record = {"gradient_norm": norm_of(drawn("gradient", 0, 0.1)).hex(), "update_norms": norms}
    return record | {kind: {n: tensor_digest(t) for n, t in group.items()} for kind, group in groups.items()}


MAKERS: dict[str, Callable[[], Any]] = {
    "keys": keys,
    "order": order,
    "initialisation": initialisation,
    "schedule": schedule,
    "adamw": adamw,
}


def main() -> None:
    """Write every golden file."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, make in MAKERS.items():
        (FOLDER / f"{name}.json").write_text(json.dumps(make(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
