"""What no single field shows: numbers of a recipe that contradict each other."""

from collections.abc import Iterator
from typing import NamedTuple

from treering.config.schema import DatasetSource, ModelSection, Recipe, TrainedTokenizer, TrainingSection

LARGEST_UINT16_VOCABULARY = 65_500


class Contradiction(NamedTuple):
    """Where two parts of a recipe disagree, and a sentence with both numbers."""

    place: tuple[str, ...]
    sentence: str


def contradictions(recipe: Recipe) -> Iterator[Contradiction]:
    """Yield every contradiction between fields that are each well-formed."""
    yield from _in_model(recipe.model)
    yield from _in_training(recipe.training)
    yield from _across(recipe)


def _in_model(model: ModelSection) -> Iterator[Contradiction]:
    width, heads = model.hidden_size, model.num_attention_heads
    if width % heads:
        yield Contradiction(("model", "hidden_size"), f"{width} is not a multiple of num_attention_heads, {heads}")
    elif model.rotary_size < 2 or model.rotary_size % 2:
        yield Contradiction(
            ("model", "rotary_pct"),
            f"{model.rotary_pct} of a head of {model.head_size} rotates {model.rotary_size} dimensions; an even number ≥ 2 is needed",
        )


def _in_training(training: TrainingSection) -> Iterator[Contradiction]:
    batch, micro = training.global_batch_size, training.micro_batch_size
    if batch % micro:
        yield Contradiction(("training", "global_batch_size"), f"{batch} is not a multiple of micro_batch_size, {micro}")
    schedule, peak = training.schedule, training.optimizer.learning_rate
    if schedule.warmup_steps >= training.steps and schedule.warmup_steps > 0:
        yield Contradiction(
            ("training", "schedule", "warmup_steps"),
            f"{schedule.warmup_steps} is not below training.steps, {training.steps}: the peak would never be reached",
        )
    if schedule.minimum_learning_rate > peak:
        yield Contradiction(
            ("training", "schedule", "minimum_learning_rate"),
            f"{schedule.minimum_learning_rate} is above optimizer.learning_rate, {peak}",
        )


def _across(recipe: Recipe) -> Iterator[Contradiction]:
    length, positions = recipe.order.sequence_length, recipe.model.max_position_embeddings
    if length > positions:
        yield Contradiction(("order", "sequence_length"), f"{length} is above model.max_position_embeddings, {positions}")
    last, at = recipe.training.steps, recipe.checkpoints.at
    if len(set(at)) != len(at):
        yield Contradiction(("checkpoints", "at"), "a step is listed twice")
    tokenizer = recipe.tokens.tokenizer
    if isinstance(tokenizer, TrainedTokenizer):
        size = tokenizer.vocabulary_size
        if size > recipe.model.vocab_size:
            yield Contradiction(
                ("tokens", "tokenizer", "vocabulary_size"), f"{size} is above model.vocab_size, {recipe.model.vocab_size}"
            )
        if recipe.tokens.token_type == "uint16" and size > LARGEST_UINT16_VOCABULARY:
            yield Contradiction(
                ("tokens", "token_type"),
                f"uint16 holds vocabularies up to {LARGEST_UINT16_VOCABULARY}; tokenizer.vocabulary_size is {size}",
            )
    if recipe.checkpoints.every > last and not at:
        yield Contradiction(("checkpoints", "every"), f"{recipe.checkpoints.every} is above training.steps, {last}, and `at` is empty")
    for index, source in enumerate(recipe.corpus.sources):
        if isinstance(source, DatasetSource) and source.revision is None and not source.dataset.startswith((".", "/")):
            yield Contradiction(
                ("corpus", "sources", str(index), "revision"),
                f"a data set of the Hub is pinned to a commit (40 hexadecimal digits); a local folder starts with ./ or /, `{source.dataset}` does not",
            )
