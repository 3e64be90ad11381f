"""Which files of a branch are its weights, and whether all of them are there."""

import re

from treering.hub.listing import Branch, FileFact, plain

SAFETENSORS, PICKLES = "safetensors", "bin"
FORMATS = (SAFETENSORS, PICKLES)
_WHOLE = {SAFETENSORS: "model.safetensors", PICKLES: "pytorch_model.bin"}
_SHARDS = {
    SAFETENSORS: re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors", re.ASCII),
    PICKLES: re.compile(r"pytorch_model-(\d{5})-of-(\d{5})\.bin", re.ASCII),
}


def weight_files(branch: Branch, form: str) -> tuple[FileFact, ...]:
    """Return the files of a branch's weights in one of the formats, in the order of their names; none where it has none."""
    if (whole := branch.files.get(_WHOLE[form])) is not None:
        return (whole,)
    return tuple(fact for path, fact in sorted(branch.files.items()) if _SHARDS[form].fullmatch(path) and plain(path))


def missing_shards(branch: Branch, form: str, indexed: set[str]) -> list[str]:
    """Return the shards that a branch's other shards, or their index, say there are, and that are not there.

    Args:
        indexed: The files that the index names, in any format.
    """
    files = {fact.path for fact in weight_files(branch, form)}
    if _WHOLE[form] in files:
        return []
    suffix = _WHOLE[form].rpartition(".")[2]
    expected = {name for name in indexed if name.endswith(f".{suffix}")}
    for path in files:
        match = _SHARDS[form].fullmatch(path)
        total = int(match[2]) if match else 0
        stem = path.partition("-")[0]
        expected |= {f"{stem}-{number:05}-of-{total:05}.{suffix}" for number in range(1, min(total, 1000) + 1)}
    return sorted(expected - branch.files.keys()) if files or expected else []
