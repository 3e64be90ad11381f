"""A harness task as its YAML defines it, read so that no code of it can run.

The harness itself runs Python that a task's YAML names (`!function`), fetches metrics as code and renders templates without
bounds. Recipes and the task files they name may come from strangers, so here a task is data, and only data.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from treering.errors import InputError

_LARGEST_BYTES = 1 << 20
_DEEPEST_INCLUDE = 8
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_FIELDS = (
    *("task", "task_alias", "tag", "include", "dataset_path", "dataset_name", "dataset_kwargs", "output_type", "metadata"),
    *_SPLITS,
    *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter", "gen_prefix"),
    *("num_fewshot", "fewshot_config", "metric_list", "generation_kwargs", "filter_list", "repeats"),
    *("should_decontaminate", "doc_to_decontamination_query"),
)
METRICS = (
    *("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "perplexity", "likelihood"),
    *("word_perplexity", "byte_perplexity", "bits_per_byte", "f1", "mcc", "bleu", "chrf", "ter", "brier_score"),
)
_AGGREGATIONS = (
    *("mean", "nanmean", "median", "perplexity", "weighted_perplexity", "bits_per_byte"),
    *("f1", "matthews_corrcoef", "bleu", "chrf", "ter", "brier_score"),
)
_FILTERS = (
    *("regex", "remove_whitespace", "multi_choice_regex", "take_first", "take_first_k", "majority_vote"),
    *("lowercase", "uppercase", "map"),
)
_UNTRUSTED = "a task file is untrusted data: nothing in it may run as code"


@dataclass(frozen=True)
class TaskDefinition:
    """A checked harness task: its config as the harness reads it, and the data file of each split.

    Of a task of the harness's own `file` is where it defines it; its config may name Python of the harness, and without data
    files the harness downloads the items. `group` is the family that it is scored with.
    """

    config: Mapping[str, Any]
    data_files: Mapping[str, Path]
    file: Path | None = None
    group: str | None = None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.config["task"]

    @property
    def what_it_measures(self) -> str:
        """A sentence on what the task measures, from `metadata.what_it_measures`."""
        return self.config.get("metadata", {}).get("what_it_measures", f"`{self.name}`, a task file of the recipe's own")

    @property
    def chance(self) -> Mapping[str, float]:
        """What guessing scores, by metric, from `metadata.chance`."""
        return self.config.get("metadata", {}).get("chance", {})


def read_definition(path: Path) -> TaskDefinition:
    """Read a task's YAML, with what it includes.

    Raises:
        InputError: When it is missing, is not YAML, could run code, or is not a task whose items lie beside it.
    """
    config = _read(path, depth=0)
    if problems := list(_problems(config)):
        raise InputError(
            f"this task cannot be used: {'; '.join(problems)}",
            where=path,
            advice="write the items into a .jsonl file beside it, and let the YAML's fields and templates name their keys",
        )
    files = config["dataset_kwargs"]["data_files"]
    for file in files.values():
        _refuse_elsewhere(path, file)
    return TaskDefinition(config, {split: path.parent / file for split, file in files.items()})


def _read(path: Path, depth: int) -> dict[str, Any]:
    """Return a YAML's mapping, laid over the mappings of the files it includes."""
    config = _parse(_text(path), path)
    includes = config.pop("include", [])
    if depth == _DEEPEST_INCLUDE:
        raise InputError("task files include each other too deeply", where=path, expected=f"at most {_DEEPEST_INCLUDE} levels")
    merged: dict[str, Any] = {}
    for included in includes if isinstance(includes, list) else [includes]:
        _refuse_elsewhere(path, str(included))
        merged |= _read(path.parent / str(included), depth + 1)
    return merged | config


def _refuse_elsewhere(path: Path, file: str) -> None:
    """Do nothing for a file in the task's own folder or below: what it names goes into the release.

    Raises:
        InputError: When it lies elsewhere.
    """
    folder = path.parent.resolve()
    if Path(file).is_absolute() or not (folder / file).resolve().is_relative_to(folder):
        raise InputError("a task's files lie in its own folder", where=path, expected=f"a path below {path.parent}", found=file)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise InputError("this is too large for a task file", where=path, expected=f"at most {_LARGEST_BYTES} bytes")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError("there is no such task file", where=path) from error
    except IsADirectoryError as error:
        raise InputError("a task is a YAML file, this is a folder", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("this task file is not UTF-8 text", where=path, found=f"byte {error.start}: {error.reason}") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.TagToken):
                tag = "".join(part or "" for part in token.value)
                raise InputError(f"the tag `{tag}` is refused", where=_line(path, token), found=_UNTRUSTED)
            if isinstance(token, yaml.AliasToken):
                raise InputError("aliases are refused, write the value out", where=_line(path, token))
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError("this task file is not YAML", where=path, found=" ".join(str(error).split())) from error
    if not isinstance(config, dict):
        raise InputError("a task file is a mapping of fields", where=path, found=type(config).__name__)
    return config


