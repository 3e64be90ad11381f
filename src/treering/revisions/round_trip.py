"""The tokenizer gate: does a user of the release get the ids that the model was trained on?"""

from collections.abc import Iterable
from pathlib import Path

from treering.config.schema import Recipe
from treering.errors import ReproductionError
from treering.revisions.loading import load_tokenizer
from treering.tokens.tokenizer import Tokenizer


def check_tokenizer(folder: Path, recipe: Recipe, trained_with: Tokenizer, texts: Iterable[str]) -> None:
    """Compare a revision's tokenizer, as `transformers` loads it, with the one that made the token file.

    Raises:
        ReproductionError: When an id differs, a text does not come back, or a special token has another id.
    """
    published = load_tokenizer(folder)
    settings = recipe.tokens.tokenizer
    special = {
        "eos_token_id": (published.eos_token_id, trained_with.end_of_document_id),
        "pad_token_id": (
            published.pad_token_id,
            trained_with.end_of_document_id if settings.padding is None else trained_with.padding_id,
        ),
    }
    for name, (found, expected) in special.items():
        if found != expected:
            raise ReproductionError(
                "a special token has another id", where=f"{folder.name}, {name}", expected=expected, found=found
            )
    for text in texts:
        expected_ids, _ = trained_with.encode([text])
        ids = published.encode(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
        if ids != expected_ids.tolist():
            raise ReproductionError(
                "the published tokenizer gives other ids than the training's",
                where=folder.name,
                expected=_excerpt(expected_ids.tolist()),
                found=_excerpt(ids),
            )
        if (decoded := published.decode(ids, clean_up_tokenization_spaces=False)) != text:
            raise ReproductionError("a text does not come back", where=folder.name, expected=text[:80], found=decoded[:80])


def _excerpt(ids: list[int]) -> str:
    return f"{len(ids)} ids, {ids[:12]} …"
