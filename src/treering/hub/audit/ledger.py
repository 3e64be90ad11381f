"""The training as a release by treering tells it: a ledger whose lines are bound to each other, or records of an import."""

from collections.abc import Iterator
from typing import Any

from treering.errors import FormatError, IntegrityError
from treering.hub.audit.contents import IMPORTED, Contents
from treering.hub.audit.own import recipe_of, revision_record
from treering.hub.listed import Branch
from treering.hub.strangers import named, shown
from treering.provenance.chain import read_link, refuse_unbound

LEDGER = "training/ledger.jsonl"
MOST_LEDGER_BYTES, MOST_LINE_BYTES = 1_000_000_000, 1_000_000

Apart = tuple[tuple[str, ...], str, tuple[str, ...]]


def check_trained(contents: Contents, main: Branch) -> Iterator[Apart]:
    """Yield, as branches, problem and evidence, where the training is not told, or revisions are of other weights than it says.

    A run that was imported from GPT-NeoX has no ledger, and a record of each checkpoint instead.
    """
    recipe = recipe_of(contents)
    if recipe is not None and recipe.training.imported:
        source, trained = IMPORTED, _imported(contents, main)
    else:
        try:
            source, trained = LEDGER, _checkpoints_in(contents, main)
        except FormatError as error:
            yield ("main",), "there is no ledger that can be read", (shown(error),)
            return
        except IntegrityError as error:
            yield ("main",), "the ledger's lines are not bound to each other", (shown(error),)
            return
    if absent := [branch.name for branch in contents.listing.branches if branch.step not in trained]:
        yield tuple(absent), f"no record of the training has the weights of {named(absent)}", (source,)
    for branch in contents.listing.branches:
        record = revision_record(contents, branch)
        if record is not None and branch.step in trained and record.get("trained_digest") != trained[branch.step]:
            evidence = (f"{source}: {shown(trained[branch.step])}", f"revision.json: {shown(record.get('trained_digest'))}")
            yield (branch.name,), f"{branch.name} was not made from the checkpoint that the training left", evidence


def _imported(contents: Contents, main: Branch) -> dict[int, Any]:
    """Return the digest of the weights of each checkpoint that was imported, by its step."""
    records = ((branch.step, contents.document(main, f"{IMPORTED}{branch.name}.json")) for branch in contents.listing.branches)
    return {step: record.get("weights_digest") for step, record in records if record and record.get("step") == step}


def _checkpoints_in(contents: Contents, main: Branch) -> dict[int, Any]:
    """Return the digest of the weights of each step that the ledger says was kept.

    Raises:
        FormatError: When it is not there, is empty, cannot be had, or is longer than any.
        IntegrityError: When a line is not one of treering's, or not bound to the one before.
    """
    kept, previous = dict[int, Any](), ""
    for number, line in enumerate(_lines(contents, main)):
        link = read_link(f"{LEDGER}, line {number + 1}", line)
        if number:
            refuse_unbound(f"{LEDGER}, line {number + 1}", link, previous)
        previous = link.digest
        if isinstance(link.body.get("checkpoint"), dict):
            kept[number] = link.body["checkpoint"].get("weights_digest")
    if not previous:
        raise FormatError("this ledger has no line", where=LEDGER)
    return kept


def _lines(contents: Contents, main: Branch) -> Iterator[bytes]:
    """Yield the lines of the ledger, a piece of the file at a time.

    Raises:
        FormatError: When it is not there, cannot be had, or is or has a line longer than any.
    """
    fact, rest = main.files.get(LEDGER), b""
    if fact is None or fact.size_bytes > MOST_LEDGER_BYTES:
        raise FormatError("there is no such record", where=LEDGER, found=None if fact is None else f"{fact.size_bytes:,} bytes")
    for start in range(0, fact.size_bytes, 1 << 23):
        content = rest + contents.listing.read(main, LEDGER, start, min(start + (1 << 23), fact.size_bytes))
        *lines, rest = content.splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n"):
            lines, rest = [*lines, rest], b""
        if max(map(len, (*lines, rest))) > MOST_LINE_BYTES:
            raise FormatError("a line of the ledger has no end", where=LEDGER)
        yield from lines
    if rest:
        yield rest
