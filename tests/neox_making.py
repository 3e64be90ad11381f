"""Checkpoints as GPT-NeoX and DeepSpeed lay them out, written from the layout's description alone."""

import random
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROWS = ("word_embeddings.weight", "final_linear.weight", "query_key_value.weight", "query_key_value.bias")
ROWS += ("dense_h_to_4h.weight", "dense_h_to_4h.bias", "linear1.weight", "linear1.bias")
COLUMNS = ("attention.dense.weight", "dense_4h_to_h.weight", "linear2.weight")
BIASES = ("attention.dense.bias", "dense_4h_to_h.bias", "linear2.bias")


def layer_of(name: str, layers: int) -> tuple[int, str]:
    """A parameter's place in the pipeline and its name there."""
    if name == "gpt_neox.embed_in.weight":
        return 0, "word_embeddings.weight"
    if name.startswith("gpt_neox.final_layer_norm."):
        return layers + 3, name.replace("gpt_neox.final_layer_norm.", "norm.")
    if name == "embed_out.weight":
        return layers + 4, "final_linear.weight"
    number, rest = name.removeprefix("gpt_neox.layers.").split(".", 1)
    return int(number) + 2, rest


def split(name: str, tensor: Tensor, ranks: int, *, parallel_residual: bool) -> list[Tensor]:
    """A rank's part of each parameter."""
    if ranks == 1:
        return [tensor]
    if name.endswith(ROWS):
        return [part.clone() for part in tensor.chunk(ranks, dim=0)]
    if name.endswith(COLUMNS):
        return [part.clone() for part in tensor.chunk(ranks, dim=1)]
    if name.endswith(BIASES) and parallel_residual:
        return [tensor / ranks for _ in range(ranks)]  # exact for powers of two
    return [tensor.clone() for _ in range(ranks)]


def client_state(step: int) -> dict[str, Any]:
    """What GPT-NeoX saves beside weights: generators' states, counters, its arguments."""
    return {
        "iteration": step,
        "global_steps": step,
        "dp_world_size": 1,
        "ds_version": "0.3.15",
        "random_rng_state": random.Random(step).getstate(),
        "np_rng_state": np.random.RandomState(step).get_state(),
        "torch_rng_state": torch.get_rng_state(),
        "rng_tracker_states": {"model-parallel-rng": torch.get_rng_state()},
        "args": {"num_layers": 2, "hidden_size": 32, "lr_decay_style": "cosine"},
        "optimizer": None,
        "lr_scheduler": {"start_lr": 1e-3, "num_iters": step},
        "csr_tensor_module_names": {"word_embeddings"},
        "param_shapes": [OrderedDict(weight=torch.Size([2, 3]))],
        "buffer_names": ["inv_freq"],
        "ds_config": {"train_batch_size": 8, "fp16": {"enabled": True}},
        "skipped_steps": 0,
    }


def write_neox_checkpoint(save: Path, step: int, weights: dict[str, Tensor], layers: int, **layout: Any) -> Path:
    """Write `global_stepN`.

    `ranks`: tensor-parallel ones; `pipeline`: a file per layer, or all in one per rank; `newer`: the newer names; `buffers`:
    with what older versions saved too; `parallel_residual`.
    """
    ranks, pipeline = layout.get("ranks", 1), layout.get("pipeline", True)
    folder = save / f"global_step{step}"
    folder.mkdir(parents=True)
    parts: list[dict[int, dict[str, Tensor]]] = [{} for _ in range(ranks)]
    for full, tensor in weights.items():
        index, name = layer_of(full, layers)
        if layout.get("newer"):
            name = name.replace("mlp.dense_h_to_4h", "mlp.linear1").replace("mlp.dense_4h_to_h", "mlp.linear2")
        for rank, part in enumerate(split(name, tensor, ranks, parallel_residual=layout.get("parallel_residual", True))):
            parts[rank].setdefault(index, {})[name] = part
    for rank, own in enumerate(parts):
        if layout.get("buffers"):
            for index in range(2, layers + 2):
                own[index]["attention.rotary_emb.inv_freq"] = torch.ones(2)
        module = None if pipeline else {f"sequential.{i}.{name}": t for i, named in own.items() for name, t in named.items()}
        torch.save({"module": module, **client_state(step)}, folder / f"mp_rank_{rank:02}_model_states.pt")
        if pipeline:
            for index, named in own.items():
                torch.save(named, folder / f"layer_{index:02}-model_{rank:02}-model_states.pt")
    (folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"the optimizer's, which nobody reads")
    (save / "latest").write_text(f"global_step{step}")
    return folder
