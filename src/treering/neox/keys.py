"""Every key of a GPT-NeoX configuration that treering knows: what becomes of it.

Source:
    GPT-NeoX (EleutherAI), `megatron/neox_arguments/neox_args.py`, for names and defaults.
"""

# Read by `neox.configs`, each with GPT-NeoX's value where it is left out.
DEFAULTS: dict[str, object] = {
    "num_layers": None,
    "hidden_size": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "seq_length": None,
    "max_position_embeddings": None,
    "pos_emb": "learned",
    "rotary_pct": 1.0,
    "rotary_emb_base": 10000,
    "no_weight_tying": False,
    "gpt_j_residual": False,
    "gpt_j_tied": False,
    "norm": "layernorm",
    "layernorm_epsilon": 1e-5,
    "activation": "gelu",
    "bias_gelu_fusion": False,
    "use_bias_in_attn_linear": True,
    "attention_config": None,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "make_vocab_size_divisible_by": 128,
    "init_method": "normal",
    "output_layer_init_method": "scaled_normal",
    "init_method_std": 0.02,
    "seed": 1234,
    "optimizer": None,
    "min_lr": 0.0,
    "weight_decay": 0.1,
    "gradient_clipping": 1.0,
    "lr_decay_style": "linear",
    "lr_decay_iters": None,
    "warmup": 0.01,
    "train_iters": None,
    "train_batch_size": None,
    "train_micro_batch_size_per_gpu": None,
    "gradient_accumulation_steps": 1,
    "model_parallel_size": 1,
    "pipe_parallel_size": 0,
    "fp16": None,
    "bf16": None,
    "precision": None,
    "checkpoint_factor": None,
    "extra_save_iters": (),
    "checkpoint_activations": False,
    "train_data_paths": None,
    "train_data_weights": None,
    "valid_data_paths": None,
    "test_data_paths": None,
    "data_path": None,
}
NUMBERS = frozenset(
    (
        *("num_layers", "hidden_size", "num_attention_heads", "intermediate_size", "seq_length", "max_position_embeddings"),
        *(
            "rotary_pct",
            "rotary_emb_base",
            "layernorm_epsilon",
            "hidden_dropout",
            "attention_dropout",
            "init_method_std",
            "seed",
        ),
        *("make_vocab_size_divisible_by", "min_lr", "weight_decay", "gradient_clipping", "lr_decay_iters", "warmup"),
        *("train_iters", "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"),
        *("model_parallel_size", "pipe_parallel_size", "checkpoint_factor"),
    )
)
ALIASES = {"gas": "gradient_accumulation_steps"}

_SPREAD = "how work and state were spread over GPUs"
_MEMORY = "when layers are computed again to save memory: no result depends on it"
_KERNEL = "a faster kernel of the same operation"
_WATCHED = "what was logged, saved or looked at"
_PLACE = "where files and machines were"
IRRELEVANT: dict[str, str] = {
    **dict.fromkeys(
        ("zero_optimization", "output_layer_parallelism", "distributed_backend", "local_rank", "sequence_parallel"), _SPREAD
    ),
    **dict.fromkeys(("checkpoint_num_layers", "partition_activations", "synchronize_each_layer", "checkpoint_in_cpu"), _MEMORY),
    **dict.fromkeys(
        ("scaled_upper_triang_masked_softmax_fusion", "scaled_masked_softmax_fusion", "bias_dropout_fusion", "rope_fusion"),
        _KERNEL,
    ),
    **dict.fromkeys(
        (
            "log_interval",
            "steps_per_print",
            "wall_clock_breakdown",
            "eval_interval",
            "eval_iters",
            "keep_last_n_checkpoints",
            "valid_data_weights",
            "test_data_weights",
            "tensorboard_dir",
            "log_dir",
            "use_wandb",
            "wandb_project",
            "wandb_team",
            "wandb_group",
            "wandb_host",
        ),
        _WATCHED,
    ),
    **dict.fromkeys(
        (
            "launcher",
            "deepspeed_slurm",
            "hostfile",
            "save",
            "load",
            "vocab_file",
            "merge_file",
            "tokenizer_type",
            "num_workers",
        ),
        _PLACE,
    ),
    "split": "a share of `data-path`, which is not read; documents are held out as the recipe says",
    "data_impl": "how tokens lay on the disk",
    "comment": "a comment",
}
