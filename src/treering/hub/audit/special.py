"""Special tokens: that settings, tokenizer and model mean the same numbers by them, each with a row in the embedding."""

from collections.abc import Iterator, Mapping
from typing import Any

from treering.hub.audit.contents import TOKENIZER, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.strangers import named, shown

_ROLES = ("bos", "eos", "pad", "unk")
_CONFIGS = ("config.json", "generation_config.json")


def check_special(contents: Contents) -> Iterator[Finding]:
    """Yield the special tokens about which a branch's files contradict each other, each kind once with all its branches."""
    found: dict[tuple[str, str], list[str]] = {}
    for branches, documents in contents.alike((*_CONFIGS, "tokenizer_config.json", TOKENIZER)):
        for told in contradictions(documents):
            found.setdefault(told, []).extend(branch.name for branch in branches)
    for (problem, evidence), names in found.items():
        advice = "take the numbers from the tokenizer that the training used, and write them into every file"
        yield Finding("special tokens", Severity.ERROR, tuple(names), f"{problem}, on {named(names)}", (evidence,), advice)


def contradictions(documents: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what contradicts what, and the evidence, in the settings and the tokenizer of one branch."""
    numbers = token_numbers(documents.get(TOKENIZER, {}))
    settings = documents.get("tokenizer_config.json", {})
    if not numbers:
        return
    for role in _ROLES:
        word = settings.get(f"{role}_token")
        word = word.get("content") if isinstance(word, dict) else word
        if not isinstance(word, str):
            continue
        if word not in numbers:
            yield f"the {role} token is not in the tokenizer", f"{role}_token is {shown(word, 60)}"
            continue
        for path in _CONFIGS:
            told, number = documents.get(path, {}).get(f"{role}_token_id"), shown(numbers[word], 60)
            if told is not None and numbers[word] not in (told if isinstance(told, list) else [told]):
                evidence = f"{path} says {role}_token_id {shown(told, 60)}; {shown(word, 60)} is {number} in {TOKENIZER}"
                yield f"the {role} token of {path} is another than the tokenizer's", evidence
    rows = documents.get("config.json", {}).get("vocab_size")
    if type(rows) is int and max(numbers.values()) >= rows:
        evidence = f"token {shown(max(numbers.values()), 60)}, vocab_size {shown(rows, 60)}"
        yield "the tokenizer has tokens without a row in the embedding", evidence


def token_numbers(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of each token, of those added to the vocabulary too."""
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    words = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(words, list):  # with their scores, in their order
        entries = (entry[0] if isinstance(entry, list) and entry else None for entry in words)
        words = {word: number for number, word in enumerate(entries) if isinstance(word, str)}
    found = {word: number for word, number in words.items() if type(number) is int} if isinstance(words, dict) else {}
    for entry in added if isinstance(added, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and type(entry.get("id")) is int:
            found[entry["content"]] = entry["id"]
    return found
