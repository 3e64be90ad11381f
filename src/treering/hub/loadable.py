"""What of a revision is downloaded and loaded, and what never is: code, and weights that are pickles."""

import json
from pathlib import Path
from typing import Any

from treering.errors import InputError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
SETTINGS_FILES = (CONFIG, "generation_config.json", "tokenizer_config.json")
TOKENIZER_FILES = (
    *("tokenizer.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model"),
)
WEIGHT_FILES = (WEIGHTS, WEIGHTS_INDEX, "model-*.safetensors")
_CHOSEN_HERE = (
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation"),
    *("_experts_implementation", "quantization_config"),
)
_OWN_KERNELS = ("eager", "sdpa")
_MOST_JSON_BYTES = 64_000_000  # the longest indices, of models with thousands of experts, have some ten million


def refuse_code(folder: Path, where: str) -> None:
    """Do nothing where a revision's settings name a model and a tokenizer that `transformers` has itself.

    Raises:
        InputError: When they name code that the release brings along, or are missing or no settings.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"this revision has no {CONFIG}", where=where, advice="choose other revisions")
    _refuse_kernels(_read_object(folder / CONFIG, where), where)
    for name in SETTINGS_FILES:
        if (folder / name).is_file() and "auto_map" in (settings := _read_object(folder / name, where)):
            raise InputError(
                "this revision wants code of its own to be run, and treering runs no code of a release",
                where=f"{where}, {name}",
                expected="a model and a tokenizer that `transformers` has itself",
                found=f"auto_map: {str(settings['auto_map'])[:200]!r}",
            )


def _refuse_kernels(settings: dict[str, Any], where: str) -> None:
    """Do nothing where settings leave it to `transformers` how a model is computed.

    Raises:
        InputError: When they name a kernel, which may be fetched as code, or weights of another number format.
    """
    for field in _CHOSEN_HERE:
        value = settings.get(field)
        if value is not None and value not in _OWN_KERNELS:
            raise InputError(
                "this revision's settings choose how it is computed, which may fetch code",
                where=f"{where}, {CONFIG}",
                expected=f"no `{field}`, or one of {', '.join(_OWN_KERNELS)}",
                found=f"{str(value)[:200]!r}",
            )


def refuse_no_weights(folder: Path, where: str) -> None:
    """Do nothing where a revision has weights in safetensors, and all of them.

    Raises:
        InputError: When it has none, such as only pickles, or not every shard that its index names.
    """
    if (folder / WEIGHTS).is_file():
        return
    if not (folder / WEIGHTS_INDEX).is_file():
        raise InputError(
            "this revision has no weights that may be loaded: pickles never are, since loading one can run any code",
            where=where,
            expected=f"{WEIGHTS}, or {WEIGHTS_INDEX} and the shards it names",
            advice="choose other revisions, or ask its authors for safetensors",
        )
    shards = _read_object(folder / WEIGHTS_INDEX, where).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) and all(map(_is_text, shards.values())) else set[str]()
    missing = sorted(name for name in names if not _is_shard(folder, name))
    if missing or not names:
        found = repr(missing[0][:200]) if missing else "no shard"
        raise InputError("the weights' index names a shard that is not here", where=f"{where}, {WEIGHTS_INDEX}", found=found)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_shard(folder: Path, name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors") and (folder / name).is_file()


def _read_object(path: Path, where: str) -> dict[str, Any]:
    """Return a JSON object of a release.

    Raises:
        InputError: When it is none, or too long to be read.
    """
    place = f"{where}, {path.name}"
    if (size := path.stat().st_size) > _MOST_JSON_BYTES:
        raise InputError(
            "this file is too long", where=place, expected=f"at most {_MOST_JSON_BYTES:,} bytes", found=f"{size:,}"
        )
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError("this is not a JSON document", where=place, found=error) from error
    if not isinstance(document, dict):
        raise InputError("this is not a JSON object", where=place, found=type(document).__name__)
    return document
