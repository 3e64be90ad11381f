"""Bad recipes, each with its one clear error and the line it is on; and what YAML 1.2 means by what it says."""

from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from treering.config.reading import parse_recipe, read_recipe
from treering.config.schema import Recipe
from treering.errors import InputError, RecipeError

RECIPE = """\
name: first
corpus:
  sources:
    - builtin: sotu
  validation_fraction: 0.02
tokens:
  tokenizer:
    vocabulary_size: 4096
order:
  seed: 1234
model:
  preset: sapling
  seed: 1234
training:
  steps: 600
  global_batch_size: 16
  micro_batch_size: 8
  optimizer:
    learning_rate: 3e-3
  schedule:
    name: cosine
    warmup_steps: 30
checkpoints:
  every: 100
"""


def problems(text: str) -> tuple[str, ...]:
    """The problems that reading a wrong recipe finds."""
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r.yaml")
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith("r.yaml: ")
    return caught.value.problems


def with_change(old: str, new: str) -> str:
    """The recipe with one place changed."""
    assert RECIPE.count(old) == 1
    return RECIPE.replace(old, new)


def test_the_recipe_that_these_tests_spoil_is_right() -> None:
    assert parse_recipe(RECIPE, "r.yaml").training.optimizer.learning_rate == 0.003


