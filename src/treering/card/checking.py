"""Whether a written card still says what its records say."""

from collections.abc import Iterable, Iterator
from typing import Any

from treering.card.claims import FRONT_MATTER_NUMBER, NUMBER, UNSHAPEABLE, Claim, Evidence
from treering.card.forms import shape
from treering.card.markdown import split_code
from treering.card.records import Records
from treering.config.run_directory import RunDirectory
from treering.errors import ClaimError, FormatError
from treering.provenance.canonical import read_record
from treering.provenance.digests import digest_bytes

CLAIMS = ("claims", 1)
_SHOWN_PROBLEMS = 10


def check_claims(run: RunDirectory) -> None:
    """Follow every claim of a written card to its record, and find it on the card.

    The manifests are not consulted: this says which sentence is false, they say which file has changed.

    Raises:
        ClaimError: When a number does not follow from its record, does not stand on the card, stands there without a
            claim, or the card has been altered anywhere else; lists what was found.
        FormatError: When the claims or a record cannot be read.
    """
    folder, records = run.stage("card"), Records(run.path)
    body = read_record(folder / "claims.json", *CLAIMS)
    try:
        readme = (folder / "README.md").read_bytes()
    except FileNotFoundError as error:
        raise FormatError("there is no card", where=folder / "README.md") from error
    claims = [_claim(entry, folder / "claims.json") for entry in body["claims"]]
    problems = [*_problems(claims, readme.decode("utf-8", "replace"), records)]
    if not problems and digest_bytes(readme) != body["card_digest"]:
        problems = ["the card is not the one that its claims were noted for"]
    if problems:
        raise _error(folder / "README.md", problems)


def _claim(entry: dict[str, Any], where: object) -> Claim:
    try:
        evidence = tuple(Evidence(str(place["record"]), str(place["field"])) for place in entry["evidence"])
        return Claim(str(entry["sentence"]), str(entry["value"]), str(entry["form"]), evidence)
    except (KeyError, TypeError) as error:
        raise FormatError("this is not a claim", where=where, found=repr(error)) from error


def _problems(claims: Iterable[Claim], readme: str, records: Records) -> Iterator[str]:
    claimed: set[str] = set()
    for claim in claims:
        claimed.update(claim.sentence.split("\n"))
        if f"\n{claim.sentence}\n" not in f"\n{readme}\n" or claim.value not in claim.sentence:
            yield f"`{claim.sentence}`, with `{claim.value}` in it, no longer stands on the card"
        elif (found := _follow(claim, records)) != claim.value:
            yield f"`{claim.sentence}` says `{claim.value}`; {_addresses(claim)} gives `{found}`"
    split = split_code(readme)
    numbers = [line for line in split.prose if NUMBER.search(line)]
    numbers += [line for line in split.front_matter if FRONT_MATTER_NUMBER.search(line)]
    yield from (f"`{line.strip()}` has a number without evidence" for line in numbers if line not in claimed)


def _follow(claim: Claim, records: Records) -> str:
    try:
        return shape(claim.form, [records.value(*place) for place in claim.evidence])
    except (ClaimError, *UNSHAPEABLE) as error:
        return f"nothing ({error})"


def _addresses(claim: Claim) -> str:
    return ", ".join(f"{place.record}#{place.field}" for place in claim.evidence)


def _error(where: object, problems: list[str]) -> ClaimError:
    more = len(problems) - _SHOWN_PROBLEMS
    shown = "; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")
    return ClaimError(
        "the card does not follow from its records",
        where=where,
        expected="every number as its record gives it",
        found=shown,
        advice="find out what was altered; restore the records, or delete card/ and run the same command again",
    )
