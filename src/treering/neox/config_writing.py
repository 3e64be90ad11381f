"""Recipes to GPT-NeoX's configurations: the keys that train the same model."""

from pathlib import Path
from typing import Any

from treering.config.schema import NEOX_ORDER, LoadedTokenizer, Recipe
from treering.errors import RecipeError
from treering.order.neox_v1 import is_blended
from treering.tokens.tokenizer import load_tokenizer

_SCHEDULES = ("neox-v1", "neox")


def to_config(recipe: Recipe, gpus: int, tokens: Path) -> dict[str, Any]:
    """Return a configuration with which GPT-NeoX trains a recipe's model on its tokens: batch, schedule, spread, checkpoints.

    Args:
        tokens: The run's `tokens/`, whose files are in GPT-NeoX's own format.

    Raises:
        RecipeError: When GPT-NeoX has nothing for a field, or the batch cannot be spread over so many GPUs.
    """
    model, training = recipe.model, recipe.training
    problems: list[str] = []
    if training.schedule.name not in _SCHEDULES:
        problems.append(
            f"training.schedule.name: {training.schedule.name} is not GPT-NeoX's; it has {' and '.join(_SCHEDULES)}"
        )
    micro = training.micro_batch_size
    if training.micro_batches % gpus:
        problems.append(f"training: {training.micro_batches} micro-batches of {micro} cannot be spread evenly over {gpus} GPUs")
    if not isinstance(recipe.tokens.tokenizer, LoadedTokenizer):
        problems.append("tokens.tokenizer: is trained by treering; name the tokenizer.json it made, as `path`")
    if recipe.order.name == NEOX_ORDER and recipe.order.seed != model.seed:
        problems.append(f"order.seed is {recipe.order.seed}, model.seed {model.seed}: GPT-NeoX has one seed for both")
    if is_blended(recipe) and any(source.validation is None for source in recipe.corpus.indexed):
        problems.append(
            "corpus.sources: GPT-NeoX blends whole data sets; give each a `validation`, so that none is held out of it"
        )
    if problems:
        raise RecipeError(recipe.name, problems)
    optimizer, schedule = training.optimizer, training.schedule
    half = {"fp16": {"enabled": True, "type": "bfloat16"}} if schedule.name == "neox-v1" else {"bf16": {"enabled": True}}
    precisions = {"bf16": half, "fp16": {"fp16": {"enabled": True}}, "fp32": {"precision": "fp32"}}
    return {
        "pipe_parallel_size": 0,
        "model_parallel_size": 1,
        "num_layers": model.num_hidden_layers,
        "hidden_size": model.hidden_size,
        **({} if model.intermediate_size == 4 * model.hidden_size else {"intermediate_size": model.intermediate_size}),
        "num_attention_heads": model.num_attention_heads,
        "seq_length": recipe.order.sequence_length,
        "max_position_embeddings": model.max_position_embeddings,
        "pos_emb": "rotary",
        "rotary_pct": model.rotary_pct,
        "rotary_emb_base": model.rotary_emb_base,
        "no_weight_tying": not model.tie_word_embeddings,
        "gpt_j_residual": model.use_parallel_residual,
        "use_bias_in_attn_linear": model.attention_bias,
        "norm": "layernorm",
        "layernorm_epsilon": model.layer_norm_eps,
        "activation": "gelu",
        "bias_gelu_fusion": model.hidden_act == "gelu_pytorch_tanh",
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "make_vocab_size_divisible_by": _divisor(recipe),
        "init_method": model.initialisation.method,
        "output_layer_init_method": model.initialisation.output_method,
        "init_method_std": model.initialisation.standard_deviation,
        "seed": model.seed,
        "optimizer": {
            "type": "Adam",
            "params": {"lr": optimizer.learning_rate, "betas": list(optimizer.betas), "eps": optimizer.eps},
        },
        "min_lr": schedule.minimum_learning_rate,
        "weight_decay": optimizer.weight_decay,
        "gradient_clipping": optimizer.gradient_clip or 0.0,
        "lr_decay_style": "cosine",
        "train_iters": training.steps,
        "lr_decay_iters": training.steps,
        "warmup": schedule.warmup_steps / training.steps,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": training.micro_batches // gpus,
        **precisions[training.precision],
        "checkpoint_factor": recipe.checkpoints.every,
        "extra_save_iters": list(recipe.checkpoints.at),
        "checkpoint_activations": recipe.observe.recompute_layers,
        **_data(recipe, tokens),
        "tokenizer_type": "HFTokenizer",
        "vocab_file": str(Path(recipe.tokens.tokenizer.path).resolve())
        if isinstance(recipe.tokens.tokenizer, LoadedTokenizer)
        else "",
    }


def _data(recipe: Recipe, tokens: Path) -> dict[str, Any]:
    """Return where the tokens lie: those of the run, or the data sets that GPT-NeoX blends itself."""
    trained, held_out = [str(tokens / "train")], [str(tokens / "validation")]
    weights = [1.0]
    if is_blended(recipe):
        trained = [str(Path(source.neox).resolve()) for source in recipe.corpus.indexed]
        held_out = [str(Path(str(source.validation)).resolve()) for source in recipe.corpus.indexed]
        weights = [source.weight for source in recipe.corpus.indexed]
    return {
        "train_data_paths": trained,
        "train_data_weights": weights,
        "valid_data_paths": held_out,
        "test_data_paths": held_out,
        "data_impl": "mmap",
    }


def _divisor(recipe: Recipe) -> int:
    """Return what pads the tokenizer's vocabulary to the model's."""
    settings, size = recipe.tokens.tokenizer, recipe.model.vocab_size
    vocabulary = (
        load_tokenizer(Path(settings.path), padding=None).vocabulary_size if isinstance(settings, LoadedTokenizer) else size
    )
    padded = (divisor for divisor in (128, 256, 512, 1024) if -(-vocabulary // divisor) * divisor == size)
    return next(padded, size)
