"""Whether a release by treering is what its own records say: every file of every branch, and the ledger line by line."""

from collections.abc import Iterator, Mapping
from typing import Any

from treering.config.digests import run_digest
from treering.errors import FormatError, IntegrityError
from treering.hub.audit.contents import MOST_DOCUMENT_BYTES, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.own import recipe_of, revision_record
from treering.hub.listing import Branch
from treering.hub.strangers import named, shown
from treering.provenance.chain import read_link, refuse_unbound
from treering.provenance.digests import digest_bytes
from treering.provenance.manifests import MANIFEST

LEDGER = "training/ledger.jsonl"
MOST_LEDGER_BYTES = 1_000_000_000
_ADVICE = "publish it again from the run: treering publish compares every file after it was sent"
_STAGES = ("training", "evaluation")  # of which `main` has every file
_SHOWN = 4


def check_records(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose files are not those that treering's records list, and what is wrong with the ledger."""
    main, listing = contents.listing.main, contents.listing
    manifest = _entries(contents, main, f"revisions/{MANIFEST}")
    for branch in listing.branches:
        record = revision_record(contents, branch)
        of_branch = {
            path.partition("/")[2]: digest for path, digest in manifest.items() if path.partition("/")[0] == branch.name
        }
        listed = of_branch or _files_of(record)
        yield from _apart(contents, branch, {path: digest for path, digest in listed.items() if path != MANIFEST})
        if record is not None and (record.get("step"), record.get("name")) != (branch.step, branch.name):
            told = f"its record says {shown(record.get('name'), 60)}, step {shown(record.get('step'), 60)}"
            yield _finding((branch.name,), f"{branch.name} has the record of another revision", (told,))
    if main is not None:
        listed = _entries(contents, main, f"card/{MANIFEST}")
        for stage in _STAGES:
            listed |= {f"{stage}/{path}": digest for path, digest in _entries(contents, main, f"{stage}/{MANIFEST}").items()}
        yield from _apart(contents, main, listed)
        yield from _other_recipe(contents)
        yield from _ledger(contents, main)


def _entries(contents: Contents, main: Branch | None, path: str) -> dict[str, str]:
    files = (contents.document(main, path) or {}).get("files")
    entries = [entry for entry in files if isinstance(entry, dict)] if isinstance(files, list) else []
    return {str(entry.get("path")): str(entry.get("digest")) for entry in entries}


def _files_of(record: Mapping[str, Any] | None) -> dict[str, str]:
    files = (record or {}).get("files")
    return {str(path): str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}


def _apart(contents: Contents, branch: Branch, listed: Mapping[str, str]) -> Iterator[Finding]:
    missing = [path for path in listed if path not in branch.files]
    changed = [path for path, digest in listed.items() if path in branch.files and not _is(contents, branch, path, digest)]
    if missing or changed:
        evidence = [f"missing: {named(missing, _SHOWN)}"] * bool(missing) + [f"other content: {named(changed, _SHOWN)}"] * bool(
            changed
        )
        problem = f"{branch.name} does not have the files that treering's records list"
        yield _finding((branch.name,), problem, tuple(evidence))


def _is(contents: Contents, branch: Branch, path: str, digest: str) -> bool:
    """Return whether a file has a digest; one of which neither the digest nor the content is known has."""
    fact = branch.files[path]
    if fact.digest.startswith("sha256:"):
        return fact.digest == digest
    content = contents.texts.get(fact.digest)
    return content is None or digest_bytes(content) == digest


def _other_recipe(contents: Contents) -> Iterator[Finding]:
    recipe = recipe_of(contents)
    records = {branch.name: revision_record(contents, branch) for branch in contents.listing.branches}
    others = [name for name, record in records.items() if record and recipe and record.get("run_digest") != run_digest(recipe)]
    if others:
        problem = f"the recipe on `main` is not that of {named(others)}"
        yield _finding(tuple(others), problem, ("run_digest in revision.json is another",))


def _ledger(contents: Contents, main: Branch) -> Iterator[Finding]:
    """Yield where the ledger's chain breaks, and the revisions that are not of its checkpoints."""
    fact = main.files.get(LEDGER)
    if fact is None or fact.size_bytes > MOST_LEDGER_BYTES:
        return
    kept: dict[int, Any] = {}
    previous = ""
    try:
        for number, line in enumerate(_lines(contents, main)):
            link = read_link(f"{LEDGER}, line {number + 1}", line)
            if number:
                refuse_unbound(f"{LEDGER}, line {number + 1}", link, previous)
            previous = link.digest
            if isinstance(link.body.get("checkpoint"), dict):
                kept[number] = link.body["checkpoint"].get("weights_digest")
    except (IntegrityError, FormatError) as error:
        yield _finding(("main",), "the ledger's lines are not bound to each other", (shown(error),))
        return
    for branch in contents.listing.branches:
        record = revision_record(contents, branch)
        if record is not None and branch.step in kept and record.get("trained_digest") != kept[branch.step]:
            evidence = (f"ledger: {shown(kept[branch.step])}", f"revision.json: {shown(record.get('trained_digest'))}")
            yield _finding((branch.name,), f"{branch.name} was not made from the ledger's checkpoint", evidence)


def _lines(contents: Contents, main: Branch) -> Iterator[bytes]:
    """Yield the lines of the ledger, a piece of the file at a time.

    Raises:
        FormatError: When it cannot be had, or has a line longer than any.
    """
    fact, rest = main.files[LEDGER], b""
    for start in range(0, fact.size_bytes, 1 << 23):
        content = rest + contents.listing.read(main, LEDGER, start, min(start + (1 << 23), fact.size_bytes))
        *lines, rest = content.splitlines(keepends=True) or [b""]
        if rest.endswith(b"\n"):
            lines, rest = [*lines, rest], b""
        if len(rest) > MOST_DOCUMENT_BYTES:
            raise FormatError("a line of the ledger has no end", where=LEDGER)
        yield from lines
    if rest:
        yield rest


def _finding(branches: tuple[str, ...], problem: str, evidence: tuple[str, ...]) -> Finding:
    return Finding("records", Severity.ERROR, branches, problem, evidence, _ADVICE)
