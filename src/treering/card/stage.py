"""The stage: from records to a card that follows from them."""

from pathlib import Path

from treering.card.agreement import refuse_contradictions, refuse_other_scores
from treering.card.checking import CLAIMS
from treering.card.claims import Claims, Settled
from treering.card.front_matter import front_matter
from treering.card.records import Records
from treering.card.release import STAGES_BELOW
from treering.card.required import require_card
from treering.card.sections import body
from treering.card.slots import no_open_slots
from treering.config.digests import resolved
from treering.config.run_directory import RECIPE, RunDirectory
from treering.config.schema import Recipe
from treering.config.yaml_text import write_yaml
from treering.evaluation.figure_data import FIGURES
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_bytes
from treering.provenance.files import whole_directory, write_atomically
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress


def write_card(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write the card, its claims, its pictures and the recipe, and return the stage's manifest; a whole one is left as it is.

    Raises:
        RecipeError: When the recipe's card section does not say all that a card needs.
        InputError: When an earlier stage has not been done.
        IntegrityError: When earlier stages are not what their manifests say.
        ClaimError: When the records contradict each other or lack a number, or a slot was left open.
        StorageError: When the disk is full or the run's folder cannot be written.
    """
    require_card(run.recipe)
    reads = run.reads(*STAGES_BELOW)
    if manifest := run.find("card", reads, replaceable=True):
        return manifest
    with progress.task("card"), whole_directory(run.stage("card")) as folder:
        card = render(Records(run.path))
        readme = card.text.encode()
        write_atomically(folder / "README.md", readme)
        claims = {"card_digest": digest_bytes(readme), "claims": [claim.as_json() for claim in card.claims]}
        write_record(folder / "claims.json", *CLAIMS, claims)
        write_atomically(folder / RECIPE, published_recipe(run.recipe).encode())
        _copy_pictures(run.stage("evaluation") / FIGURES, folder / FIGURES)
        run.seal(folder, "card", reads)
    return run.verified("card")


def render(records: Records) -> Settled:
    """Return the card that records make, with its claims.

    Raises:
        ClaimError: When the records contradict each other or lack a number, or a slot was left open.
        FormatError: When a record is missing or cannot be read.
    """
    refuse_contradictions(records)
    refuse_other_scores(records)
    claims = Claims(records)
    card = claims.settle(f"{front_matter(claims)}\n{body(claims)}")
    no_open_slots(card.text, card.template, [claim.value for claim in card.claims])
    return card


def published_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as it is published: without `observe`, which changes nothing and is in no digest."""
    sections = resolved(recipe)
    del sections["observe"]
    return write_yaml(sections)


def _copy_pictures(source: Path, target: Path) -> None:
    """Copy the evaluation's pictures, byte for byte."""
    for path in sorted(source.glob("*.png")):
        write_atomically(target / path.name, path.read_bytes())
