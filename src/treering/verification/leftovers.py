"""Whether a run holds what is listed and nothing else, each record written as treering writes it."""

import json
from pathlib import Path

from treering.card.stage import published_recipe
from treering.config.digests import STAGES, resolved
from treering.config.fetched import FETCHED
from treering.config.run_directory import RECIPE, RunDirectory
from treering.config.yaml_text import write_yaml
from treering.errors import FormatError, IntegrityError, ManifestError
from treering.evaluation.figure_data import FIGURES
from treering.provenance.canonical import record_bytes
from treering.provenance.manifests import MANIFEST, list_files, read_manifest

# Of the run's folder itself. What begins with a dot is at work, and in no release.
_KNOWN = frozenset({RECIPE, FETCHED, "observe", "verification", *STAGES})
# Others' formats, written as they are read elsewhere.
_NO_RECORDS = frozenset(
    {"config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors.index.json"}
)
_DRAWN = ("card", "evaluation")
_MADE_WHOLE = ("corpus", "tokens", "order", "card")


def check_leftovers(run: RunDirectory) -> None:
    """Look whether the run's folder holds a recipe as treering writes it, stages, and nothing unknown.

    Raises:
        ManifestError: When there is a file or folder that no manifest could list, or a stage without its manifest.
        IntegrityError: When the recipe is not written as treering writes it.
    """
    if odd := sorted(path.name for path in run.path.iterdir() if path.name not in _KNOWN and not path.name.startswith(".")):
        raise ManifestError("this is in no manifest", where=run.path, found=", ".join(odd))
    read = {stage for name in STAGES if _sealed(run, name) for stage in read_manifest(run.stage(name)).reads}
    for stage in STAGES:
        if run.stage(stage).exists() and not _sealed(run, stage) and (stage in read or stage in _MADE_WHOLE):
            raise ManifestError("this stage lacks its manifest", where=run.stage(stage), expected=MANIFEST)
    _refuse_other_text(run.path / RECIPE, write_yaml(resolved(run.recipe)))


def check_card_recipe(run: RunDirectory) -> None:
    """Look whether the recipe that the card comes with is the run's.

    Raises:
        IntegrityError: When it is another.
    """
    _refuse_other_text(run.stage("card") / RECIPE, published_recipe(run.recipe))


def check_card_pictures(run: RunDirectory) -> None:
    """Look whether the pictures beside the card are the evaluation's.

    Raises:
        IntegrityError: When one is another.
        ManifestError: When one is missing, or one too many.
    """
    card, evaluation = ({path.name: path.read_bytes() for path in (run.stage(stage) / FIGURES).glob("*")} for stage in _DRAWN)
    if card.keys() != evaluation.keys():
        odd = sorted(card.keys() ^ evaluation.keys())
        raise ManifestError(
            "the card's pictures are not the evaluation's", where=run.stage("card") / FIGURES, found=", ".join(odd)
        )
    if other := [name for name in sorted(card) if card[name] != evaluation[name]]:
        raise IntegrityError("this picture is not the evaluation's", where=run.stage("card") / FIGURES / other[0])


def check_form(folder: Path) -> None:
    """Look whether each record of a stage is written as treering writes it, and no folder is empty.

    Raises:
        FormatError: When a record is not.
        ManifestError: When a folder holds nothing that a manifest lists.
    """
    listed = [MANIFEST, *list_files(folder)]
    for name in listed:
        if name.endswith(".json") and Path(name).name not in _NO_RECORDS:
            _refuse_other_form(folder / name)
    parents = {parent for name in listed for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.relative_to(folder) not in parents and not path.name.startswith("."):
            raise ManifestError("this folder is in no manifest", where=path)


def _sealed(run: RunDirectory, stage: str) -> bool:
    return (run.stage(stage) / MANIFEST).exists()


def _refuse_other_form(path: Path) -> None:
    content = path.read_bytes()
    try:
        body = json.loads(content)
        name, version = str(body.pop("format")).removeprefix("treering/"), body.pop("version")
        written = record_bytes(name, version, body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("this is no record", where=path, found=repr(error)) from error
    if written != content:
        raise FormatError("this record is not written as treering writes it", where=path)


def _refuse_other_text(path: Path, expected: str) -> None:
    content = path.read_bytes()
    found = content.decode(errors="backslashreplace").splitlines()
    for number, (mine, theirs) in enumerate(zip(expected.splitlines(), found, strict=False), 1):
        if mine != theirs:
            raise IntegrityError(
                "this recipe is not the run's as treering writes it",
                where=f"{path}, line {number}",
                expected=mine,
                found=theirs,
            )
    if content != expected.encode():
        raise IntegrityError("this recipe is not the run's as treering writes it", where=path)
