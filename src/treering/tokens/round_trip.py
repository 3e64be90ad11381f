"""The round trip: every text comes back from its tokens, in every script and every byte."""

from collections.abc import Sequence

from treering.errors import IntegrityError
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import Tokenizer

_SHOWN_CHARACTERS = 60


def check_round_trip(tokenizer: Tokenizer) -> None:
    """Encode and decode texts in many scripts, each normalised as the tokenizer does it, and each byte of UTF-8.

    Decoding is done twice, by the library that users will have and by the table behind `byte_lengths`.

    Raises:
        IntegrityError: When a text does not come back, a special token's string becomes that token, or no token stands
            for some byte alone.
    """
    if missing := tokenizer.missing_bytes():
        raise IntegrityError(
            "this tokenizer cannot write every text",
            where=tokenizer.where,
            expected="a token for each of the 243 bytes of UTF-8",
            found="none for " + ", ".join(f"0x{byte:02x}" for byte in missing),
        )
    for name, identifier in _specials(tokenizer).items():
        _compare(tokenizer, f"the special token {name!r}", name, tokenizer.decode([identifier]))
    samples = [*SAMPLES.items(), *_own_samples(tokenizer)]
    ids, offsets = tokenizer.encode([text for _, text in samples])
    for (name, text), start, stop in zip(samples, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        normalised, mine = tokenizer.normalise(text), ids[start:stop]
        _compare(tokenizer, name, normalised, tokenizer.decode(mine))
        _compare(tokenizer, name, normalised, tokenizer.decode_bytes(mine).decode(errors="replace"))


def first_difference(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the first place at which two sequences differ; the shorter one's length where it only ends."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _own_samples(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [(f"the text {text!r}", f"a{text}b") for text in (*_specials(tokenizer), *tokenizer.added_texts)]


def _specials(tokenizer: Tokenizer) -> dict[str, int]:
    pairs = ((tokenizer.end_of_document, tokenizer.end_of_document_id), (tokenizer.padding, tokenizer.padding_id))
    return {name: identifier for name, identifier in pairs if name is not None and identifier is not None}


def _compare(tokenizer: Tokenizer, name: str, text: str, found: str) -> None:
    if found != text:
        place = first_difference(text, found)
        raise IntegrityError(
            f"this tokenizer does not give a text back: {name}",
            where=tokenizer.where,
            expected=f"{text[place : place + _SHOWN_CHARACTERS]!a} from character {place} on",
            found=ascii(found[place : place + _SHOWN_CHARACTERS]),
        )
