"""Which checkpoints there are, and how to load one."""

from collections.abc import Iterator

from treering.card.claims import Claims
from treering.card.markdown import bullets
from treering.card.numbers import plural
from treering.card.records import LEDGER, REVISIONS, TRAINING
from treering.card.required import repository
from treering.card.schedule import CheckpointSchedule, equal_weights
from treering.card.sections.introduction import title
from treering.card.sections.procedure import imported

_STEPS = f"{TRAINING}#/checkpoint_steps"
_EVERY = "recipe.yaml#/checkpoints/every"
_RESEARCH = (
    "How model capabilities develop over the course of training",
    "Memorization and forgetting dynamics",
    "The effect of specific training data on model behavior",
    "Checkpoint-level analysis of emergent properties",
)


def intermediate_checkpoints(claims: Claims) -> str:
    """Return how many checkpoints there are, an example of loading one, and the schedule with its irregularities.

    Raises:
        ClaimError: When a record lacks a field that this needs.
        FormatError: When a record is missing or cannot be read.
    """
    schedule = CheckpointSchedule(tuple(claims.value(_STEPS)), claims.value(_EVERY))
    return "\n".join(
        [
            "## Accessing Intermediate Checkpoints",
            "",
            _availability(claims, schedule),
            "These are stored as branches in this repository.",
            "",
            _example(claims),
            "",
            _saved(claims, schedule),
            "The `main` branch contains the final checkpoint.",
            *(_irregularities(claims, schedule)),
            "",
            f"This makes {title(claims)} suitable for research on:",
            "",
            bullets(_RESEARCH),
        ]
    )


def _availability(claims: Claims, schedule: CheckpointSchedule) -> str:
    number, last = claims.cite("length", _STEPS), claims.cite("last", _STEPS)
    noun = plural(len(schedule.steps), "checkpoint")
    start = f"step {claims.cite('first', _STEPS)}"
    if schedule.steps[0] == 0:
        start = f"initialization ({start})"
    return (
        f"One of the key features of this release is the availability of {number} intermediate training {noun}, "
        f"from {start} through the final training step (step {last})."
    )


def _example(claims: Claims) -> str:
    step, identifier = claims.cite("example step", _STEPS), repository(claims.records.recipe)
    return f'''\
```python
from transformers import AutoModelForCausalLM

# Load the model at step {step}
model = AutoModelForCausalLM.from_pretrained("{identifier}", revision="step{step}")
```'''


def _saved(claims: Claims, schedule: CheckpointSchedule) -> str:
    parts = []
    if schedule.multiples:
        parts.append(f"every {claims.amount(_EVERY, 'step')} up to step {claims.cite('last multiple', _STEPS, _EVERY)}")
    if schedule.steps[0] == 0:
        parts.append("at initialization")
    if schedule.powers:
        parts.append(f"at every power of two up to step {claims.cite('last power of two', _STEPS, _EVERY)}")
    if schedule.others:
        noun = plural(len(schedule.others), "step")
        parts.append(f"at {noun} {claims.cite('other steps', _STEPS, _EVERY)}")
    if schedule.steps[-1] not in (0, *schedule.multiples, *schedule.powers):
        parts.append("at the last step")
    joined = ", ".join(parts[:-1]) + (", and " if len(parts) > 1 else "") + parts[-1]
    return f"Checkpoints were saved {joined}."


def _irregularities(claims: Claims, schedule: CheckpointSchedule) -> list[str]:
    found = [*_in_spacing(claims, schedule), *_in_weights(claims)]
    return found or ["There are no exceptions to this schedule, and no two checkpoints hold the same weights."]


def _in_spacing(claims: Claims, schedule: CheckpointSchedule) -> Iterator[str]:
    if schedule.powers and schedule.multiples and schedule.multiples[0] < schedule.powers[-1]:
        yield "The two series interleave, so neighboring checkpoints are not evenly spaced."
    if schedule.multiples and schedule.steps[-1] % schedule.every:
        last, every = claims.cite("last", _STEPS), claims.cite("count", _EVERY)
        yield f"The final step, {last}, is not a multiple of {every}: training ended there."
    if schedule.missing:
        noun, verb = plural(len(schedule.missing), "step"), plural(len(schedule.missing), "was", "were")
        yield f"Against this schedule, {noun} {claims.cite('missing steps', _STEPS, _EVERY)} {verb} not kept."


def _because_of_gpt_neox(claims: Claims) -> str:
    training = claims.records.recipe.training
    if training.precision == "fp16":
        return " In fp16 GPT-NeoX passes over updates that overflow, mostly the first, and its first rate may be zero."
    return " GPT-NeoX's first rate is zero with this schedule." if training.schedule.name == "neox-v1" else ""


def _in_weights(claims: Claims) -> Iterator[str]:
    groups = equal_weights(claims.value(f"{REVISIONS}#/revisions"))
    if not groups:
        return
    because = ""
    if imported(claims):
        because = _because_of_gpt_neox(claims)
    elif ["step0", "step1"] in [names[:2] for names in groups] and claims.value(f"{LEDGER}#/1/learning_rate") == 0:
        because = f" The learning rate of the first update is {claims.cite('exact', f'{LEDGER}#/1/learning_rate')}."
    yield f"These checkpoints hold the same weights: {claims.cite('equal weights', f'{REVISIONS}#/revisions')}.{because}"
