"""What the model was trained on."""

from treering.card.claims import Claims
from treering.card.markdown import escape, table
from treering.card.numbers import plural
from treering.card.records import CORPUS, ORDER, TOKENS, TRAINING, pointer
from treering.card.sections.introduction import title
from treering.card.sections.procedure import epochs_read
from treering.config.schema import NEOX_ORDER

_SHOWN_SOURCES = 8
_DROPPED = {
    "duplicate": ("exact duplicate", "exact duplicates"),
    "too_short": ("text that is too short", "texts that are too short"),
}


def data(claims: Claims) -> str:
    """Return what the corpus is, how it was made, what was dropped and held out, and its known biases.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    return "\n".join(
        [
            "## Training",
            "",
            "### Data",
            "",
            _amount(claims),
            "",
            claims.quote("data_description"),
            "",
            _sources(claims),
            "",
            _normalization(claims),
            _dropped(claims),
            _held_out(claims),
            _tokenization(claims),
            _sequences(claims),
            *_domains(claims),
            "",
            claims.quote("known_biases"),
        ]
    )


def _amount(claims: Claims) -> str:
    tokens = claims.amount(f"{TOKENS}#/train/tokens", "token")
    documents = claims.amount(f"{TOKENS}#/train/documents", "document")
    size = claims.cite("size", f"{TOKENS if _taken_over(claims) else CORPUS}#/train/bytes")
    ratio = claims.cite("ratio", f"{TOKENS}#/train/bytes", f"{TOKENS}#/train/tokens")
    corpus = f"a corpus of {tokens} in {documents} ({size} of text in UTF-8, {ratio} bytes per token)"
    read = claims.amount(f"{TRAINING}#/tokens", "token")
    return f"{title(claims)} was trained on {corpus}, of which training read {read}{epochs_read(claims, ': ')}."


def _sources(claims: Claims) -> str:
    number = len(claims.value(f"{CORPUS}#/sources"))
    rows = [_source(claims, f"{CORPUS}#/sources/{index}") for index in range(min(number, _SHOWN_SOURCES))]
    shown = table(("Source", "Documents read", "Bytes read", "Digest"), rows)
    more = f"\n\nThe first of {claims.cite('length', f'{CORPUS}#/sources')} sources." if number > len(rows) else ""
    return shown + more


def _source(claims: Claims, address: str) -> tuple[str, ...]:
    return (
        claims.cite("code", f"{address}/source"),
        claims.cite("count", f"{address}/documents_read"),
        claims.cite("size", f"{address}/bytes_read"),
        claims.cite("short digest", f"{address}/digest"),
    )


def _taken_over(claims: Claims) -> bool:
    """Say whether the corpus was tokens already."""
    return claims.value(f"{TOKENS}#/encoder") is None


def _mapped(claims: Claims) -> bool:
    """Say whether the order is GPT-NeoX's."""
    return claims.value(f"{ORDER}#/algorithm/name") == NEOX_ORDER


def _normalization(claims: Claims) -> str:
    if _taken_over(claims):
        return "The documents were tokens already, and were taken over as they were."
    if claims.value(f"{CORPUS}#/normalisation") == "none":
        return "Texts were taken as they are, without Unicode normalization."
    return f"Texts were brought into Unicode's normal form {claims.cite('text', f'{CORPUS}#/normalisation')}."


def _dropped(claims: Claims) -> str:
    if _taken_over(claims):
        return "Nothing was dropped, and duplicates were not looked for."
    parts = []
    for reason in claims.value(f"{CORPUS}#/dropped"):
        words = _DROPPED.get(reason, (escape(reason.replace("_", " ")),) * 2)
        parts.append(claims.amount(f"{CORPUS}#{pointer('dropped', reason)}", *words))
    unsought = " Duplicates were not looked for." if claims.value(f"{CORPUS}#/deduplication") == "none" else ""
    return f"Dropped: {', '.join(parts) if parts else 'nothing'}.{unsought}"


