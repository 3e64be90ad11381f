"""Which steps are kept, and which of them whole."""

from treering.config.schema import CheckpointsSection


def planned_steps(section: CheckpointsSection, last: int) -> tuple[int, ...]:
    """Return the steps at which a run of `last` updates is kept, ascending; the last step is always among them."""
    regular = range(0, last + 1, section.every) if section.every <= last else ()
    return tuple(sorted({step for step in (*section.at, *regular, last) if step <= last}))


def resumable_steps(section: CheckpointsSection, last: int) -> tuple[int, ...]:
    """Return the planned steps from which training can go on: all whose moments are kept, and step 0, whose are zero."""
    return tuple(step for step in planned_steps(section, last) if step % section.resumable_every == 0 or step == last)


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint, revision and branch."""
    return f"step{step}"
