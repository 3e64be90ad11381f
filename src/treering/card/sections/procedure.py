"""How the model was trained."""

from treering.card.claims import Claims
from treering.card.markdown import link
from treering.card.records import ENVIRONMENT, ORDER, TOKENS, TRAINING
from treering.config.schema import NEOX_ORDER, TREERING
from treering.order.order import ALGORITHM

_OPTIMIZER = "recipe.yaml#/training/optimizer"
_SCHEDULE = "recipe.yaml#/training/schedule"
_PRECISIONS = {
    "fp32": "fp32 arithmetic throughout",
    "bf16": "bf16 autocast over fp32 weights",
}
_IMPORTED_PRECISIONS = {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16 with loss scaling"}


# What epochs follow from: in GPT-NeoX's order the sequences are those of all epochs.
_EPOCHS = {
    ALGORITHM["name"]: (f"{TRAINING}#/positions", f"{ORDER}#/sequences"),
    NEOX_ORDER: (f"{TRAINING}#/tokens", f"{TOKENS}#/train/tokens"),
}


def epochs_read(claims: Claims, before: str) -> str:
    """Return how many epochs were trained on; nothing where data sets are blended, each of which has epochs of its own.

    Raises:
        ClaimError: When a record lacks a field that this needs.
    """
    if len(claims.value(f"{ORDER}#").get("maps", ())) > 1:
        return ""
    return f"{before}{claims.cite('ratio', *_EPOCHS[claims.value(f'{ORDER}#/algorithm/name')])} epochs"


def procedure(claims: Claims) -> str:
    """Return software, machine, amounts, optimizer and schedule of the training, and where its whole recipe is.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    recipe = link("`recipe.yaml`", "recipe.yaml")
    notes = ["", claims.quote("training_notes")] if claims.records.recipe.card.training_notes else []
    return "\n".join(
        [
            "### Procedure",
            "",
            _setting(claims),
            _amounts(claims),
            _optimizer(claims),
            _schedule(claims),
            _losses(claims),
            "",
            f"The complete training configuration is available at {recipe}, every default spelled out.",
            _seeds(claims),
            _course(claims),
            *notes,
        ]
    )


def _setting(claims: Claims) -> str:
    treering, torch, python = (
        claims.cite("text", f"{ENVIRONMENT}#/software/{package}") for package in ("treering", "torch", "python")
    )
    if imported(claims):
        computed = _IMPORTED_PRECISIONS[claims.value("recipe.yaml#/training/precision")]
        return f"GPT-NeoX computed the updates, in {computed}; its checkpoints were imported with treering {treering}."
    precision = _PRECISIONS[claims.value(f"{ENVIRONMENT}#/arithmetic/precision")]
    return f"Training used treering {treering} with PyTorch {torch} (Python {python}) on {_device(claims)}, in {precision}."


def imported(claims: Claims) -> bool:
    """Say whether the updates were computed by GPT-NeoX, elsewhere."""
    return claims.records.recipe.training.imported


def _device(claims: Claims) -> str:
    if claims.value(f"{ENVIRONMENT}#/arithmetic/device") != "cpu":
        return f"one {claims.cite('text', f'{ENVIRONMENT}#/arithmetic/device')}"
    processor = claims.cite("text", f"{ENVIRONMENT}#/machine/processor")
    architecture = claims.cite("text", f"{ENVIRONMENT}#/machine/architecture")
    kernels = claims.cite("text", f"{ENVIRONMENT}#/arithmetic/processor_capability")
    threads = claims.amount(f"{ENVIRONMENT}#/arithmetic/threads", "thread")
    return f"a CPU ({processor}, {architecture}, {kernels} kernels, {threads})"


def _amounts(claims: Claims) -> str:
    sequences, length = "recipe.yaml#/training/global_batch_size", f"{ORDER}#/sequence_length"
    steps = claims.amount(f"{TRAINING}#/steps", "step")
    tokens = claims.amount(f"{TRAINING}#/tokens", "token")
    operations = claims.cite("power of ten", f"{TRAINING}#/floating_point_operations")
    batch = claims.cite("product", sequences, length)
    shape = f"{claims.amount(sequences, 'sequence')} of {claims.amount(length, 'token')}"
    micro_batch = claims.cite("count", "recipe.yaml#/training/micro_batch_size")
    return (
        f"The model was trained for {steps} ({tokens}{epochs_read(claims, ', ')}, {operations} floating-point operations) "
        f"with a batch size of {batch} tokens ({shape}, {micro_batch} in each backward pass)."
    )


def _optimizer(claims: Claims) -> str:
    first, second = (claims.cite("exact", f"{_OPTIMIZER}/betas/{index}") for index in (0, 1))
    eps, decay = claims.cite("exact", f"{_OPTIMIZER}/eps"), claims.cite("exact", f"{_OPTIMIZER}/weight_decay")
    clip = "without gradient clipping"
    if claims.value(f"{_OPTIMIZER}/gradient_clip") is not None:
        clip = f"gradients clipped to a norm of {claims.cite('exact', f'{_OPTIMIZER}/gradient_clip')}"
    return (
        f"The optimizer was AdamW (betas {first} and {second}, ε {eps}, "
        f"weight decay {decay} on matrices and embeddings and none on biases and LayerNorms), {clip}."
    )


def _schedule(claims: Claims) -> str:
    peak = claims.cite("exact", f"{_OPTIMIZER}/learning_rate")
    floor = claims.cite("exact", f"{_SCHEDULE}/minimum_learning_rate")
    shapes = {
        "cosine": f"a cosine schedule that ends at {floor}",
        "linear": f"a linear schedule that ends at {floor}",
        "constant": "a constant schedule",
        "neox-v1": f"GPT-NeoX's first cosine schedule (`neox-v1`: towards zero over all steps, but never below {floor})",
        "neox": f"GPT-NeoX's present cosine schedule (`neox`), which ends at {floor}",
    }
    warmup = "without warmup"
    if claims.value(f"{_SCHEDULE}/warmup_steps"):
        warmup = f"after {claims.amount(f'{_SCHEDULE}/warmup_steps', 'step')} of linear warmup"
    return f"The peak learning rate was {peak}, with {shapes[claims.value(f'{_SCHEDULE}/name')]} {warmup}."


def _losses(claims: Claims) -> str:
    if imported(claims):
        return "Its losses are in no checkpoint, and not part of this release."
    first = claims.cite("loss", f"{TRAINING}#/first_loss_nats")
    last = claims.cite("loss", f"{TRAINING}#/mean_loss_nats_last_tenth")
    return f"The training loss was {first} nats per token at the first update and {last} on average over the last tenth."


def _seeds(claims: Claims) -> str:
    weights, order = claims.cite("as it is", "recipe.yaml#/model/seed"), claims.cite("as it is", f"{ORDER}#/seed")
    if imported(claims):
        return f"First weights were drawn by GPT-NeoX; the order of the data comes from the data seed {order}."
    return f"First weights come from the weight seed {weights}, the order of the data from the data seed {order}."


def engines(claims: Claims) -> list[str]:
    """Return what computed the updates, in the order of the first of each.

    Raises:
        ClaimError: When the record does not say.
    """
    return claims.value(f"{TRAINING}#/engines")


def _compared(claims: Claims) -> str:
    found = claims.value(f"{TRAINING}#/compared")
    told = "GPT-NeoX's own configuration of the last checkpoint says the same of model, order and updates as the recipe"
    if not found["configuration"]:
        told = "Model, order and updates are as the recipe says; GPT-NeoX's own configuration was not there to be compared with"
    maps = claims.amount(f"{TRAINING}#/compared/index_maps", "file")
    return (
        f"{told}; {maps} of its index maps lay beside the data, and were equal to the run's."
        if found["index_maps"]
        else f"{told}."
    )


def _course(claims: Claims) -> str:
    digest = claims.cite("code", f"{TRAINING}#/run_digest")
    if imported(claims):
        files = "Which of its files each checkpoint was made from, with their digests, is in `training/imported/`"
        return f"{files} (run digest {digest}). {_compared(claims)}"
    whole = f"One recipe holds from the first step to the last (run digest {digest})"
    if (found := engines(claims)) == [TREERING]:
        return f"{whole}; a restart leaves no trace in the weights."
    named = " and ".join(claims.cite("text", f"{TRAINING}#/engines/{index}") for index in range(len(found)))
    return (
        f"{whole}. Updates were computed by {named}, as the ledger says of each; DeepSpeed adds gradients in an order that "
        "depends on the number of processes, so that such updates, computed again, agree within rounding and not bit by bit."
    )
