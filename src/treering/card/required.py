"""What only a person can put on a card, and whether the recipe says all of it."""

import difflib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from treering.card.licenses import LICENSES
from treering.card.slots import open_slots
from treering.config.schema import CardSection, Recipe
from treering.errors import RecipeError

NO_PAPER = "none"
_WANTED = {
    "organisation": "the Hub organisation or user that publishes the model, such as `EleutherAI`",
    "suite": "the name of the project or suite that this release is part of",
    "paper": "the http(s) link of the paper behind it, or `none`",
    "distinction": "one or two sentences: what makes this release distinctive",
    "motivation": "a paragraph: what question the model helps to answer, what gap it fills",
    "data_description": "full sentences: what the corpus consists of, where it comes from, its known characteristics",
    "known_biases": "full sentences: known biases or issues of the corpus, and their expected effect on the model",
    "research_uses": "a list of 2 or 3 specific research uses that the model is well suited for",
    "license": "the Hub's identifier of the license of the weights, such as `apache-2.0`",
    "language": "a list of ISO 639 codes of the corpus's languages, such as `[en]`",
    "citation": "a BibTeX entry, as a block (`citation: |`)",
    "about": "a sentence or two on who publishes the model, and where to find them",
}
_PROSE = (
    "suite", "distinction", "motivation", "architecture_notes", "data_description", "known_biases", "training_notes",
    "evaluation_commentary", "research_uses", "reproduction_notes", "license_name", "tags", "about", "related_resources",
)  # fmt: skip
_LINKS = ("paper", "suite_url", "license_link")
_URL = re.compile(r"https?://[^\s<>\"'\\^`{|}]+")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_LANGUAGES_WITHOUT_CODE = ("code", "multilingual")
_DATASET = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_LONGEST_REPOSITORY = 96


def require_card(recipe: Recipe) -> None:
    """Refuse a recipe whose `card:` section does not say all that a card needs.

    Raises:
        RecipeError: When anything is missing or cannot stand on a card; lists all of it.
    """
    problems = [f"card.{field}: {sentence}" for field, sentence in _problems(recipe)]
    if problems:
        raise RecipeError(
            f"the recipe `{recipe.name}`",
            problems,
            advice="write these entries into the recipe's `card:` section; everything else on the card comes from records",
        )


def repository(recipe: Recipe) -> str:
    """Return the name under which the Hub has the model: organisation and model."""
    return f"{recipe.card.organisation}/{model_name(recipe)}"


def model_name(recipe: Recipe) -> str:
    """Return the model's name on the card: the card section's, or else the recipe's."""
    return recipe.card.model_name or recipe.name


def _problems(recipe: Recipe) -> Iterator[tuple[str, str]]:
    card = recipe.card
    for field, wanted in _WANTED.items():
        if _is_blank(getattr(card, field)):
            yield field, f"missing; write {wanted}"
    yield from _in_prose(card)
    yield from _in_links(card)
    yield from _in_metadata(card)
    if card.organisation:
        yield from _in_repository(repository(recipe))


def _is_blank(value: object) -> bool:
    return not value or (isinstance(value, str) and not value.strip())


def _in_prose(card: CardSection) -> Iterator[tuple[str, str]]:
    for field in _PROSE:
        value = getattr(card, field)
        for text in (value,) if isinstance(value, str) else value or ():
            if not text.strip():
                yield field, "an entry is empty"
            for slot in open_slots(text):
                yield field, f"`{slot}` is a slot left open; a card has no braces and no reminders"
    if card.research_uses and len(card.research_uses) not in (2, 3):
        yield "research_uses", f"expected 2 or 3 entries, found {len(card.research_uses)}"
    if card.citation and card.citation.strip() and not is_bibtex(card.citation):
        yield "citation", "expected a BibTeX entry, `@misc{key, …}`, its braces balanced"


def _in_links(card: CardSection) -> Iterator[tuple[str, str]]:
    for field in _LINKS:
        url = getattr(card, field)
        if url and url.strip() and not is_link(url) and (field, url) != ("paper", NO_PAPER):
            yield field, f"expected a link that begins with http:// or https://, found `{url}`"


def _in_metadata(card: CardSection) -> Iterator[tuple[str, str]]:
    if card.license and card.license not in LICENSES:
        near = difflib.get_close_matches(card.license.lower(), LICENSES, n=1)
        hint = (
            f"; did you mean `{near[0]}`?"
            if near
            else "; one that it does not know is `other` with license_name and license_link"
        )
        yield "license", f"the Hub does not know `{card.license}`{hint}"
    if card.license == "other":
        for field in ("license_name", "license_link"):
            if _is_blank(getattr(card, field)):
                yield field, "missing; `license: other` needs the license's name and its link"
    for code in card.language or ():
        if not _LANGUAGE.fullmatch(code) and code not in _LANGUAGES_WITHOUT_CODE:
            yield "language", f"expected an ISO 639 code of two or three small letters, found `{code}`"
    for dataset in card.datasets:
        if not _DATASET.fullmatch(dataset):
            yield "datasets", f"expected a data set's name on the Hub, `organisation/name`, found `{dataset}`"


def _in_repository(name: str) -> Iterator[tuple[str, str]]:
    parts = name.split("/")
    if len(name) > _LONGEST_REPOSITORY:
        yield "model_name", f"`{name}` has {len(name)} characters; the Hub allows {_LONGEST_REPOSITORY}"
    if any("--" in part or ".." in part or part.endswith(("-", ".", ".git")) for part in parts):
        yield "model_name", f"the Hub refuses `{name}`: no `--`, no `..`, nothing that ends in `-`, `.` or `.git`"


def is_link(url: str) -> bool:
    """Return whether a text is an http(s) link and nothing else."""
    return bool(_URL.fullmatch(url)) and bool(urlsplit(url).hostname)


def is_bibtex(citation: str) -> bool:
    """Return whether a text looks like BibTeX entries: one at least, and every brace closed."""
    depth = 0
    for character in citation:
        depth += (character == "{") - (character == "}")
        if depth < 0:
            return False
    return depth == 0 and re.match(r"\s*@\w+\s*\{\s*[^\s,{}]+\s*,", citation) is not None
