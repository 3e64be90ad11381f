"""Whether a release by treering is what its own records say: that they are there, every file, and every digest of digests."""

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from treering.checkpoints.schedule import checkpoint_name
from treering.config.digests import STAGES, release_digest_of, run_digest
from treering.hub.audit.contents import MANIFESTS, RECIPE, REVISION, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.ledger import check_trained
from treering.hub.audit.own import manifest_of, published_main, recipe_of, revision_record
from treering.hub.audit.weights import SAFETENSORS, weight_files
from treering.hub.listed import Branch
from treering.hub.strangers import named, shown
from treering.provenance.digests import digest_value
from treering.provenance.manifests import MANIFEST, FileEntry

_ADVICE = "publish it again from the run: treering publish compares every file after it was sent"
_STAGES = ("training", "evaluation")  # of which `main` has every file
_BELOW = re.compile(r"everything below this card is `(sha256:[0-9a-f]{64})`")
_TAG, _TAG_DIGITS = re.compile(r"release-([0-9a-f]{12})"), 12
_FLOAT32 = "float32"
_SHOWN = 4

_Manifests = Mapping[str, tuple[FileEntry, ...]]


def check_records(contents: Contents) -> Iterator[Finding]:
    """Yield the records that are not there, the branches whose files are not those they list, and digests that are others."""
    main = published_main(contents)
    found = {} if main is None else {stage: manifest_of(contents, main, stage) for stage in STAGES}
    manifests = {stage: entries for stage, entries in found.items() if entries is not None}
    if main is not None:
        yield from _lacking(contents, main, manifests)
        yield from _apart(contents, main, _listed_on_main(contents, manifests))
        yield from _other_recipe(contents)
        yield from _other_digests(contents, manifests)
        yield from _told(check_trained(contents, main))
    for branch in contents.listing.branches:
        yield from _of_branch(contents, branch, manifests.get("revisions"))
    yield from _other_weights(contents)


def _lacking(contents: Contents, main: Branch, manifests: _Manifests) -> Iterator[Finding]:
    """Yield which records of a release by treering are absent, or cannot be read as what they are."""
    wanted = [RECIPE] * (recipe_of(contents) is None) + [path for stage, path in MANIFESTS.items() if stage not in manifests]
    if wanted:
        absent = [path for path in wanted if path not in main.files]
        broken = [path for path in wanted if path in main.files]
        evidence = [f"absent: {named(absent, _SHOWN)}"] * bool(absent) + [f"not readable: {named(broken, _SHOWN)}"] * bool(
            broken
        )
        yield _finding(("main",), "`main` lacks records that every release by treering has", tuple(evidence))
    without = tuple(branch.name for branch in contents.listing.everything if revision_record(contents, branch) is None)
    if without:
        problem = f"there is no {REVISION} that can be read on {named(without)}"
        yield _finding(without, problem, ("each revision of a release by treering has one",))


def _listed_on_main(contents: Contents, manifests: _Manifests) -> dict[str, str]:
    """Return the files that `main` has to have: those of card, training and evaluation, and of the last revision."""
    listed = {entry.path: entry.digest for entry in manifests.get("card", ())}
    for stage in _STAGES:
        listed |= {f"{stage}/{entry.path}": entry.digest for entry in manifests.get(stage, ())}
    if (recipe := recipe_of(contents)) is not None:
        last = checkpoint_name(recipe.training.steps)
        listed |= _files_of_revision(manifests.get("revisions", ()), last)
    return listed


def _files_of_revision(entries: tuple[FileEntry, ...], name: str) -> dict[str, str]:
    parts = ((*entry.path.partition("/"), entry.digest) for entry in entries)
    return {path: digest for step, _, path, digest in parts if step == name and path not in ("", MANIFEST)}


def _of_branch(contents: Contents, branch: Branch, entries: tuple[FileEntry, ...] | None) -> Iterator[Finding]:
    """Yield in what a branch is not the revision that the manifest, or without one its own record, says it is."""
    record = revision_record(contents, branch)
    files = (record or {}).get("files")
    listed = {path: str(digest) for path, digest in files.items()} if isinstance(files, dict) else {}
    if entries is not None:
        of_manifest = _files_of_revision(entries, branch.name)
        if not of_manifest:
            yield _finding((branch.name,), f"no manifest lists the files of {branch.name}", (MANIFESTS["revisions"],))
        listed |= of_manifest
    yield from _apart(contents, branch, listed)
    if record is not None and (record.get("step"), record.get("name")) != (branch.step, branch.name):
        told = f"its record says {shown(record.get('name'), 60)}, step {shown(record.get('step'), 60)}"
        yield _finding((branch.name,), f"{branch.name} has the record of another revision", (told,))


