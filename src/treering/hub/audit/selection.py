"""Which files of a release are read whole, how long each may be, and how many of them are kept."""

from collections.abc import Iterable

from treering.hub.audit.contents import CARD, IMPORTED, INDICES, MANIFESTS, RECIPE, REVISION, SETTINGS, TOKENIZER, Place
from treering.hub.listed import Branch, FileFact, Listing, plain

_OF_EACH = (*SETTINGS, TOKENIZER, *INDICES, REVISION)
_OF_MAIN = (CARD, RECIPE, *MANIFESTS.values())
# What is longer is not looked at: files in use are shorter than two thirds of these.
_MOST_BYTES = {TOKENIZER: 64_000_000, **dict.fromkeys((*INDICES, *MANIFESTS.values()), 32_000_000)}
_MOST_SETTINGS_BYTES = 4_000_000
_MOST_RECORD_BYTES = 16_000_000  # that git keeps
MOST_KEPT_BYTES = 512_000_000  # of all files together


def documents_of(listing: Listing) -> list[Place]:
    """Return the files that are looked at whole: settings, tokenizers and records, each content once."""
    return distinct((branch, fact) for branch in listing.everything for fact in _documents(branch, listing.main))


def records_of(listing: Listing, documents: Iterable[Place]) -> list[Place]:
    """Return the other files of `main` that treering's manifests list by a digest which git's name for them does not tell."""
    main, known = listing.main, {fact.digest for _, fact in documents}
    if main is None or main.files.keys().isdisjoint(MANIFESTS.values()):
        return []
    kept_by_git = (fact for fact in main.files.values() if fact.digest.startswith("git:") and fact.digest not in known)
    return distinct((main, fact) for fact in kept_by_git if fact.size_bytes <= _MOST_RECORD_BYTES)


def within_budget(places: Iterable[Place]) -> tuple[list[Place], list[Place]]:
    """Return the files that can be kept all together, and those that are too many: of the longest the later ones."""
    found, left_out, kept_bytes = list[Place](), list[Place](), 0
    for place in sorted(places, key=lambda place: place[1].size_bytes):
        kept_bytes += 0 if is_too_long(place[1]) else place[1].size_bytes
        (found if kept_bytes <= MOST_KEPT_BYTES else left_out).append(place)
    return found, left_out


def is_too_long(fact: FileFact) -> bool:
    """Return whether a file is longer than any of its name in use."""
    return fact.size_bytes > _MOST_BYTES.get(fact.path, _MOST_SETTINGS_BYTES)


def distinct(places: Iterable[Place]) -> list[Place]:
    """Return each content once, at the first place that has it; files whose names lead elsewhere are left out."""
    return list({fact.digest: (branch, fact) for branch, fact in reversed(list(places)) if plain(fact.path)}.values())[::-1]


def _documents(branch: Branch, main: Branch | None) -> list[FileFact]:
    names = [*_OF_EACH, *(_OF_MAIN if branch is main else ())]
    imported = [fact for path, fact in branch.files.items() if path.startswith(IMPORTED)] if branch is main else []
    return [*(branch.files[name] for name in names if name in branch.files), *imported]
