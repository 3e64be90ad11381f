"""Which digest a recipe, a run and each stage have."""

from collections.abc import Mapping
from typing import Any

from treering.config.schema import NEOX_ORDER, Recipe
from treering.provenance.digests import digest_value

STAGES = ("corpus", "tokens", "order", "checkpoints", "training", "revisions", "evaluation", "card")
DATA = ("corpus", "tokens", "order")  # what can be made again from a recipe's sources
_SECTIONS = {
    "corpus": ("corpus",),
    "tokens": ("tokens",),
    "order": ("order",),
    "checkpoints": ("model", "training", "checkpoints"),
    "training": ("model", "training", "checkpoints"),
    "revisions": ("revisions",),
    "evaluation": ("evaluation",),
    # The card prints the name and comes with the whole recipe.
    "card": ("name", "corpus", "tokens", "order", "model", "training", "checkpoints", "revisions", "evaluation", "card"),
}
_RUN_SECTIONS = ("corpus", "tokens", "order", "model", "training", "checkpoints")
_STAGE_VERSIONS: dict[str, int] = dict.fromkeys(STAGES, 1)


def resolved(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as a JSON value with every field spelled out, in the order of the schema."""
    return recipe.model_dump(mode="json")


def recipe_digest(recipe: Recipe) -> str:
    """Return the digest of all that is published with a run: every section but `observe`, and the name."""
    sections = resolved(recipe)
    del sections["observe"]
    return digest_value(sections)


def run_digest(recipe: Recipe) -> str:
    """Return the digest of what a run is: all that can change a trained weight but the engine, and which weights are kept.

    A run may go on on another engine; its ledger says what computed each update. One that GPT-NeoX computed is another run.
    """
    sections = _without_engine(recipe)
    return digest_value({section: sections[section] for section in _RUN_SECTIONS})


def release_digest_of(contents: Mapping[str, str]) -> str:
    """Return the digest of a release, or of its first stages, from the content digest of each of its stages, in order."""
    return digest_value([[stage, digest] for stage, digest in contents.items()])


def stage_digest(recipe: Recipe, stage: str, reads: Mapping[str, str]) -> str:
    """Return the digest of a stage's inputs: its sections, its format version and what it reads.

    Args:
        stage: One of `STAGES`.
        reads: The content digests of the stages it reads, by name.
    """
    sections = resolved(recipe) if stage == "card" else _without_engine(recipe)
    own = {section: sections[section] for section in _SECTIONS[stage]}
    if stage == "evaluation":
        own["evaluation"] = {
            field: value for field, value in own["evaluation"].items() if field != "data"
        }  # by digest, in reads
    if stage == "order" and recipe.order.name == NEOX_ORDER:
        own["training"] = {field: sections["training"][field] for field in ("steps", "global_batch_size")}
    return digest_value({"stage": stage, "version": _STAGE_VERSIONS[stage], "sections": own, "reads": dict(reads)})


def _without_engine(recipe: Recipe) -> dict[str, Any]:
    sections = resolved(recipe)
    engine = sections["training"].pop("engine")
    if recipe.training.imported:
        sections["training"]["engine"] = {"name": engine["name"]}  # not where its checkpoints lay
    return sections
