"""What no single field shows: numbers of a recipe that contradict each other."""

import os.path
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from treering.config.schema import (
    NEOX_ORDER,
    CheckpointsSection,
    CorpusSection,
    DatasetSource,
    DeepSpeedEngine,
    IndexedSource,
    ModelSection,
    OrderSection,
    TokensSection,
    TrainedTokenizer,
    TrainingSection,
)
from treering.config.yaml_text import Problem

MOST_CHECKPOINTS = 100_000
LARGEST_FLASH_HEAD = 256  # on a GPU
LARGEST_UINT16_VOCABULARY = 65_500


def contradictions(sections: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield every contradiction between fields that are each well-formed.

    Args:
        sections: A recipe's sections by name; what concerns an absent one is passed over.
    """
    for names, check in _CHECKS:
        if all(name in sections for name in names):
            yield from check(*(sections[name] for name in names))


def _unpinned_sources(corpus: CorpusSection) -> Iterator[Problem]:
    for index, source in enumerate(corpus.sources):
        if isinstance(source, DatasetSource) and source.revision is None and not source.dataset.startswith((".", "/")):
            yield Problem(
                ("corpus", "sources", index, "revision"),
                "a data set of the Hub is pinned to a commit (40 hexadecimal digits); "
                f"a local folder starts with ./ or /, `{source.dataset}` does not",
            )


def _tokens_stay_as_they_are(corpus: CorpusSection) -> Iterator[Problem]:
    if not corpus.indexed:
        return
    if len(corpus.indexed) < len(corpus.sources):
        number = next(index for index, source in enumerate(corpus.sources) if source not in corpus.indexed)
        yield Problem(("corpus", "sources", number), "is text, but others are tokens (`neox`): one corpus is one or the other")
    for field, only in (("normalisation", "none"), ("deduplication", "none"), ("minimum_characters", 1)):
        if (found := getattr(corpus, field)) != only:
            yield Problem(("corpus", field), f"{found} cannot be done to tokens (`neox`), which are taken as they are: {only}")
    for number, source in enumerate(corpus.indexed):
        if source.validation is None and source.validation_digest is not None:
            yield Problem(("corpus", "sources", number, "validation_digest"), "there is no `validation` that it could be of")


def _held_out_is_not_trained_on(corpus: CorpusSection) -> Iterator[Problem]:
    trained = [os.path.normpath(source.neox) for source in corpus.indexed]
    for number, source in enumerate(corpus.indexed):
        if source.validation is not None and os.path.normpath(source.validation) in trained:
            yield Problem(("corpus", "sources", number, "validation"), "is trained on too, so nothing of it is held out")


def _tokens_have_a_tokenizer(corpus: CorpusSection, tokens: TokensSection) -> Iterator[Problem]:
    if corpus.indexed and isinstance(tokens.tokenizer, TrainedTokenizer):
        yield Problem(("tokens", "tokenizer"), "tokens (`neox`) were made with a tokenizer: name its tokenizer.json, as `path`")


def _order_is_possible(corpus: CorpusSection, order: OrderSection) -> Iterator[Problem]:
    if order.name != NEOX_ORDER:
        for number, source in enumerate(corpus.indexed):
            if source.weight != 1.0:
                yield Problem(
                    ("corpus", "sources", number, "weight"), f"blending is GPT-NeoX's: it needs order.name {NEOX_ORDER}"
                )
    elif order.seed >= 2**32:
        yield Problem(("order", "seed"), f"{order.seed} is not below 2³², which {NEOX_ORDER} needs")


def _token_type_holds_vocabulary(tokens: TokensSection) -> Iterator[Problem]:
    tokenizer = tokens.tokenizer
    if not isinstance(tokenizer, TrainedTokenizer) or tokens.token_type != "uint16":
        return
    if tokenizer.vocabulary_size > LARGEST_UINT16_VOCABULARY:
        yield Problem(
            ("tokens", "token_type"),
            f"uint16 holds vocabularies up to {LARGEST_UINT16_VOCABULARY}; "
            f"tokenizer.vocabulary_size is {tokenizer.vocabulary_size}",
        )


def _network_holds_vocabulary(tokens: TokensSection, model: ModelSection) -> Iterator[Problem]:
    tokenizer = tokens.tokenizer
    if isinstance(tokenizer, TrainedTokenizer) and tokenizer.vocabulary_size > model.vocab_size:
        yield Problem(
            ("tokens", "tokenizer", "vocabulary_size"),
            f"{tokenizer.vocabulary_size} is above model.vocab_size, {model.vocab_size}",
        )


def _sequences_fit_positions(order: OrderSection, model: ModelSection) -> Iterator[Problem]:
    length, positions = order.sequence_length, model.max_position_embeddings
    if length > positions:
        yield Problem(("order", "sequence_length"), f"{length} is above model.max_position_embeddings, {positions}")


def _heads_divide_width(model: ModelSection) -> Iterator[Problem]:
    width, heads = model.hidden_size, model.num_attention_heads
    if width % heads:
        yield Problem(("model", "hidden_size"), f"{width} is not a multiple of num_attention_heads, {heads}")
    elif model.rotary_size < 2 or model.rotary_size % 2:
        yield Problem(
            ("model", "rotary_pct"),
            f"{model.rotary_pct} of a head of {model.head_size} rotates {model.rotary_size} dimensions; "
            "an even number ≥ 2 is needed",
        )


def _micro_batches_fill_batch(training: TrainingSection) -> Iterator[Problem]:
    batch, micro = training.global_batch_size, training.micro_batch_size
    if batch % micro:
        yield Problem(("training", "global_batch_size"), f"{batch} is not a multiple of micro_batch_size, {micro}")


def _engine_takes_network(training: TrainingSection, model: ModelSection) -> Iterator[Problem]:
    if not isinstance(training.engine, DeepSpeedEngine):
        return
    if training.compiled:
        yield Problem(("training", "compiled"), "DeepSpeed's hooks cannot be compiled: compiled blocks need engine treering")
    if training.engine.stage == 3 and model.tie_word_embeddings:
        yield Problem(("training", "engine", "stage"), "3 cuts up the one matrix of tied embedding and head; take 1 or 2")


def _import_is_of_gpt_neox(training: TrainingSection, order: OrderSection) -> Iterator[Problem]:
    if training.imported and order.name != NEOX_ORDER:
        yield Problem(("order", "name"), f"{order.name}, but what GPT-NeoX trained it trained in its own order, {NEOX_ORDER}")


def _import_names_what_was_trained_on(training: TrainingSection, corpus: CorpusSection) -> Iterator[Problem]:
    if not training.imported:
        return
    for number, source in enumerate(corpus.sources):
        place = ("corpus", "sources", number)
        if not isinstance(source, IndexedSource):
            yield Problem(place, "is text, but GPT-NeoX trained on tokens: name its data sets (`neox`)")
        elif source.validation is None:
            yield Problem(place, "GPT-NeoX trained on all of a data set: name another one to hold out, as `validation`")


def _precision_is_there(training: TrainingSection) -> Iterator[Problem]:
    if training.precision == "fp16" and not training.imported:
        yield Problem(("training", "precision"), "fp16 is only of runs that GPT-NeoX trained; treering trains in fp32 or bf16")


def _device_has_kernel(training: TrainingSection) -> Iterator[Problem]:
    place = ("training", "attention")
    if training.attention == "efficient" and training.device == "cpu":
        yield Problem(place, "efficient needs training.device cuda; a processor has flash and math")
    if training.attention == "flash" and training.device == "cuda" and training.precision == "fp32":
        yield Problem(place, "flash needs training.precision bf16 on a GPU; in fp32 it has efficient and math")


def _kernel_holds_head(training: TrainingSection, model: ModelSection) -> Iterator[Problem]:
    if training.attention == "flash" and training.device == "cuda" and model.head_size > LARGEST_FLASH_HEAD:
        yield Problem(
            ("training", "attention"),
            f"flash holds heads up to {LARGEST_FLASH_HEAD} on a GPU; "
            f"model.hidden_size ÷ num_attention_heads is {model.head_size}",
        )


def _schedule_reaches_peak(training: TrainingSection) -> Iterator[Problem]:
    schedule, peak = training.schedule, training.optimizer.learning_rate
    if schedule.warmup_steps >= training.steps and schedule.warmup_steps > 0:
        yield Problem(
            ("training", "schedule", "warmup_steps"),
            f"{schedule.warmup_steps} is not below training.steps, {training.steps}: the peak would never be reached",
        )
    if schedule.minimum_learning_rate > peak:
        yield Problem(
            ("training", "schedule", "minimum_learning_rate"),
            f"{schedule.minimum_learning_rate} is above optimizer.learning_rate, {peak}",
        )


def _steps_listed_once(checkpoints: CheckpointsSection) -> Iterator[Problem]:
    if repeated := [step for index, step in enumerate(checkpoints.at) if step in checkpoints.at[:index]]:
        yield Problem(("checkpoints", "at"), f"step {repeated[0]} is listed twice")


def _something_is_kept(training: TrainingSection, checkpoints: CheckpointsSection) -> Iterator[Problem]:
    if (kept := training.steps // checkpoints.every) > MOST_CHECKPOINTS:
        yield Problem(
            ("checkpoints", "every"),
            f"{checkpoints.every} keeps {kept} checkpoints of {training.steps} steps; the most is {MOST_CHECKPOINTS}",
        )
    if checkpoints.every > training.steps and not checkpoints.at:
        yield Problem(
            ("checkpoints", "every"), f"{checkpoints.every} is above training.steps, {training.steps}, and `at` is empty"
        )


_CHECKS: tuple[tuple[tuple[str, ...], Callable[..., Iterator[Problem]]], ...] = (
    (("corpus",), _unpinned_sources),
    (("corpus",), _tokens_stay_as_they_are),
    (("corpus",), _held_out_is_not_trained_on),
    (("corpus", "tokens"), _tokens_have_a_tokenizer),
    (("corpus", "order"), _order_is_possible),
    (("tokens",), _token_type_holds_vocabulary),
    (("tokens", "model"), _network_holds_vocabulary),
    (("order", "model"), _sequences_fit_positions),
    (("model",), _heads_divide_width),
    (("training",), _micro_batches_fill_batch),
    (("training", "model"), _engine_takes_network),
    (("training", "order"), _import_is_of_gpt_neox),
    (("training", "corpus"), _import_names_what_was_trained_on),
    (("training",), _precision_is_there),
    (("training",), _device_has_kernel),
    (("training", "model"), _kernel_holds_head),
    (("training",), _schedule_reaches_peak),
    (("checkpoints",), _steps_listed_once),
    (("training", "checkpoints"), _something_is_kept),
)
