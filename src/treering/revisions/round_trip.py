"""The tokenizer gate: does a user of the release get the ids that the model was trained on?"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from treering.config.schema import Recipe
from treering.errors import ReproductionError
from treering.revisions.loading import load_tokenizer
from treering.tokens.tokenizer import Tokenizer


class Sample(NamedTuple):
    """A held-out document's text, as the tokenizer normalises it, and its ids in the token file, without EOD."""

    text: str
    ids: list[int]


def check_tokenizer(folder: Path, recipe: Recipe, trained_with: Tokenizer, samples: Iterable[Sample]) -> None:
    """Compare a revision's tokenizer, as `transformers` loads it, with the token file.

    Raises:
        ReproductionError: When an id differs, a text does not come back, or a special token has another id.
    """
    published = load_tokenizer(folder)
    end, padding = trained_with.end_of_document_id, trained_with.padding_id
    special = {
        "eos_token_id": (published.eos_token_id, end),
        "pad_token_id": (published.pad_token_id, end if recipe.tokens.tokenizer.padding is None else padding),
    }
    for name, (found, expected) in special.items():
        if found != expected:
            raise ReproductionError("a special token has another id", where=name, expected=expected, found=found)
    for text, expected_ids in samples:
        ids = published.encode(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        if ids != expected_ids:
            raise ReproductionError(
                "the published tokenizer gives other ids than the token file has",
                where=f"the held-out document that begins {text[:40]!r}",
                expected=_excerpt(expected_ids),
                found=_excerpt(ids),
            )
        if (decoded := published.decode(ids, clean_up_tokenization_spaces=False)) != text:
            raise ReproductionError("a text does not come back", expected=text[:80], found=decoded[:80])


def _excerpt(ids: list[int]) -> str:
    return f"{len(ids)} ids, {ids[:12]} …"
