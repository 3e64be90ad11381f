"""What transformers 4 and 5 make of the same files: where they differ, two users have two models."""

from collections.abc import Iterator, Mapping
from typing import Any

from treering.hub.audit.contents import TOKENIZER, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.strangers import named, shown

_CONFIG, _TOKENIZER_CONFIG = "config.json", "tokenizer_config.json"
_OF_FIVE_ALONE = ("TokenizersBackend", "PythonBackend", "SentencePieceBackend", "MistralCommonBackend")
_NEOX, _ENDOFTEXT, _PADDING = "GPTNeoXTokenizer", "<|endoftext|>", "<|padding|>"
_PARTIAL_DEFAULT, _THETA_DEFAULT = 0.25, 10000
_SAFE = "write tokenizer_class PreTrainedTokenizerFast: both versions then take tokenizer.json as it is"

Document = Mapping[str, Any]


def check_versions(contents: Contents) -> Iterator[Finding]:
    """Yield what the two versions of transformers load differently, each kind once with all its branches."""
    found: dict[tuple[str, Severity, str, str], list[str]] = {}
    for branches, documents in contents.alike((_CONFIG, _TOKENIZER_CONFIG, TOKENIZER)):
        for told in differences(*documents.values()):
            found.setdefault(told, []).extend(branch.name for branch in branches)
    for (problem, severity, evidence, advice), names in found.items():
        yield Finding("transformers 4 and 5", severity, tuple(names), f"{problem}, on {named(names)}", (evidence,), advice)


def differences(config: Document, settings: Document, tokenizer: Document) -> Iterator[tuple[str, Severity, str, str]]:
    """Yield what differs, how bad it is, the evidence and what to do, of settings and tokenizer, empty where there are none."""
    kind = config.get("model_type")
    if tokenizer:
        yield from _classes(settings, tokenizer, kind)
        yield from _emitted(settings, kind)
    if kind == "gpt_neox":
        yield from _angles(config)


def _classes(settings: Document, tokenizer: Document, kind: object) -> Iterator[tuple[str, Severity, str, str]]:
    name = settings.get("tokenizer_class")
    if name in _OF_FIVE_ALONE:
        yield "transformers 4 cannot load the tokenizer", Severity.WARNING, f"tokenizer_class is {name}", _SAFE
    is_neox = str(name).removesuffix("Fast") == _NEOX or (name is None and kind == "gpt_neox")
    if not is_neox:
        return
    told = f"tokenizer_class is {shown(name, 60)}"
    if parts := _rebuilt(tokenizer):
        problem = f"transformers 5 replaces the tokenizer's {named(parts)}, which version 4 takes from {TOKENIZER}"
        yield problem, Severity.ERROR, f"{told}: version 5 builds byte-level BPE with NFC of its own", _SAFE
    words = _words(tokenizer)
    for role, default in (
        ("bos_token", _ENDOFTEXT),
        ("eos_token", _ENDOFTEXT),
        ("unk_token", _ENDOFTEXT),
        ("pad_token", _PADDING),
    ):
        if role not in settings and default not in words:
            problem = f"transformers 5 adds a {role} to the vocabulary that tokenizer and model do not have"
            yield (
                problem,
                Severity.ERROR,
                f"{told}, without {role}: version 5 takes {default}",
                f"write {role} into {_TOKENIZER_CONFIG}",
            )
    if "pad_token" not in settings and _PADDING in words:
        problem = "transformers 5 has a pad token where version 4 has none"
        yield problem, Severity.NOTE, f"{told}, without pad_token", f"write pad_token into {_TOKENIZER_CONFIG}"


def _emitted(settings: Document, kind: object) -> Iterator[tuple[str, Severity, str, str]]:
    fast = settings.get("tokenizer_class") == "PreTrainedTokenizerFast"
    if fast and kind == "gpt_neox" and "model_input_names" not in settings:
        problem = "transformers 4 emits token_type_ids, which the model refuses; version 5 does not"
        advice = f'write "model_input_names": ["input_ids", "attention_mask"] into {_TOKENIZER_CONFIG}'
        yield problem, Severity.WARNING, "tokenizer_class PreTrainedTokenizerFast without model_input_names", advice


def _angles(config: Document) -> Iterator[tuple[str, Severity, str, str]]:
    """Yield where only one of the two ways to write rotary angles is there, or they contradict each other."""
    new = config.get("rope_parameters")
    if not isinstance(new, dict):
        return
    pairs = (
        ("rotary_pct", config.get("rotary_pct"), new.get("partial_rotary_factor"), _PARTIAL_DEFAULT),
        ("rotary_emb_base", config.get("rotary_emb_base"), new.get("rope_theta"), _THETA_DEFAULT),
    )
    for name, old, value, default in pairs:
        if value is not None and (default if old is None else old) != value:
            problem = "transformers 4 computes other rotary angles than version 5"
            evidence = f"rope_parameters say {shown(value, 40)}; {name}, which version 4 reads, is {shown(old, 40)}"
            yield problem, Severity.ERROR, evidence, f"write {name} too, with the same number"


def _rebuilt(tokenizer: Document) -> list[str]:
    """Return the parts of a tokenizer that are not those that transformers 5 builds for GPT-NeoX."""
    parts = []
    normalizer, splitter = tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")
    if isinstance(normalizer, dict) and normalizer.get("type") != "NFC":
        parts.append("normalizer")
    if not isinstance(splitter, dict) or splitter.get("type") != "ByteLevel" or splitter.get("use_regex", True) is not True:
        parts.append("pre_tokenizer")
    return parts


def _words(tokenizer: Document) -> set[str]:
    added, model = tokenizer.get("added_tokens"), tokenizer.get("model")
    listed = [entry.get("content") for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    known = model.get("vocab") if isinstance(model, dict) else None
    return {word for word in listed if isinstance(word, str)} | (known.keys() if isinstance(known, dict) else set())
