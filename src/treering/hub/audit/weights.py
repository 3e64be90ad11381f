"""Which files of a branch are its weights, and whether all of them are there."""

import re

from treering.hub.listed import Branch, FileFact, Listing, plain

SAFETENSORS, PICKLES = "safetensors", "bin"
FORMATS = (SAFETENSORS, PICKLES)
# The second of safetensors is what treering's own checkpoints have, beside `state.json` and the optimizer's moments.
_WHOLE = {SAFETENSORS: ("model.safetensors", "weights.safetensors"), PICKLES: ("pytorch_model.bin",)}
_SUFFIXES = {SAFETENSORS: ".safetensors", PICKLES: ".bin"}
_OF_A_CHECKPOINT, _OF_A_MODEL = {"weights.safetensors", "state.json"}, "config.json"
_SHARDS = {
    SAFETENSORS: re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors", re.ASCII),
    PICKLES: re.compile(r"pytorch_model-(\d{5})-of-(\d{5})\.bin", re.ASCII),
}


def weight_files(branch: Branch, form: str) -> tuple[FileFact, ...]:
    """Return the files of a branch's weights in one of the formats, in the order of their names; none where it has none."""
    for path in _WHOLE[form]:
        if path in branch.files:
            return (branch.files[path],)
    return tuple(fact for path, fact in sorted(branch.files.items()) if _SHARDS[form].fullmatch(path) and plain(path))


def missing_shards(branch: Branch, form: str, indexed: set[str]) -> list[str]:
    """Return the shards that a branch's other shards, or their index, say there are, and that are not there.

    Args:
        indexed: The files that the index names, in any format.
    """
    files = {fact.path for fact in weight_files(branch, form)}
    if not files.isdisjoint(_WHOLE[form]):
        return []
    suffix = _SUFFIXES[form]
    expected = {name for name in indexed if name.endswith(suffix)}
    for path in files:
        match = _SHARDS[form].fullmatch(path)
        total = int(match[2]) if match else 0
        stem = path.partition("-")[0]
        expected |= {f"{stem}-{number:05}-of-{total:05}{suffix}" for number in range(1, min(total, 1000) + 1)}
    return sorted(expected - branch.files.keys()) if files or expected else []


def holds_checkpoints(listing: Listing) -> bool:
    """Return whether a release is of checkpoints that a training goes on from, as treering publishes them, not of models."""
    of_models = any(_OF_A_MODEL in branch.files for branch in listing.everything)
    return not of_models and any(branch.files.keys() >= _OF_A_CHECKPOINT for branch in listing.branches)