SPOILT = {
    "a misspelt field": (
        "warmup_steps",
        "warmpu_steps",
        "line 22: training.schedule.warmpu_steps: unknown field; did you mean `warmup_steps`?",
    ),
    "an unknown field": (
        "warmup_steps: 30",
        "zzzz: 30",
        "line 22: training.schedule.zzzz: unknown field; known here: name, warmup_steps, minimum_learning_rate",
    ),
    "a misspelt field of a source": (
        "builtin: sotu",
        "builtin: sotu\n      verison: 0.1.2",
        "line 5: corpus.sources.0.verison: unknown field; did you mean `version`?",
    ),
    "an unknown field of a source": (
        "builtin: sotu",
        "builtin: sotu\n      zzzz: 1",
        "line 5: corpus.sources.0.zzzz: unknown field; known here: builtin, version, digest",
    ),
    "a misspelt preset field": (
        "preset: sapling",
        "preset: sapling\n  hiden_size: 64",
        "line 13: model.hiden_size: unknown field; did you mean `hidden_size`?",
    ),
    "a text for a number": ("steps: 600", "steps: many", 'line 15: training.steps: a whole number is needed, found "many"'),
    "a fraction for a count": ("steps: 600", "steps: 600.0", "line 15: training.steps: a whole number is needed, found 600.0"),
    "a truth for a count": ("steps: 600", "steps: true", "line 15: training.steps: a whole number is needed, found true"),
    "nothing for a count": ("steps: 600", "steps:", "line 15: training.steps: a whole number is needed, found null"),
    "a mapping for a count": (
        "steps: 600",
        "steps: {a: 1}",
        "line 15: training.steps: a whole number is needed, found a mapping",
    ),
    "a list for a count": (
        "steps: 600",
        "steps: [1, 2]",
        "line 15: training.steps: a whole number is needed, found a list of 2",
    ),
    "`no` for a count": (
        "vocabulary_size: 4096",
        "vocabulary_size: no",
        'line 8: tokens.tokenizer.vocabulary_size: a whole number is needed, found "no"',
    ),
    "a number for a text": (
        "builtin: sotu",
        "path: 3",
        "line 4: corpus.sources.0.path: text is needed, found 3: put it in quotes",
    ),
    "a number for a name": ("name: first", "name: 3", "line 1: name: text is needed, found 3: put it in quotes"),
    "an empty path": (
        "builtin: sotu",
        'path: ""',
        'line 4: corpus.sources.0.path: text of at least 1 character(s) is needed, found ""',
    ),
    "a number for a path of a tokenizer": (
        "vocabulary_size: 4096",
        "path: 3",
        "line 8: tokens.tokenizer.path: text is needed, found 3: put it in quotes",
    ),
    "a text for a section": (
        "checkpoints:\n  every: 100",
        "checkpoints: often",
        'line 23: checkpoints: a mapping of fields is needed, found "often"',
    ),
    "nothing for a section": (
        "tokenizer:\n    vocabulary_size: 4096",
        "tokenizer:",
        "line 7: tokens.tokenizer: a mapping of fields is needed, found null",
    ),
    "a mapping for a list": (
        "sources:\n    - builtin: sotu",
        "sources: {builtin: sotu}",
        "line 3: corpus.sources: a list is needed, found a mapping",
    ),
    "a number for a list": (
        "learning_rate: 3e-3",
        "learning_rate: 3e-3\n    betas: 0.9",
        "line 20: training.optimizer.betas: a list is needed, found 0.9",
    ),
    "a text in a list": (
        "learning_rate: 3e-3",
        "learning_rate: 3e-3\n    betas:\n    - 0.9\n    - much",
        'line 22: training.optimizer.betas.1: a number is needed, found "much"',
    ),
    "a list too short": (
        "learning_rate: 3e-3",
        "learning_rate: 3e-3\n    betas: [0.9]",
        "line 20: training.optimizer.betas.1: this is missing",
    ),
    "a list too long": (
        "learning_rate: 3e-3",
        "learning_rate: 3e-3\n    betas: [0.9, 0.8, 0.7]",
        "line 20: training.optimizer.betas: a list of at most 2 is needed, found a list of 3",
    ),
    "no source": (
        "sources:\n    - builtin: sotu",
        "sources: []",
        "line 3: corpus.sources: a list of at least 1 is needed, found an empty list",
    ),
    "a source of no kind": (
        "builtin: sotu",
        "file: a.txt",
        "line 4: corpus.sources.0: say what this source is: `builtin`, `path`, `dataset` or `neox`",
    ),
    "a source that is a text": (
        "builtin: sotu",
        "sotu",
        "line 4: corpus.sources.0: say what this source is: `builtin`, `path`, `dataset` or `neox`",
    ),
    "a source of two kinds": (
        "builtin: sotu",
        "builtin: sotu\n      path: a.txt",
        "line 5: corpus.sources.0.path: unknown field; known here: builtin, version, digest",
    ),
    "a missing field": ("  steps: 600\n", "", "line 14: training.steps: this is missing"),
    "a missing section": ("tokens:\n  tokenizer:\n    vocabulary_size: 4096\n", "", "tokens: this is missing"),
    "a field without which another cannot follow": (
        "  global_batch_size: 16\n  micro_batch_size: 8\n",
        "",
        "line 14: training.global_batch_size: this is missing",
    ),
    "an unknown preset": (
        "preset: sapling",
        "preset: pythia-14",
        "line 12: model.preset: there is no preset `pythia-14`; did you mean `pythia-14m`?",
    ),
    "no number": (
        "learning_rate: 3e-3",
        "learning_rate: .nan",
        "line 19: training.optimizer.learning_rate: a finite number is needed, found NaN",
    ),
    "an infinity": (
        "learning_rate: 3e-3",
        "learning_rate: 1e999",
        "line 19: training.optimizer.learning_rate: a finite number is needed, found Infinity",
    ),
    "below the bounds": (
        "learning_rate: 3e-3",
        "learning_rate: -1",
        "line 19: training.optimizer.learning_rate: a number above 0.0 is needed, found -1",
    ),
    "above the bounds": (
        "validation_fraction: 0.02",
        "validation_fraction: 1.0",
        "line 5: corpus.validation_fraction: a number below 1.0 is needed, found 1.0",
    ),
    "too few": ("steps: 600", "steps: 0", "line 15: training.steps: a number of at least 1 is needed, found 0"),
    "too many": (
        "steps: 600",
        "steps: 9223372036854775808",
        "line 15: training.steps: a number below 9223372036854775808 is needed, found 9223372036854775808",
    ),
    "too many digits": ("steps: 600", "steps: " + "9" * 5000, "line 15: training.steps: this number cannot be read"),
    "a seed below zero": (
        "order:\n  seed: 1234",
        "order:\n  seed: -1",
        "line 10: order.seed: a number of at least 0 is needed, found -1",
    ),
    "none of the choices": (
        "name: cosine",
        "name: cosin",
        "line 21: training.schedule.name: "
        "one of 'cosine', 'linear', 'constant', 'neox-v1' or 'neox' is needed, found \"cosin\"",
    ),
    "a name that is a path": (
        "name: first",
        "name: ../first",
        'line 1: name: text of the form ^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$ is needed, found "../first"',
    ),
    "a branch for a commit": (
        "builtin: sotu",
        "dataset: org/set\n      revision: main",
        'line 5: corpus.sources.0.revision: text of the form ^[0-9a-f]{40}$ is needed, found "main"',
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_one_mistake_is_one_sentence_with_its_line(kind: str) -> None:
    old, new, sentence = SPOILT[kind]
    assert problems(with_change(old, new)) == (sentence,)


CONTRADICTORY = {
    "a batch that micro-batches do not fill": (
        "micro_batch_size: 8",
        "micro_batch_size: 7",
        "line 16: training.global_batch_size: 16 is not a multiple of micro_batch_size, 7",
    ),
    "a warmup that never ends": (
        "warmup_steps: 30",
        "warmup_steps: 600",
        "line 22: training.schedule.warmup_steps: 600 is not below training.steps, 600: the peak would never be reached",
    ),
    "a floor above the peak": (
        "warmup_steps: 30",
        "minimum_learning_rate: 0.1",
        "line 22: training.schedule.minimum_learning_rate: 0.1 is above optimizer.learning_rate, 0.003",
    ),
    "an attention kernel that no processor has": (
        "micro_batch_size: 8",
        "micro_batch_size: 8\n  attention: efficient",
        "line 18: training.attention: efficient needs training.device cuda; a processor has flash and math",
    ),
    "an attention kernel that computes in no fp32": (
        "micro_batch_size: 8",
        "micro_batch_size: 8\n  device: cuda\n  attention: flash",
        "line 19: training.attention: flash needs training.precision bf16 on a GPU; in fp32 it has efficient and math",
    ),
    "heads that do not divide the width": (
        "preset: sapling",
        "preset: sapling\n  num_attention_heads: 3",
        "line 11: model.hidden_size: 128 is not a multiple of num_attention_heads, 3",
    ),
    "an odd number of rotated dimensions": (
        "preset: sapling",
        "preset: sapling\n  rotary_pct: 0.1",
        "line 13: model.rotary_pct: 0.1 of a head of 32 rotates 3 dimensions; an even number ≥ 2 is needed",
    ),
    "sequences longer than positions": (
        "order:\n  seed: 1234",
        "order:\n  sequence_length: 512",
        "line 10: order.sequence_length: 512 is above model.max_position_embeddings, 256",
    ),
    "a vocabulary larger than the network's": (
        "vocabulary_size: 4096",
        "vocabulary_size: 5000",
        "line 8: tokens.tokenizer.vocabulary_size: 5000 is above model.vocab_size, 4096",
    ),
    "a step listed twice": ("every: 100", "every: 100\n  at: [1, 5, 2, 5]", "line 25: checkpoints.at: step 5 is listed twice"),
    "nothing kept on the way": (
        "every: 100",
        "every: 1000\n  at: []",
        "line 24: checkpoints.every: 1000 is above training.steps, 600, and `at` is empty",
    ),
    "a data set of the Hub without a commit": (
        "- builtin: sotu",
        "- builtin: sotu\n    - dataset: org/set",
        "line 5: corpus.sources.1.revision: a data set of the Hub is pinned to a commit (40 hexadecimal digits); "
        "a local folder starts with ./ or /, `org/set` does not",
    ),
}


@pytest.mark.parametrize("kind", CONTRADICTORY)
def test_numbers_that_contradict_each_other_are_named_together(kind: str) -> None:
    old, new, sentence = CONTRADICTORY[kind]
    assert problems(with_change(old, new)) == (sentence,)


def test_a_vocabulary_larger_than_the_token_type_is_refused() -> None:
    text = with_change("vocabulary_size: 4096", "vocabulary_size: 70000\n  token_type: uint16")
    text = text.replace("preset: sapling", "preset: sapling\n  vocab_size: 70000")
    assert problems(text) == (
        "line 9: tokens.token_type: uint16 holds vocabularies up to 65500; tokenizer.vocabulary_size is 70000",
    )
    assert parse_recipe(text.replace("token_type: uint16", "token_type: int32"), "r.yaml").model.vocab_size == 70000


def test_every_problem_is_named_at_once_in_the_order_of_the_lines() -> None:
    text = (
        RECIPE.replace("name: first", "name: 1st place")
        .replace("steps: 600", "stepps: 600")
        .replace("learning_rate: 3e-3", "learning_rate: fast")
    )
    text = text.replace("preset: sapling", "preset: sapling\n  num_attention_heads: 3").replace("every: 100", "every: 0")
    found = problems(text)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["line 1", "name"],
        ["line 11", "model.hidden_size"],  # a contradiction, found in a sound section although others are not
        ["line 15", "training.steps"],
        ["line 16", "training.stepps"],
        ["line 20", "training.optimizer.learning_rate"],
        ["line 25", "checkpoints.every"],
    ]


def test_contradictions_are_all_named_at_once() -> None:
    assert (
        len(
            problems(with_change("micro_batch_size: 8", "micro_batch_size: 7").replace("warmup_steps: 30", "warmup_steps: 900"))
        )
        == 2
    )


@pytest.mark.parametrize(
    ("settings", "kernel"),
    [
        ("device: cpu", "flash"),
        ("device: cpu\n  precision: bf16", "flash"),
        ("device: cuda\n  precision: bf16", "flash"),
        ("device: cuda", "efficient"),
        ("device: cuda\n  attention: math", "math"),
    ],
)
def test_the_attention_kernel_follows_from_device_and_precision_unless_it_is_named(settings: str, kernel: str) -> None:
    recipe = parse_recipe(with_change("micro_batch_size: 8", f"micro_batch_size: 8\n  {settings}"), "r.yaml")
    assert recipe.training.attention == kernel


def test_heads_too_large_for_flash_on_a_gpu_are_refused_and_smaller_ones_are_not() -> None:
    text = with_change("micro_batch_size: 8", "micro_batch_size: 8\n  device: cuda\n  precision: bf16")
    sentence = "training.attention: flash holds heads up to 256 on a GPU; model.hidden_size ÷ num_attention_heads is 512"
    (problem,) = problems(text.replace("preset: sapling", "preset: pythia-14m\n  hidden_size: 2048"))
    assert problem.endswith(sentence)
    parse_recipe(text.replace("preset: sapling", "preset: pythia-1b"), "r.yaml")


def test_a_wrong_device_is_one_problem_though_the_kernel_follows_from_it() -> None:
    assert len(problems(with_change("micro_batch_size: 8", "micro_batch_size: 8\n  device: tpu"))) == 1


@pytest.mark.parametrize("field", ["attention: flesh", "compiled: 1", "optimizer:\n    kernel: fused\n    learning_rate: 1"])
def test_a_kernel_that_is_not_offered_is_one_problem(field: str) -> None:
    text = RECIPE.replace("  optimizer:\n    learning_rate: 3e-3\n", "") if field.startswith("optimizer") else RECIPE
    assert len(problems(text.replace("  schedule:", f"  {field}\n  schedule:"))) == 1


def test_a_repeated_key_is_an_error_with_both_lines() -> None:
    assert problems(with_change("order:\n  seed: 1234", "order:\n  seed: 1\n  # again\n  seed: 2")) == (
        "line 12: order.seed: this field stands twice, first on line 10",
    )
    assert problems(RECIPE + "name: second\n") == ("line 25: name: this field stands twice, first on line 1",)
    assert problems(with_change("- builtin: sotu", '- {builtin: sotu, "builtin": sotu}')) == (
        "line 4: corpus.sources.0.builtin: this field stands twice, first on line 4",
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1e-3", 1e-3),
        ("1E-3", 1e-3),
        ("+1e-3", 1e-3),
        ("5e-1", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1", 1.0),
        ("001", 1.0),
        ("0x10", 16.0),
    ],
)
def test_numbers_are_read_as_yaml_1_2_writes_them(written: str, read: float) -> None:
    assert (
        parse_recipe(with_change("learning_rate: 3e-3", f"learning_rate: {written}"), "r.yaml").training.optimizer.learning_rate
        == read
    )


@pytest.mark.parametrize(
    "text", ["no", "yes", "on", "off", "y", "n", "2020-01-01", "12:30:45", "~a", "=", "<<", "1.2.3", "0o9"]
)
def test_a_text_stays_the_text_it_is(text: str) -> None:
    assert parse_recipe(RECIPE + f"card:\n  motivation: {text}\n", "r.yaml").card.motivation == text


def test_norwegian_stays_norwegian() -> None:
    assert parse_recipe(RECIPE + "card:\n  language: [no, en]\n", "r.yaml").card.language == ("no", "en")


MALFORMED = {
    "a tab": ("a:\n\tb: 1", "line 2: found character '\\t' that cannot start any token: indent with spaces"),
    "a bracket left open": ("name: [a", "line 1: expected ',' or ']', but got '<stream end>'"),
    "an unknown alias": ("name: *a", "line 1: found undefined alias 'a'"),
    "two documents": ("name: a\n---\nname: b", "line 2: expected a single document in the stream, but found another document"),
    "a control character": ("name: a\nb: \x01", "line 2: character U+0001 has no place in YAML"),
    "half a character": (
        'name: "\\ud800"',
        "line 1: name: half of a surrogate pair is no character; write the character itself, or \\U with 8 digits",
    ),
    "a merge key": ("a: &a {b: 1}\nc:\n  <<: *a", "line 3: c.<<: merge keys are YAML 1.1's: spell the fields out"),
    "a number for a field": ("3: a", "line 1: 3: a field's name is text, found 3: put it in quotes"),
    "a list for a field": ("[a, b]: c", "line 1: a field's name is text, found a list or a mapping"),
    "a python tag": (
        "name: !!python/object/apply:os.system [ls]",
        "line 1: name: a recipe has no tags, found !!python/object/apply:os.system",
    ),
    "a tag of one's own": ("name: !mine a", "line 1: name: a recipe has no tags, found !mine"),
    "a set": ("name: !!set {a, b}", "line 1: name: a recipe has no tags, found !!set"),
    "an ordered map": ("!!omap\n- a: 1", "line 1: a recipe has no tags, found !!omap"),
    "YAML 1.1": ("%YAML 1.1\n---\nname: no", "a recipe is YAML 1.2, found %YAML 1.1"),
    "YAML 3": ("%YAML 3.0\n---\nname: no", "line 1: found incompatible YAML document (version 1.* is required)"),
    "nothing": ("", "a recipe is a mapping of sections"),
    "only a comment": ("# later\n", "a recipe is a mapping of sections"),
    "a list": ("- name: a", "a recipe is a mapping of sections"),
    "a text": ("name", "a recipe is a mapping of sections"),
    "an alias in itself": (
        "name: &a\n  b: *a",
        "line 1: an alias stands inside what it names, or aliases nest more than 32 deep",
    ),
    "deep brackets": ("name: " + "[" * 100_000, "line 1: nested more than 32 deep"),
    "deep braces": ("name: " + "{a: " * 5000 + "1" + "}" * 5000, "line 1: nested more than 32 deep"),
    "deep indentation": ("\n".join(" " * depth + "a:" for depth in range(900)), "line 33: nested more than 32 deep"),
    "deep dashes": ("- " * 5000 + "1", "line 1: nested more than 32 deep"),
    "deep keys": ("? " * 5000 + "1", "line 1: nested more than 32 deep"),
    "too many values": ("name: [" + "1," * 30_000 + "]", "more than 10000 values"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_yaml_that_is_no_recipe_is_refused_with_a_sentence(kind: str) -> None:
    text, sentence = MALFORMED[kind]
    assert problems(text) == (sentence,)


def test_aliases_that_expand_without_end_are_refused_at_once() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for earlier, name in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f"{name}: &{name} [" + ",".join([f"*{earlier}"] * 10) + "]\n"
    assert problems(bomb) == ("aliases expand to more than 10000 values",)


def test_an_alias_gives_the_value_it_names() -> None:
    text = with_change("order:\n  seed: 1234", "order:\n  seed: &seed 77").replace(
        "preset: sapling\n  seed: 1234", "preset: sapling\n  seed: *seed"
    )
    recipe = parse_recipe(text, "r.yaml")
    assert recipe.order.seed == recipe.model.seed == 77


@pytest.mark.parametrize(
    "text", ["\ufeff" + RECIPE, RECIPE.replace("\n", "\r\n"), "%YAML 1.2\n---\n" + RECIPE, RECIPE + "...\n"]
)
def test_the_ways_editors_write_yaml_make_no_difference(text: str) -> None:
    assert parse_recipe(text, "r.yaml") == parse_recipe(RECIPE, "r.yaml")


def test_a_long_value_is_not_shown_whole() -> None:
    (problem,) = problems(with_change("steps: 600", "steps: " + "x" * 10_000))
    assert len(problem) < 200


def test_a_recipe_file_is_read_resolved(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = read_recipe(tmp_path / "r.yaml")
    assert recipe == parse_recipe(RECIPE, "r.yaml")
    assert recipe.order.sequence_length == 256  # follows from the model
    assert recipe.model.intermediate_size == 512


def test_what_is_no_recipe_file_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: caf\xe9".encode("latin-1"))
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    (tmp_path / "file").write_text("x")
    for path, problem in (
        (tmp_path / "absent.yaml", "there is no such recipe"),
        (tmp_path, "this is a folder"),
        (tmp_path / "latin.yaml", "not UTF-8"),
        (tmp_path / "large.yaml", "too large"),
        (tmp_path / "file" / "r.yaml", "cannot be read"),
        (Path("/dev/zero"), "too large"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            read_recipe(path)
        assert str(path) in str(caught.value)
        assert caught.value.exit_code == 2


def test_every_recipe_that_comes_with_treering_is_right(repository: Path) -> None:
    recipes = sorted((repository / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert read_recipe(path).name == path.stem


def test_sections_that_can_be_left_out_are_those_with_defaults(quickstart: str) -> None:
    required = {name for name, field in Recipe.model_fields.items() if field.default is PydanticUndefined}
    assert required == {"name", "corpus", "tokens", "order", "model", "training"}
    assert parse_recipe(quickstart, "quickstart.yaml").observe == Recipe.model_fields["observe"].default


@pytest.mark.parametrize(
    ("engine", "problem"),
    [
        ("{stage: 2}", "training.engine: say which engine this is: `name: treering`, `name: deepspeed` or `name: gpt-neox`"),
        ("{name: fsdp}", "training.engine: say which engine this is: `name: treering`, `name: deepspeed` or `name: gpt-neox`"),
        ("deepspeed", "training.engine: say which engine this is: `name: treering`, `name: deepspeed` or `name: gpt-neox`"),
        (
            "{name: [deepspeed]}",
            "training.engine: say which engine this is: `name: treering`, `name: deepspeed` or `name: gpt-neox`",
        ),
        ("{name: treering, stage: 1}", "training.engine.stage: unknown field; known here: name"),
        ("{name: deepspeed, stge: 1}", "training.engine.stge: unknown field; did you mean `stage`?"),
        ("{name: deepspeed, stage: 4}", "training.engine.stage: one of 1, 2 or 3 is needed, found 4"),
    ],
)
def test_a_wrong_engine_is_named_where_it_stands(quickstart: str, engine: str, problem: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_recipe(quickstart.replace("training:\n", f"training:\n  engine: {engine}\n", 1), "wrong.yaml")
    assert [found.split(": ", 1)[1] for found in refused.value.problems] == [problem]
