"""The bytes of text that each token of a byte-level vocabulary stands for."""

from collections.abc import Mapping

UTF8_BYTES = (*range(0xC0), *range(0xC2, 0xF5))  # the other 13 stand in no valid text; GPT-NeoX-20B has no token for them
_ALPHABET_BYTES = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OUTSIDE = 0x100  # encodes to no single byte, so such a token is seen to be plain text


def byte_of_character() -> dict[str, int]:
    """Return the byte that each of the 256 characters of byte-level BPE's alphabet stands for.

    Source:
        Radford et al. 2019 (GPT-2), `bytes_to_unicode` of its encoder: visible Latin-1 characters stand for themselves, the
        other bytes, ascending, for the characters from U+0100 on.
    """
    visible = {chr(byte): byte for byte in _ALPHABET_BYTES}
    others = (byte for byte in range(256) if byte not in _ALPHABET_BYTES)
    return visible | {chr(0x100 + place): byte for place, byte in enumerate(others)}


def token_bytes(vocabulary: Mapping[str, int], added: Mapping[int, str]) -> list[bytes]:
    """Return the bytes of text for which each id stands, empty where it stands for none.

    Args:
        vocabulary: The ids of a byte-level BPE model's tokens.
        added: The text for which each added token stands, empty for special ones.
    """
    table = dict.fromkeys(range(0x100), _OUTSIDE) | {ord(character): byte for character, byte in byte_of_character().items()}
    pieces = [b""] * (1 + max([*vocabulary.values(), *added]))
    for token, identifier in vocabulary.items():
        pieces[identifier] = _bytes_of(token, table)
    for identifier, text in added.items():
        pieces[identifier] = text.encode()
    return pieces


def _bytes_of(token: str, table: dict[int, int]) -> bytes:
    try:
        return token.translate(table).encode("latin-1")
    except UnicodeEncodeError:
        return token.encode()  # as the byte-level decoder does with a token that is not all in its alphabet