def _line(path: Path, token: yaml.Token) -> str:
    return f"{path}, line {token.start_mark.line + 1}"


def _problems(config: Mapping[str, Any]) -> Iterator[str]:
    yield from _problems_of_fields(config)
    yield from _problems_of_data(config)
    yield from _problems_of_scoring(config)
    yield from _problems_of_metadata(config.get("metadata", {}))


def _problems_of_fields(config: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(config.get("task"), str) or not _NAME.fullmatch(config["task"]):
        yield "`task` has to be a name of letters, digits, `.`, `_` and `-`"
    for field in config:
        if field not in _FIELDS:
            near = difflib.get_close_matches(str(field), _FIELDS, n=1, cutoff=0.75)
            yield f"the field `{field}` is refused" + (f"; did you mean `{near[0]}`?" if near else f" ({_UNTRUSTED})")
    for field in ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix"):
        if not isinstance(config.get(field, ""), str | int | list | None):
            yield f"`{field}` has to be a text, a number or a list"


def _problems_of_data(config: Mapping[str, Any]) -> Iterator[str]:
    options = config.get("dataset_kwargs")
    files = options.get("data_files") if isinstance(options, dict) and set(options) == {"data_files"} else None
    if (
        config.get("dataset_path") != "json"
        or config.get("dataset_name") is not None
        or not isinstance(files, dict)
        or not files
    ):
        yield "its items have to come from `dataset_path: json` and `dataset_kwargs: {data_files: {SPLIT: FILE}}`, nothing else"
        return
    for split, file in files.items():
        if not isinstance(split, str) or not _NAME.fullmatch(split) or not isinstance(file, str):
            yield f"`data_files` maps a split's name to one file, found {split!r}: {file!r}"
    named = [config[field] for field in _SPLITS if config.get(field) is not None]
    if unknown := [split for split in named if split not in files]:
        yield f"no data file is given for the split {', '.join(map(repr, unknown))}"
    if config.get("test_split") is None and config.get("validation_split") is None:
        yield "`test_split` or `validation_split` has to name the split that is scored"


def _problems_of_scoring(config: Mapping[str, Any]) -> Iterator[str]:
    for metric in _mappings(config.get("metric_list", [])):
        yield from _unknown("metric", metric.get("metric"), METRICS)
        yield from _unknown("aggregation", metric.get("aggregation", "mean"), _AGGREGATIONS)
        if "hf_evaluate" in metric:
            yield f"`hf_evaluate` fetches a metric as code ({_UNTRUSTED})"
    for pipeline in _mappings(config.get("filter_list", [])):
        for step in _mappings(pipeline.get("filter", [])):
            yield from _unknown("filter", step.get("function"), _FILTERS)
    fewshot = config.get("fewshot_config")
    if isinstance(fewshot, dict):
        yield from _unknown("sampler", fewshot.get("sampler", "default"), ("default", "first_n"))
    generation = config.get("generation_kwargs")
    if isinstance(generation, dict) and (generation.get("do_sample") or generation.get("temperature")):
        yield "generation that samples gives another score each time; leave out `do_sample` and `temperature`"


def _problems_of_metadata(metadata: object) -> Iterator[str]:
    if not isinstance(metadata, dict):
        yield "`metadata` has to be a mapping"
        return
    if not isinstance(metadata.get("what_it_measures", ""), str):
        yield "`metadata.what_it_measures` has to be a sentence"
    chance = metadata.get("chance", {})
    values = chance.values() if isinstance(chance, dict) else [None]
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        yield "`metadata.chance` maps metrics to numbers from 0 to 1"


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _unknown(kind: str, name: object, known: tuple[str, ...]) -> Iterator[str]:
    if name not in known:
        yield f"the {kind} {name!r} is not one of {', '.join(known)}"
