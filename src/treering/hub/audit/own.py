"""What a release by treering says of itself: its recipe, and what each revision was made from."""

import functools
import re
from typing import Any

from treering.checkpoints.schedule import planned_steps
from treering.config.digests import run_digest
from treering.config.reading import parse_recipe
from treering.config.schema import Recipe
from treering.errors import TreeringError
from treering.hub.audit.contents import MANIFESTS, RECIPE, REVISION, Contents
from treering.hub.listed import Branch, plain
from treering.provenance.manifests import FileEntry
from treering.training.schedule import learning_rate

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_RECIPE_LETTERS = 1 << 20
_MOST_UPDATES = 100_000_000
_MOST_PLANNED = 100_000
_MOST_IDLE_UPDATES = 1000


def recipe_of(contents: Contents) -> Recipe | None:
    """Return the recipe on `main`, or None where there is none that treering reads, or one too large to be true."""
    text = contents.text(contents.listing.main, RECIPE)
    return None if text is None or len(text) > _MOST_RECIPE_LETTERS else _parsed(text)


def published_main(contents: Contents) -> Branch | None:
    """Return `main` of a release by treering, told by its recipe or any of its manifests, or None where it is none.

    The manifest of checkpoints tells nothing: the repository of checkpoints has it by itself.
    """
    main, signs = contents.listing.main, {path for stage, path in MANIFESTS.items() if stage != "checkpoints"}
    if main is None or (recipe_of(contents) is None and main.files.keys().isdisjoint(signs)):
        return None
    return main


def manifest_of(contents: Contents, main: Branch, stage: str) -> tuple[FileEntry, ...] | None:
    """Return the files that a stage's manifest on `main` lists, or None where there is none that can be read."""
    document = contents.document(main, MANIFESTS[stage]) or {}
    if [document.get(name) for name in ("format", "version", "stage")] != ["treering/manifest", 1, stage]:
        return None
    files = document.get("files")
    if not isinstance(files, list) or not all(isinstance(entry, dict) and _is_entry(entry) for entry in files):
        return None
    return tuple(FileEntry(entry["path"], entry["size_bytes"], entry["digest"]) for entry in files)


def _is_entry(entry: dict[str, Any]) -> bool:
    path, size, digest = (entry.get(name) for name in ("path", "size_bytes", "digest"))
    return (
        isinstance(path, str)
        and plain(path)
        and type(size) is int
        and isinstance(digest, str)
        and bool(_DIGEST.fullmatch(digest))
    )


def declared_steps(contents: Contents) -> tuple[int, ...] | None:
    """Return the steps that the recipe on `main` says are kept, or None where there is no recipe."""
    recipe = recipe_of(contents)
    return None if recipe is None else planned_steps(recipe)


def revision_record(contents: Contents, branch: Branch) -> dict[str, Any] | None:
    """Return what a branch's own record says it was made from, or None where it has none."""
    record = contents.document(branch, REVISION)
    return record if record is not None and record.get("format") == "treering/revision" else None


def equal_as_told(contents: Contents, earlier: Branch, later: Branch) -> bool:
    """Return whether treering's records say why two branches have the same weights: rates of 0, or rounding when published."""
    recipe, records = recipe_of(contents), [revision_record(contents, branch) for branch in (earlier, later)]
    if recipe is None or any(record is None or record.get("run_digest") != run_digest(recipe) for record in records):
        return False
    trained, published = ([(record or {}).get(name) for record in records] for name in ("trained_digest", "weights_digest"))
    if published[0] != published[1]:
        return False
    if trained[0] != trained[1]:
        return True
    idle = range(earlier.step, later.step)
    return (
        0 < len(idle) <= _MOST_IDLE_UPDATES
        and later.step <= recipe.training.steps
        and not any(learning_rate(recipe.training, update) for update in idle)
    )


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> Recipe | None:
    try:
        recipe = parse_recipe(text, "recipe.yaml")
    except TreeringError:
        return None
    small = recipe.training.steps <= _MOST_UPDATES and recipe.training.steps // recipe.checkpoints.every <= _MOST_PLANNED
    return recipe if small else None