def _apart(contents: Contents, branch: Branch, listed: Mapping[str, str]) -> Iterator[Finding]:
    missing = [path for path in listed if path not in branch.files]
    known = ((path, contents.digest_of(branch.files[path])) for path in listed if path in branch.files)
    changed = [path for path, digest in known if digest not in (None, listed[path])]
    if missing or changed:
        evidence = [f"missing: {named(missing, _SHOWN)}"] * bool(missing) + [f"other content: {named(changed, _SHOWN)}"] * bool(
            changed
        )
        problem = f"{branch.name} does not have the files that treering's records list"
        yield _finding((branch.name,), problem, tuple(evidence))


def _other_recipe(contents: Contents) -> Iterator[Finding]:
    recipe = recipe_of(contents)
    records = {branch.name: revision_record(contents, branch) for branch in contents.listing.branches}
    others = [name for name, record in records.items() if record and recipe and record.get("run_digest") != run_digest(recipe)]
    if others:
        problem = f"the recipe on `main` is not that of {named(others)}"
        yield _finding(tuple(others), problem, ("run_digest in revision.json is another",))


def _other_digests(contents: Contents, manifests: _Manifests) -> Iterator[Finding]:
    """Yield where card or tag say another digest than the manifests together have."""
    digests = {stage: digest_value([list(entry) for entry in map(_row, entries)]) for stage, entries in manifests.items()}
    if len(digests) < len(STAGES):
        return
    below = release_digest_of({stage: digest for stage, digest in digests.items() if stage != "card"})
    stated = _BELOW.findall(contents.card or "")
    if below not in stated:
        evidence = (f"the card says {named(stated) or 'none'}", f"the manifests have {below}")
        yield _finding(("main",), "the manifests are not those that the card was written from", evidence)
    tags, whole = [tag for tag in contents.listing.tags if _TAG.fullmatch(tag)], release_digest_of(digests)
    if tags and f"release-{whole.removeprefix('sha256:')[:_TAG_DIGITS]}" not in tags:
        evidence = (f"tagged: {named(tags)}", f"the manifests have {whole}")
        yield _finding(("main",), "no tag is of the release that the manifests list", evidence)


def _row(entry: FileEntry) -> tuple[str, int, str]:
    return entry.path, entry.size_bytes, entry.digest


def _other_weights(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose weights are not those of their record: by its digests, and by the bytes where all were read."""
    recipe = recipe_of(contents)
    for branch in contents.listing.everything:
        if (record := revision_record(contents, branch)) is None:
            continue
        told, trained = record.get("weights_digest"), record.get("trained_digest")
        if recipe is not None and recipe.revisions.dtype == _FLOAT32 and told != trained:
            problem = f"{branch.name} was published as it was trained, in float32, and its record says other weights"
            yield _finding((branch.name,), problem, (f"trained: {shown(trained)}", f"published: {shown(told)}"))
        found = _weights_digest(contents, branch)
        if found is not None and found != told:
            problem = f"the weights of {branch.name} are not those that its record says were published"
            yield _finding((branch.name,), problem, (f"weights_digest: {shown(told)}", f"of what was read: {found}"))


def _weights_digest(contents: Contents, branch: Branch) -> str | None:
    """Return the digest of a branch's weights, or None where not all of them were read."""
    files = weight_files(branch, SAFETENSORS)
    if not files or any(file.digest not in contents.scans for file in files):
        return None
    tensors = chain.from_iterable(contents.scans[file.digest].tensors.items() for file in files)
    return digest_value(dict(tensors))


def _told(apart: Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]) -> Iterator[Finding]:
    for branches, problem, evidence in apart:
        yield _finding(branches, problem, evidence)


def _finding(branches: tuple[str, ...], problem: str, evidence: tuple[str, ...]) -> Finding:
    return Finding("records", Severity.ERROR, branches, problem, evidence, _ADVICE)
