"""What was read of a release: settings and records whole, of its weights the headers and a few numbers, each content once."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from treering.config.digests import STAGES
from treering.errors import FormatError
from treering.hub.audit.headers import TensorFact
from treering.hub.audit.samples import Numbers
from treering.hub.audit.scans import Scan
from treering.hub.audit.weights import SAFETENSORS, missing_shards, weight_files
from treering.hub.documents import parse_object
from treering.hub.listed import Branch, FileFact, Listing
from treering.provenance.digests import digest_bytes
from treering.provenance.manifests import MANIFEST

SETTINGS = ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
TOKENIZER = "tokenizer.json"
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
CARD, RECIPE, REVISION = "README.md", "recipe.yaml", "revision.json"
# Of a release by treering, on `main`; IMPORTED has a record of each checkpoint that came from elsewhere.
MANIFESTS, IMPORTED = {stage: f"{stage}/{MANIFEST}" for stage in STAGES}, "training/imported/"
_MOST_CARD_LETTERS = 1_000_000
_MOST_PARSED_BYTES = 16_000_000  # of documents that are held parsed, which takes some tens of bytes for one of theirs

Place = tuple[Branch, FileFact]


@dataclass(frozen=True)
class Weights:
    """What was seen of a branch's weights: the tensors of its files by name, and numbers of some of them."""

    tensors: Mapping[str, TensorFact]
    samples: Mapping[str, Numbers]


@dataclass
class Contents:
    """What was read, by the digests of files; `unreadable` says why of those that could not be.

    `digests` are those of files that were read only for them, and `left_out` the files that were more than is kept.
    """

    listing: Listing
    texts: dict[str, bytes] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    headers: dict[str, dict[str, TensorFact]] = field(default_factory=dict)
    samples: dict[str, dict[str, Numbers]] = field(default_factory=dict)
    scans: dict[str, Scan] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    left_out: list[Place] = field(default_factory=list)
    _documents: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _last: tuple[str, dict[str, Any] | None] = ("", None)

    def text(self, branch: Branch | None, path: str) -> str | None:
        """Return a file of a branch as text, or None where it has none or it was not read."""
        fact = None if branch is None else branch.files.get(path)
        content = None if fact is None else self.texts.get(fact.digest)
        return None if content is None else content.decode(errors="replace")

    @property
    def card(self) -> str | None:
        """The card, of one that never ends the beginning, or None where there is none."""
        text = self.text(self.listing.main, CARD)
        return None if text is None else text[:_MOST_CARD_LETTERS]

    def document(self, branch: Branch | None, path: str) -> dict[str, Any] | None:
        """Return a file of a branch as a JSON object, or None where it is none or was not read."""
        fact = None if branch is None else branch.files.get(path)
        content = None if fact is None else self.texts.get(fact.digest)
        if fact is None or content is None:
            return None
        if fact.digest in self._documents:
            return self._documents[fact.digest]
        if fact.digest != self._last[0]:
            self._last = ("", None)  # two of the largest are never there at once
            self._last = (fact.digest, _object(content, fact.path))
        if sum(len(self.texts[digest]) for digest in self._documents) + len(content) <= _MOST_PARSED_BYTES:
            self._documents[fact.digest] = self._last[1]
        return self._last[1]

    def digest_of(self, fact: FileFact) -> str | None:
        """Return the digest of a file's content, or None where it is listed under git's name for it and was not read."""
        if fact.digest.startswith("sha256:"):
            return fact.digest
        content = self.texts.get(fact.digest)
        return self.digests.get(fact.digest) if content is None else digest_bytes(content)

    def alike(self, paths: Sequence[str]) -> Iterator[tuple[tuple[Branch, ...], dict[str, dict[str, Any]]]]:
        """Yield the branches that have the same files by these paths, and those files as JSON objects, empty where none."""
        groups: dict[tuple[str | None, ...], list[Branch]] = {}
        for branch in self.listing.everything:
            digests = (branch.files[path].digest if path in branch.files else None for path in paths)
            groups.setdefault(tuple(digests), []).append(branch)
        for branches in groups.values():
            yield tuple(branches), {path: self.document(branches[0], path) or {} for path in paths}

    def weights(self, branch: Branch) -> Weights | None:
        """Return what was seen of a branch's weights, or None where they are no safetensors, or not all there."""
        files = weight_files(branch, SAFETENSORS)
        if not files or missing_shards(branch, SAFETENSORS, set()) or any(file.digest not in self.headers for file in files):
            return None
        tensors = {name: fact for file in files for name, fact in self.headers[file.digest].items()}
        samples = {name: part for file in files for name, part in self.samples.get(file.digest, {}).items()}
        return Weights(tensors, samples)


def _object(content: bytes, path: str) -> dict[str, Any] | None:
    try:
        return parse_object(content, path)
    except FormatError:
        return None
