"""Training tokens per second against `transformers.Trainer`: `python benchmarks/training.py`.

The same model from the same first weights, the same texts, batch, micro-batch, threads and fp32, the quickstart's. The two
take turns in one process, a segment each, after a few updates that do not count; the table has the medians. treering works
under deterministic kernels, as it always does; Trainer under torch's defaults.
"""

import argparse
import itertools
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from treering.checkpoints.state import initial_state
from treering.config.run_directory import open_run
from treering.config.schema import Recipe
from treering.corpus.stage import prepare_corpus
from treering.order.batches import Batches
from treering.order.stage import open_batches
from treering.provenance.environment import describe_machine, describe_software
from treering.tokens.stage import prepare_tokens
from treering.training.determinism import set_arithmetic
from treering.training.steps import StepReport, steps

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.yaml"
WARM_UP = 3


class Treering:
    """treering's loop, taken segment by segment."""

    def __init__(self, recipe: Recipe, batches: Batches) -> None:
        self._threads = recipe.training.threads
        self._loop: Iterator[StepReport] = steps(initial_state(recipe.model), batches, recipe)
        self.losses: list[float] = []

    def segment(self, updates: int) -> float:
        """Do some updates and return the seconds they took."""
        set_arithmetic(self._threads)
        start = time.perf_counter()
        self.losses += [report.loss_nats for report in itertools.islice(self._loop, updates)]
        elapsed = time.perf_counter() - start
        torch.use_deterministic_algorithms(False)
        return elapsed


class TakeTurns(TrainerCallback):
    """Times Trainer's segments, and has treering do one after each."""

    def __init__(self, treering: Treering, updates: int) -> None:
        self._treering, self._updates = treering, updates
        self.seconds: dict[str, list[float]] = {"Trainer": [], "treering": []}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Notice the end of a segment."""
        done = state.global_step - WARM_UP
        if done < 0 or done % self._updates:
            return
        if done > 0:
            self.seconds["Trainer"].append(time.perf_counter() - self._start)
            self.seconds["treering"].append(self._treering.segment(self._updates))
        else:
            self._treering.segment(WARM_UP)
        self._start = time.perf_counter()


def their_model(recipe: Recipe) -> GPTNeoXForCausalLM:
    """Return the model of `transformers` with treering's first weights."""
    model = recipe.model
    fields = model.model_dump(exclude={"seed", "initialisation", "rotary_pct", "rotary_emb_base"})
    rope = {"rope_type": "default", "rope_theta": model.rotary_emb_base, "partial_rotary_factor": model.rotary_pct}
    network = GPTNeoXForCausalLM(GPTNeoXConfig(**fields, rope_parameters=rope, use_cache=False))
    weights = initial_state(model).weights
    network.load_state_dict({name.replace("embed_out.", "lm_head."): weight for name, weight in weights.items()})
    return network


def their_rows(batches: Batches, updates: int) -> list[dict[str, torch.Tensor]]:
    """Return the same sequences in the same order; `transformers` shifts the labels, so a row has one target fewer."""
    rows = (torch.from_numpy(row[:-1]) for update in range(updates) for row in batches.batch(update))
    return [{"input_ids": row, "labels": row} for row in rows]


def compare(recipe: Recipe, batches: Batches, folder: Path, updates: int, segments: int) -> tuple[TakeTurns, Treering, float]:
    """Train with both by turns, and return the times, treering's loop and Trainer's last logged loss."""
    training, treering = recipe.training, Treering(recipe, batches)
    turns = TakeTurns(treering, updates)
    total = WARM_UP + segments * updates
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=total,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=training.micro_batches,
        learning_rate=training.optimizer.learning_rate,
        adam_beta1=training.optimizer.betas[0],
        adam_beta2=training.optimizer.betas[1],
        weight_decay=training.optimizer.weight_decay,
        max_grad_norm=training.optimizer.gradient_clip or 0.0,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=training.schedule.warmup_steps,
        train_sampling_strategy="sequential",
        dataloader_pin_memory=False,
        use_cpu=True,
        logging_steps=updates,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows: Any = their_rows(batches, total)
    trainer = Trainer(model=their_model(recipe), args=arguments, train_dataset=rows, callbacks=[turns])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return turns, treering, logged[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=12, help="updates in a segment")
    parser.add_argument("--segments", type=int, default=5)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as name:
        run = open_run(RECIPE, Path(name))
        prepare_corpus(run)
        prepare_tokens(run)
        set_arithmetic(run.recipe.training.threads)
        torch.use_deterministic_algorithms(False)
        turns, treering, loss = compare(run.recipe, open_batches(run), Path(name), given.updates, given.segments)
    report(run.recipe, turns, given.updates)
    own = statistics.mean(treering.losses[-given.updates :])
    print(f"  mean loss of the last segment: Trainer {loss:.3f}, treering {own:.3f}")


def report(recipe: Recipe, turns: TakeTurns, updates: int) -> None:
    """Print the table."""
    training = recipe.training
    software = {name: describe_software()[name] for name in ("treering", "python", "torch", "transformers")}
    print(f"{describe_machine()}, {os.cpu_count()} processors, {software}")
    print(
        f"{recipe.model.hidden_size} wide, {recipe.model.num_hidden_layers} layers, batch {training.global_batch_size} × "
        f"{recipe.order.sequence_length} tokens in {training.micro_batches} micro-batches, {training.threads} threads, "
        f"{training.precision}; {len(turns.seconds['treering'])} segments of {updates} updates, by turns"
    )
    tokens = updates * training.global_batch_size * recipe.order.sequence_length
    medians = {name: tokens / statistics.median(seconds) for name, seconds in turns.seconds.items()}
    for name, seconds in turns.seconds.items():
        slowest, fastest = tokens / max(seconds), tokens / min(seconds)
        ratio = medians[name] / medians["Trainer"]
        print(f"  {name:<10} {medians[name]:9.0f} tokens/s (from {slowest:.0f} to {fastest:.0f})   × {ratio:5.2f}")


if __name__ == "__main__":
    main()
