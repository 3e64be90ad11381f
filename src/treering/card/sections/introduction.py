"""What the model is, and how to load it."""

from treering.card.claims import Claims
from treering.card.markdown import escape, fenced, link
from treering.card.numbers import listing
from treering.card.records import REVISIONS, TRAINING
from treering.card.required import NO_PAPER, repository
from treering.config.schema import BuiltinSource, FileSource, IndexedSource

_SHOWN_SOURCES = 3
_MOST_NEW_TOKENS = 128


def introduction(claims: Claims) -> str:
    """Return the title and the paragraphs on what the model is and why it was made.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    card, name = claims.records.recipe.card, title(claims)
    parameters = claims.cite("parameters", f"{TRAINING}#/parameters")
    opening = f"{name} is {_article(claims.value(f'{TRAINING}#/parameters'))} {parameters} parameter language model"
    paper = "There is no paper about this release."
    if card.paper != NO_PAPER:
        paper = f"See {link('our paper', claims.cite('as it is', 'recipe.yaml#/card/paper'))} for full details."
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{opening} trained on {_sources(claims)} as part of {_suite(claims)}.",
            claims.quote("distinction"),
            "",
            claims.quote("motivation"),
            paper,
        ]
    )


def quick_start(claims: Claims) -> str:
    """Return the code that loads the model, measures a perplexity and generates, and what loading takes.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    identifier = repository(claims.records.recipe)
    most = min(_MOST_NEW_TOKENS, claims.records.recipe.model.max_position_embeddings // 2)
    code = f'''\
from transformers import AutoModelForCausalLM, AutoTokenizer
import torch

model = AutoModelForCausalLM.from_pretrained(
    "{identifier}",
    dtype=torch.float16,
    device_map="auto",
)
tokenizer = AutoTokenizer.from_pretrained("{identifier}")

# Perplexity on a passage
inputs = tokenizer("your text here", return_tensors="pt").to(model.device)
with torch.no_grad():
    loss = model(**inputs, labels=inputs["input_ids"]).loss
perplexity = torch.exp(loss)
print(f"Perplexity: {{perplexity.item():.2f}}")

# Generation
outputs = model.generate(**inputs, max_new_tokens={most}, temperature=0.7, do_sample=True)
print(tokenizer.decode(outputs[0], skip_special_tokens=True))'''
    memory = claims.cite("size", f"{REVISIONS}#/memory_float16_bytes")
    disk = claims.cite("size", f"{REVISIONS}#/float32_disk_bytes")
    return "\n".join(
        [
            "## Quick Start",
            "",
            fenced("python", code),
            "",
            f"Loading in fp16 requires approximately {memory} of GPU memory.",
            f"The full fp32 weights are {disk} on disk.",
        ]
    )


def title(claims: Claims) -> str:
    """Return the model's name as running text, cited.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    named = claims.records.recipe.card.model_name is not None
    return claims.cite("text", "recipe.yaml#/card/model_name" if named else "recipe.yaml#/name")


def _suite(claims: Claims) -> str:
    card = claims.records.recipe.card
    suite = claims.cite("text", "recipe.yaml#/card/suite")
    field = "suite_url" if card.paper == NO_PAPER else "paper"
    return link(suite, claims.cite("as it is", f"recipe.yaml#/card/{field}")) if getattr(card, field) else suite


def _sources(claims: Claims) -> str:
    sources = claims.records.recipe.corpus.sources
    names = [_source(claims, index) for index in range(min(len(sources), _SHOWN_SOURCES))]
    if len(sources) == len(names):
        return listing(names)
    return f"{', '.join(names)} and others, {claims.cite('length', 'recipe.yaml#/corpus/sources')} sources in all"


def _source(claims: Claims, index: int) -> str:
    source, address = claims.records.recipe.corpus.sources[index], f"recipe.yaml#/corpus/sources/{index}"
    if isinstance(source, BuiltinSource):
        return f"{escape(BUILTIN_SOURCES[source.builtin])} ({claims.cite('code', f'{address}/builtin')})"
    if isinstance(source, FileSource):
        return claims.cite("file name", f"{address}/path")
    if isinstance(source, IndexedSource):
        return f"the tokens of {claims.cite('file name', f'{address}/neox')}"
    return claims.cite("code" if source.revision else "file name", f"{address}/dataset")


BUILTIN_SOURCES = {"sotu": "the US presidents' addresses to Congress"}


def _article(parameters: int) -> str:
    spoken_with_vowel = str(parameters).startswith("8") or (
        len(str(parameters)) % 3 == 2 and str(parameters)[:2] in ("11", "18")
    )
    return "an" if spoken_with_vowel else "a"
