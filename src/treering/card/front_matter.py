"""The Hub's metadata at the head of a card."""

import re
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from treering.card.claims import Claims
from treering.card.markdown import one_line
from treering.card.required import model_name
from treering.card.sections.evaluation import HARNESS_PAGE, shown_tasks
from treering.config.schema import BuiltinSource, DatasetSource, Recipe

_OWN_TAGS = ("treering", "gpt_neox", "training-dynamics")
_REPRODUCIBLE = "reproducible"
_TASK = {"type": "text-generation", "name": "Text Generation"}
_HELDOUT = "Documents held out from the training corpus"
_HELDOUT_APART = "Documents held out, a data set of their own"
# Hub and clients read YAML 1.1, in which `no` is false and `1.0` a number: whatever is not plainly a word is quoted.
_WORD = re.compile(r"[a-z][a-z_]*(?:-[a-z0-9_.]+)*")
_WORDS_OF_YAML = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def front_matter(claims: Claims) -> str:
    """Return the metadata as marked YAML between its two lines of dashes.

    Raises:
        ClaimError: When a record lacks a field that the metadata needs.
        FormatError: When a record is missing or cannot be read.
    """
    stream, yaml = StringIO(), YAML(typ="rt", pure=True)
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = False, True, 1 << 30
    yaml.dump(_metadata(claims), stream)
    return f"---\n{stream.getvalue()}---\n"


def _metadata(claims: Claims) -> dict[str, Any]:
    recipe, card = claims.records.recipe, claims.records.recipe.card
    results = [*_harness_results(claims), _heldout_result(claims)]
    metadata: dict[str, Any] = {
        "language": [_text(code) for code in card.language or ()],
        "license": _text(str(card.license)),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": [_text(tag) for tag in dict.fromkeys([*_OWN_TAGS, *_reproducible(recipe), *card.tags])],
        "datasets": [_text(name) for name in _datasets(recipe)],
        "metrics": [
            _text(name) for name in dict.fromkeys(metric["type"] for result in results for metric in result["metrics"])
        ],
        "model-index": [{"name": _text(model_name(recipe)), "results": results}],
    }
    if card.license == "other":
        metadata |= {"license_name": _text(str(card.license_name)), "license_link": _text(str(card.license_link))}
    return {key: value for key, value in metadata.items() if value}


def _reproducible(recipe: Recipe) -> tuple[str, ...]:
    """Return the tag that says so, unless the updates were computed elsewhere."""
    return () if recipe.training.imported else (_REPRODUCIBLE,)


def _datasets(recipe: Recipe) -> list[str]:
    """Return the data sets that the Hub can link to, and the names of built-in sources."""
    named = [source.dataset for source in recipe.corpus.sources if isinstance(source, DatasetSource) and source.revision]
    builtin = [source.builtin for source in recipe.corpus.sources if isinstance(source, BuiltinSource)]
    return list(dict.fromkeys([*recipe.card.datasets, *named, *builtin]))


def _harness_results(claims: Claims) -> list[dict[str, Any]]:
    return [_task_result(claims, address) for address in shown_tasks(claims)]


def _task_result(claims: Claims, address: str) -> dict[str, Any]:
    task = claims.value(address)
    return {
        "task": dict(_TASK),
        "dataset": {"type": _text(task["task"]), "name": _text(task["task"])},
        "metrics": [_metric(claims, address, f"{address}/metrics/{number}") for number in range(len(task["metrics"]))],
        "source": {"name": "LM Evaluation Harness", "url": _text(HARNESS_PAGE)},
    }


def _metric(claims: Claims, task: str, address: str) -> dict[str, Any]:
    name = _text(claims.value(f"{address}/metric"))
    arguments = {"num_fewshot": claims.cite("yaml number", f"{task}/num_fewshot")}
    if claims.value(f"{address}/stderr") is not None:
        arguments["stderr"] = claims.cite("yaml number", f"{address}/stderr")
    return {"type": name, "name": name, "value": claims.cite("yaml number", f"{address}/value"), "args": arguments}


def _heldout_result(claims: Claims) -> dict[str, Any]:
    heldout = claims.records.main_heldout
    metrics = [
        {"type": name, "name": name, "value": claims.cite("yaml number", f"{heldout}#/{name}")}
        for name in ("bits_per_byte", "perplexity")
    ]
    apart = any(source.validation is not None for source in claims.records.recipe.corpus.indexed)
    data_set = {"type": "held-out", "name": _HELDOUT_APART if apart else _HELDOUT}
    return {"task": dict(_TASK), "dataset": data_set, "metrics": metrics}


def _text(text: str) -> str:
    line = one_line(text)
    plain = _WORD.fullmatch(line) and line not in _WORDS_OF_YAML
    return line if plain else DoubleQuotedScalarString(line)
