"""Files that should be the same on every branch: settings and tokenizer."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from treering.hub.audit.contents import SETTINGS, TOKENIZER, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.listed import Branch
from treering.hub.strangers import named, shown

_WEIGHTY = ("config.json", TOKENIZER, "vocab.json", "merges.txt", "tokenizer.model", "vocab.txt")
_LIGHT = ("generation_config.json",)
_FILES = tuple(dict.fromkeys((*SETTINGS, *_WEIGHTY)))
# Of a configuration, what says nothing about the model.
_COSMETIC = {"transformers_version", "_name_or_path", "use_cache", "_commit_hash", "is_local", "local_files_only"}
_OLD_NAMES = {"torch_dtype": "dtype"}
_SHOWN = 4


def check_settings(contents: Contents) -> Iterator[Finding]:
    """Yield the settings and the files of the tokenizer that change from branch to branch, or are not on every one."""
    branches = contents.listing.everything
    for path in _FILES:
        having = [branch for branch in branches if path in branch.files]
        if having and len(having) < len(branches):
            yield _absent(path, branches, having)
        if len({branch.files[path].digest for branch in having}) > 1:
            yield from _changes(contents, path, having)


def _absent(path: str, branches: tuple[Branch, ...], having: list[Branch]) -> Finding:
    lacking = [branch.name for branch in branches if branch not in having]
    severity = Severity.ERROR if path in (_WEIGHTY[0], TOKENIZER) else Severity.NOTE if path in _LIGHT else Severity.WARNING
    problem = f"{path} is not on {named(lacking)}, and is on {len(having)} others"
    return Finding("settings missing", severity, tuple(lacking), problem, (), "upload the same file to every branch")


def _changes(contents: Contents, path: str, having: list[Branch]) -> Iterator[Finding]:
    usual = Counter(branch.files[path].digest for branch in having).most_common(1)[0][0]
    normal = next(branch for branch in having if branch.files[path].digest == usual)
    others: dict[str, list[str]] = {}
    for branch in having:
        if branch.files[path].digest != usual:
            others.setdefault(branch.files[path].digest, []).append(branch.name)
    evidence: list[str] = []
    real = False
    for names in others.values():
        branch = next(branch for branch in having if branch.name == names[0])
        differences = _differences(contents.document(normal, path), contents.document(branch, path))
        real |= differences is None or bool(differences)
        evidence.append(f"{named(names, _SHOWN)}: {'; '.join((differences or [])[:_SHOWN]) or 'other bytes'}")
    if real:
        names = [name for group in others.values() for name in group]
        check = "settings change" if path in SETTINGS else "tokenizer changes"
        severity = Severity.ERROR if path in _WEIGHTY else Severity.NOTE if path in _LIGHT else Severity.WARNING
        problem = f"{path} is not the same on {named(names)} as on {normal.name} and {len(having) - len(names) - 1} others"
        yield Finding(check, severity, tuple(names), problem, tuple(evidence[:_SHOWN]), "upload the same file to every branch")


def _differences(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> list[str] | None:
    """Return in what two documents differ, but for what says nothing about a model; None where that cannot be told."""
    if one is None or other is None:
        return None
    mine, theirs = ({_OLD_NAMES.get(key, key): value for key, value in each.items()} for each in (one, other))
    keys = sorted(key for key in mine.keys() | theirs.keys() if key not in _COSMETIC and mine.get(key) != theirs.get(key))
    return [f"{shown(key, 60)} {shown(mine.get(key), 60)} ≠ {shown(theirs.get(key), 60)}" for key in keys]