def _held_out(claims: Claims) -> str:
    documents = claims.amount(f"{TOKENS}#/validation/documents", "document")
    tokens = claims.amount(f"{TOKENS}#/validation/tokens", "token")
    verb = plural(claims.value(f"{TOKENS}#/validation/documents"), "was", "were")
    if _taken_over(claims):
        return f"{documents} ({tokens}) {verb} held out and never trained on{_where_held_out(claims)}."
    share = claims.cite("percent", f"{CORPUS}#/validation_fraction")
    return f"{documents} ({tokens}) {verb} held out, chosen by digest at a share of {share}, and never trained on."


def _where_held_out(claims: Claims) -> str:
    trained = {part["source"] for part in claims.value(f"{CORPUS}#/parts") if part["split"] == "train"}
    held_out = {part["source"] for part in claims.value(f"{CORPUS}#/parts") if part["split"] == "validation"}
    if not trained & held_out:
        return ": data sets of their own"
    return f": a share of {claims.cite('percent', f'{CORPUS}#/validation_fraction')} at the end of a data set" + (
        ", or data sets of their own" if held_out - trained else ""
    )


def _tokenization(claims: Claims) -> str:
    trained = claims.value(f"{TOKENS}#/tokenizer/kind") == "trained"
    origin = "trained on the training documents" if trained else "taken over from elsewhere"
    entries = claims.amount(f"{TOKENS}#/tokenizer/vocabulary_size", "entry", "entries")
    end = claims.cite("code", f"{TOKENS}#/tokenizer/end_of_document")
    if not _taken_over(claims):
        return f"The tokenizer, {origin}, has {entries}; each document is followed by the end-of-document token {end}."
    ended, documents = claims.cite("count", f"{TOKENS}#/train/ended"), claims.cite("count", f"{TOKENS}#/train/documents")
    compared, equal = (claims.cite("count", f"{TOKENS}#/train/{name}") for name in ("compared", "equal"))
    return (
        f"The tokenizer, {origin}, has {entries}; {ended} of {documents} training documents end with the end-of-document "
        f"token {end}. Of the first {compared}, {equal} encode to the very tokens that they were trained on as."
    )


def _sequences(claims: Claims) -> str:
    sequences = claims.amount(f"{ORDER}#/sequences", "sequence")
    length = claims.amount(f"{ORDER}#/sequence_length", "token")
    if _mapped(claims):
        return _mapped_sequences(claims, sequences, length)
    unused = claims.amount(f"{ORDER}#/unused_tokens", "token")
    verb = plural(claims.value(f"{ORDER}#/unused_tokens"), "fills", "fill")
    return (
        f"All tokens in a row were cut into {sequences} of {length}; {unused} at the end {verb} none and are never trained on. "
        "Each epoch has a pseudorandom order of its own."
    )


def _mapped_sequences(claims: Claims, sequences: str, length: str) -> str:
    maps = claims.value(f"{ORDER}#/maps")
    if len(maps) > 1:
        number = claims.cite("length", f"{ORDER}#/maps")
        whose, blended = "each data set", f" The samples of {number} data sets were blended by their weights."
    else:
        epochs = claims.amount(f"{ORDER}#/maps/0/epochs", "epoch")
        whose, blended = f"{epochs} in all" if claims.value(f"{ORDER}#/maps/0/epochs") > 1 else epochs, ""
    return (
        f"The order is GPT-NeoX's: the documents of {whose} were shuffled together, laid end to end, cut into {sequences} of "
        f"{length}, and these shuffled.{blended} The index maps are part of the release."
    )


def _domains(claims: Claims) -> list[str]:
    domains = f"{CORPUS}#/domains"
    return (
        ["", "Documents by domain, held-out ones included:", "", claims.cite("domains", domains)]
        if len(claims.value(domains)) > 1
        else []
    )
