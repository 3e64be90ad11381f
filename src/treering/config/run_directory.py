"""A run's directory: where each stage's files lie, and the one recipe it belongs to."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from treering.config.differences import differences
from treering.config.digests import DATA, resolved, run_digest, stage_digest
from treering.config.fetched import fetch_advice, read_left_out
from treering.config.reading import read_recipe
from treering.config.schema import Recipe
from treering.config.yaml_text import write_yaml
from treering.errors import InputError, IntegrityError, NotFetchedError
from treering.provenance.files import held, write_atomically
from treering.provenance.manifests import (
    MANIFEST,
    Manifest,
    find_stage,
    read_manifest,
    refuse_other_inputs,
    verify_manifest,
    write_manifest,
)

RECIPE = "recipe.yaml"
_MODEL = "config.json"
_SHOWN_DIFFERENCES = 12


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk: its folder and its resolved recipe."""

    path: Path
    recipe: Recipe

    def stage(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.path / name

    @property
    def observe(self) -> Path:
        """The folder of what was watched (times, memory, machine load): in no digest, different each time."""
        return self.path / "observe"

    def reads(self, *stages: str) -> dict[str, str]:
        """Verify the stages that another one reads and return their content digests.

        Raises:
            InputError: When a stage has not been done.
            ManifestError: When its files are not what its manifest says.
        """
        return {stage: self.verified(stage).digest for stage in stages}

    def verified(self, stage: str) -> Manifest:
        """Return the manifest of a finished stage, after comparing every file with it, and it with the recipe.

        Raises:
            InputError: When the stage has not been done.
            ManifestError: When its files are not what its manifest says.
            IntegrityError: When it was made from another section of the recipe, or its `reads` are not what it was made from.
            NotFetchedError: When all that is there holds, and files were left out when the run was fetched.
        """
        self._refuse_unsealed(stage)
        manifest = verify_manifest(self.stage(stage), self.left_out(stage))
        refuse_other_inputs(self.stage(stage), manifest, stage_digest(self.recipe, stage, manifest.reads))
        self.refuse_left_out(stage)
        return manifest

    def left_out(self, stage: str) -> frozenset[str]:
        """Return the files of a stage that were left out when the run was fetched, and are not here yet.

        Raises:
            FormatError: When the record of what was fetched cannot be read.
        """
        listed = read_left_out(self.path).get(stage, ())
        return frozenset(path for path in listed if not (self.stage(stage) / path).exists())

    def refuse_left_out(self, *stages: str) -> None:
        """Do nothing where no file of these stages was left out when the run was fetched.

        Raises:
            NotFetchedError: When some were.
        """
        for stage in stages:
            if left_out := self.left_out(stage):
                raise NotFetchedError(
                    "this takes files that were left out when the run was fetched",
                    where=self.path,
                    found=f"{len(left_out)} file{'s' if len(left_out) != 1 else ''} of {stage} not here",
                    advice=fetch_advice(self.path, stage),
                )

    def refuse_undone(self, *stages: str) -> None:
        """Do nothing where stages have been done and are here; whether their files still hold is not looked at.

        Raises:
            InputError: When one has not been done.
            NotFetchedError: When files of one were left out when the run was fetched.
        """
        self._refuse_unsealed(*stages)
        self.refuse_left_out(*stages)

    def _refuse_unsealed(self, *stages: str) -> None:
        for stage in stages:
            if not (self.stage(stage) / MANIFEST).exists():
                raise InputError(
                    f"the stage `{stage}` has not been done",
                    where=self.path,
                    advice=f"treering run {shlex.quote(str(self.path / RECIPE))} --runs {shlex.quote(str(self.path.parent))}",
                )

    def find(self, stage: str, reads: dict[str, str], *, replaceable: bool = False) -> Manifest | None:
        """Return the verified manifest of a stage made from these inputs, or None where it is to be done.

        Raises:
            ManifestError: When files differ from the manifest.
            IntegrityError: When the stage was made from other inputs and may not be replaced.
            NotFetchedError: When files were left out when the run was fetched that its recipe's sources do not give.
        """
        if self.left_out(stage):
            if stage in DATA:
                return None
            self.refuse_left_out(stage)
        return find_stage(self.stage(stage), stage_digest(self.recipe, stage, reads), replaceable=replaceable)

    def seal(self, directory: Path, stage: str, reads: dict[str, str]) -> Manifest:
        """Write the manifest of a stage's finished folder, wherever that folder stands for now.

        Raises:
            IntegrityError: When the run was fetched without this stage's files, and what was made is not what was published.
            StorageError: When it cannot be written.
        """
        manifest = write_manifest(directory, stage, stage_digest(self.recipe, stage, reads), reads)
        if self.left_out(stage) and (published := read_manifest(self.stage(stage)).digest) != manifest.digest:
            raise IntegrityError(
                "what was made is not what was published",
                where=self.stage(stage),
                expected=published,
                found=manifest.digest,
                advice="the sources are not those that this run was made from, or the software is another",
            )
        return manifest


def holds_run(folder: Path) -> bool:
    """Return whether a folder is a run's; a download of a release's `main` has the recipe too, beside the model's files."""
    return (folder / RECIPE).is_file() and not (folder / _MODEL).exists()


@contextmanager
def hold_run(target: Path, runs: Path, *, shared: bool = False) -> Iterator[RunDirectory]:
    """Open a run for this process alone until the block ends, or for it and others that share it, as `open_run` does.

    Raises:
        InputError: When another process is at work on it, or as for `open_run`.
        RecipeError: When the recipe is wrong.
        StorageError: When the run's folder cannot be written.
    """
    path = target if target.is_dir() else runs / read_recipe(target).name
    if target.is_dir() and not holds_run(target):
        raise _no_run(target)
    with held(path, shared=shared):
        yield open_run(target, runs)


def find_run(target: Path, runs: Path) -> RunDirectory:
    """Open a run that has been begun, a recipe's or a folder's, changing nothing.

    Raises:
        InputError: When it has not been begun, or was begun with another recipe.
        RecipeError: When the recipe is wrong.
    """
    if target.is_dir():
        return open_run(target, runs)
    recipe = read_recipe(target)
    run = RunDirectory(runs / recipe.name, recipe)
    if not (run.path / RECIPE).exists():
        raise InputError("this recipe has not been run", where=run.path, advice=f"treering run {shlex.quote(str(target))}")
    _refuse_another_recipe(run, target)
    return run


def open_run(target: Path, runs: Path = Path("runs")) -> RunDirectory:
    """Open the run of a recipe, or of a run's folder; a recipe's run is begun where there is none yet.

    Args:
        target: A recipe file, or a run's folder.
        runs: The folder in which recipes' runs lie, each under the recipe's name.

    Raises:
        InputError: When there is no such file, or the run belongs to another recipe.
        RecipeError: When the recipe is wrong.
        StorageError: When the run's folder cannot be written.
    """
    if target.is_dir():
        if not holds_run(target):
            raise _no_run(target)
        return RunDirectory(target, read_recipe(target / RECIPE))
    recipe = read_recipe(target)
    run = RunDirectory(runs / recipe.name, recipe)
    if (run.path / RECIPE).exists():
        _refuse_another_recipe(run, target)
    content = write_yaml(resolved(recipe)).encode()
    if not (run.path / RECIPE).exists() or (run.path / RECIPE).read_bytes() != content:
        write_atomically(run.path / RECIPE, content)
    return run


def _no_run(folder: Path) -> InputError:
    if (folder / RECIPE).is_file():
        advice = "make it a run: treering fetch ORG/NAME"
        return InputError("this is a download of a release's `main`, and not a run", where=folder, advice=advice)
    return InputError(f"this folder holds no {RECIPE}, so it is not a run's", where=folder)


def _refuse_another_recipe(run: RunDirectory, target: Path) -> None:
    earlier = read_recipe(run.path / RECIPE)
    if run_digest(earlier) == run_digest(run.recipe):
        return
    found = differences(earlier, run.recipe)
    shown = "\n            ".join(found[:_SHOWN_DIFFERENCES])
    raise InputError(
        "this run was begun with another recipe",
        where=run.path,
        expected=f"the recipe of the run, {run.path / RECIPE}",
        found=f"{target}, which differs in (run ≠ recipe)\n            {shown}",
        advice="give the recipe another name, or another --runs folder: one recipe is one run",
    )
