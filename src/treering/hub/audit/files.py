"""Files that are not there, cannot be read, lead elsewhere or should not be there: weights, shards, pickles, code."""

import re
from collections.abc import Iterator

from treering.hub.audit.contents import INDICES, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.statements import sentences_of
from treering.hub.audit.weights import FORMATS, SAFETENSORS, missing_shards, weight_files
from treering.hub.listed import Branch, branches_text, plain
from treering.hub.strangers import named, shown

_PICKLES = re.compile(r"\.(?:bin|pt|pth|pkl|pickle|ckpt|joblib)$", re.I)
_MOMENTS = re.compile(r"optim|zero_pp_rank|adam|moments", re.I)
_PROMISE = re.compile(r"optimi[sz]er[- ]states?", re.I)
_DENIAL = re.compile(r"\b(?:no|not|without|never|cannot|lost|omit\w*|exclud\w*|unavailable)\b|n't", re.I)
_GIVEN = re.compile(r"\b(?:include[sd]?|including|available|provide[sd]?|releas\w+|publish\w+|contain\w*|ship\w*|kept)\b", re.I)


def check_files(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose files are not those of a model that can be loaded, wholly and safely."""
    yield from _incomplete(contents)
    yield from _unreadable(contents)
    yield from _index_apart(contents)
    yield from _odd_names(contents)
    yield from _pickles(contents)
    yield from _code(contents)
    yield from _moments(contents)


def pickles_of(branch: Branch) -> list[str]:
    """Return the files of a branch that are pickles by their names."""
    return [path for path in branch.files if _PICKLES.search(path)]


def _incomplete(contents: Contents) -> Iterator[Finding]:
    empty = [branch.name for branch in contents.listing.branches if not any(weight_files(branch, form) for form in FORMATS)]
    if empty:
        problem = f"{branches_text(len(empty))} without weights: {named(empty)}"
        yield Finding("missing weights", Severity.ERROR, tuple(empty), problem, (), "upload them, or delete the branches")
    for branch in contents.listing.everything:
        for form in FORMATS if branch.name not in empty else ():
            if missing := missing_shards(branch, form, _indexed(contents, branch)):
                there = [fact.path for fact in weight_files(branch, form)]
                yield Finding(
                    "missing weights",
                    Severity.ERROR,
                    (branch.name,),
                    f"{branch.name} lacks {len(missing)} of the files of its weights: {named(missing, 4)}",
                    (f"there are {named(there, 4) or 'none'}",),
                    "upload them; one commit for all files of a branch leaves none half done",
                )


def _unreadable(contents: Contents) -> Iterator[Finding]:
    for digest, why in contents.unreadable.items():
        places = [(branch.name, fact.path) for branch in contents.listing.everything for fact in branch.files.values()
                  if fact.digest == digest]  # fmt: skip
        names = tuple(dict.fromkeys(name for name, _ in places))
        problem = f"{shown(places[0][1]) if places else 'a file'} cannot be read on {named(names)}"
        yield Finding("unreadable files", Severity.ERROR, names, problem, (shown(why),), "upload it again")


def _index_apart(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose index places tensors in files that do not have them."""
    for branch in contents.listing.everything:
        files = {fact.path: contents.headers.get(fact.digest) for fact in weight_files(branch, SAFETENSORS)}
        index = contents.document(branch, INDICES[0])
        placed = (index or {}).get("weight_map")
        if not isinstance(placed, dict) or None in files.values() or INDICES[0].removesuffix(".index.json") in files:
            continue
        wrong = [
            name for name, path in placed.items() if isinstance(path, str) and path in files and name not in (files[path] or {})
        ]
        extra = sorted({name for header in files.values() for name in header or {}} - placed.keys())
        if wrong or extra:
            evidence = [f"not where the index says: {named(wrong, 4)}"] * bool(wrong) + [
                f"not in the index: {named(extra, 4)}"
            ] * bool(extra)
            yield Finding(
                "index apart", Severity.ERROR, (branch.name,), f"the index of {branch.name} is not that of its weights",
                tuple(evidence), "write the index from the files",
            )  # fmt: skip


def _odd_names(contents: Contents) -> Iterator[Finding]:
    for branch in contents.listing.everything:
        if odd := [path for path in branch.files if not plain(path)]:
            yield Finding(
                "file names",
                Severity.ERROR,
                (branch.name,),
                f"{branch.name} has files whose names lead out of a folder, or that no one should see",
                (named(odd, 4),),
                "do not download this branch with anything that trusts its names",
            )


def _pickles(contents: Contents) -> Iterator[Finding]:
    found = {branch.name: pickles_of(branch) for branch in contents.listing.everything}
    safe = {branch.name for branch in contents.listing.everything if weight_files(branch, SAFETENSORS)}
    for severity, names in (
        (Severity.WARNING, tuple(name for name, paths in found.items() if paths and name not in safe)),
        (Severity.NOTE, tuple(name for name, paths in found.items() if paths and name in safe)),
    ):
        if names:
            beside = "beside safetensors" if severity is Severity.NOTE else "and no safetensors: loading one can run any code"
            problem = f"{branches_text(len(names))} with pickles, {beside}: {named(names)}"
            paths = list(dict.fromkeys(path for name in names for path in found[name]))
            yield Finding("pickles", severity, names, problem, (named(paths, 6),), "publish safetensors, and no pickles")


def _code(contents: Contents) -> Iterator[Finding]:
    wanting = {
        branch.name: name
        for branch in contents.listing.everything
        for name in ("config.json", "tokenizer_config.json")
        if "auto_map" in (contents.document(branch, name) or {})
    }
    if wanting:
        yield Finding(
            "code",
            Severity.WARNING,
            tuple(wanting),
            f"{branches_text(len(wanting))} with code of their own that has to be run: {named(list(wanting))}",
            (f"auto_map in {', '.join(sorted(set(wanting.values())))}",),
            "publish for a class that `transformers` has itself",
        )


def _moments(contents: Contents) -> Iterator[Finding]:
    promises = [line for line in sentences_of(contents.card or "") if _PROMISE.search(line) and _GIVEN.search(line)]
    promises = [line for line in promises if not _DENIAL.search(line) and "](" not in line and "http" not in line]
    there = any(_MOMENTS.search(path) for branch in contents.listing.everything for path in branch.files)
    if promises and not there:
        advice = "upload them, link to where they are, or take the sentence out"
        problem = "the card promises optimizer states, and no branch has a file of that name"
        yield Finding("optimizer states", Severity.WARNING, (), problem, (shown(promises[0]),), advice)


def _indexed(contents: Contents, branch: Branch) -> set[str]:
    found: set[str] = set()
    for name in INDICES:
        placed = (contents.document(branch, name) or {}).get("weight_map")
        found |= {path for path in placed.values() if isinstance(path, str)} if isinstance(placed, dict) else set()
    return found
