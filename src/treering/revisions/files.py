"""The files of a revision: configuration, tokenizer settings, weights."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from treering.config.schema import Recipe
from treering.errors import NonFiniteError
from treering.model.initialisation import standard_deviation
from treering.tokens.tokenizer import Tokenizer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
LARGEST_SHARD_BYTES = 5_000_000_000


def model_config(recipe: Recipe, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return `config.json`: one that transformers 4 and 5 read as the same model.

    transformers 5 reads `rope_parameters` and `dtype`, transformers 4 `rotary_pct`, `rotary_emb_base` and `torch_dtype`; a
    file with only the new names is silently read with default rotary settings by the old.
    """
    model = recipe.model
    architecture = model.model_dump(exclude={"seed", "initialisation"})
    return {
        **architecture,
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "initializer_range": standard_deviation(model, "gpt_neox.embed_in.weight"),
        "bos_token_id": tokenizer.end_of_document_id,
        "eos_token_id": tokenizer.end_of_document_id,
        "pad_token_id": tokenizer.padding_id,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": model.rotary_emb_base,
            "partial_rotary_factor": model.rotary_pct,
        },
        "dtype": recipe.revisions.dtype,
        "torch_dtype": recipe.revisions.dtype,
        "use_cache": True,
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return `generation_config.json`."""
    end = tokenizer.end_of_document_id
    ids = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end if tokenizer.padding_id is None else tokenizer.padding_id,
    }
    return {"_from_model_config": True, **ids}


def tokenizer_config(recipe: Recipe) -> dict[str, Any]:
    """Return `tokenizer_config.json`; its class is the one name under which both transformers keep `tokenizer.json` whole."""
    settings = recipe.tokens.tokenizer
    end = settings.end_of_document
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "pad_token": settings.padding or end,
        "model_max_length": recipe.order.sequence_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "add_prefix_space": False,
    }


def write_settings(folder: Path, recipe: Recipe, tokenizer: Tokenizer, tokenizer_json: bytes) -> None:
    """Write everything but the weights into a revision's folder."""
    documents = {
        "config.json": model_config(recipe, tokenizer),
        "generation_config.json": generation_config(tokenizer),
        "tokenizer_config.json": tokenizer_config(recipe),
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(tokenizer_json)


def cast_weights(weights: dict[str, Tensor], dtype: str, where: str) -> dict[str, Tensor]:
    """Return the weights in a number type.

    Raises:
        NonFiniteError: When a weight does not fit into it.
    """
    cast = {name: tensor.to(DTYPES[dtype]) for name, tensor in weights.items()}
    wrong = [name for name, tensor in cast.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise NonFiniteError(
            f"a weight is too large for {dtype}",
            where=where,
            found=wrong[0],
            advice="publish float32 or bfloat16 (revisions.dtype)",
        )
    return cast


def write_weights(folder: Path, weights: dict[str, Tensor], largest_shard_bytes: int = LARGEST_SHARD_BYTES) -> None:
    """Write `model.safetensors`, or numbered shards and their index where it would be larger than one shard."""
    shards = _shards(weights, largest_shard_bytes)
    names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        save_file({key: weights[key].contiguous() for key in shard}, folder / name, metadata={"format": "pt"})
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(tensor.nbytes for tensor in weights.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold a revision's weights, sorted."""
    return sorted(folder.glob("model*.safetensors"))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return a revision's weights as its files hold them."""
    return {name: tensor for file in weight_files(folder) for name, tensor in load_file(file).items()}


def _shards(weights: dict[str, Tensor], largest_bytes: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in weights.items():
        if filled and filled + tensor.nbytes > largest_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.nbytes
    return shards
