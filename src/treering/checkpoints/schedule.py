"""Which steps are kept."""

from treering.config.schema import CheckpointsSection


def planned_steps(section: CheckpointsSection, last: int) -> tuple[int, ...]:
    """Return the steps at which a run of `last` updates is kept, ascending; the last step is always among them."""
    regular = range(0, last + 1, section.every) if section.every <= last else ()
    return tuple(sorted({step for step in (*section.at, *regular, last) if step <= last}))


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint, revision and branch."""
    return f"step{step}"
