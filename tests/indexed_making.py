"""Corpora that are tokens already: data sets as GPT-NeoX writes them, and recipes that train on them."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
from training_making import small_recipe

from treering.config.run_directory import RunDirectory


def write_data_set(
    prefix: Path, documents: list[list[int]], token_type: str = "uint16", index: list[int] | None = None
) -> Path:
    """Write `PREFIX.bin` and `PREFIX.idx` from the layout's description; `index` is the document index, if an unusual one."""
    kind = np.dtype(token_type)
    codes = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}
    sizes = np.array([len(document) for document in documents], dtype="<i4")
    places = np.cumsum([0, *(len(document) * kind.itemsize for document in documents)], dtype="<i8")[:-1]
    starts = np.arange(len(documents) + 1, dtype="<i8") if index is None else np.array(index, dtype="<i8")
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, codes[token_type], len(sizes), len(starts))
    prefix.with_name(f"{prefix.name}.idx").write_bytes(header + sizes.tobytes() + places.tobytes() + starts.tobytes())
    tokens = np.array([token for document in documents for token in document], dtype=kind)
    prefix.with_name(f"{prefix.name}.bin").write_bytes(tokens.tobytes())
    return prefix


def take_data_sets(run: RunDirectory, folder: Path) -> Path:
    """Copy a run's two data sets and its tokenizer into a folder, as if they had come from elsewhere; return the folder."""
    folder.mkdir(parents=True)
    for name in ("train.bin", "train.idx", "validation.bin", "validation.idx", "tokenizer.json"):
        shutil.copy(run.stage("tokens") / name, folder / name)
    return folder


def write_indexed_recipe(folder: Path, sources: list[dict[str, Any]], **sections: dict[str, Any]) -> Path:
    """Write the small recipe with these sources and the tokenizer of the folder; return the recipe's path."""
    recipe = small_recipe(folder, **{"order": {"name": "neox-v1"}, **sections})
    recipe["corpus"] = {"sources": sources, "validation_fraction": 0.2, **sections.get("corpus", {})}
    recipe["tokens"] = {"tokenizer": {"path": str(folder / "tokenizer.json")}, **sections.get("tokens", {})}
    path = folder / "tiny.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path
