"""Which steps are kept, and which of them whole."""

from treering.config.schema import Recipe


def planned_steps(recipe: Recipe) -> tuple[int, ...]:
    """Return the steps at which a run is kept, ascending; the last step is always among them.

    Multiples of `every` begin with 0; of a run that GPT-NeoX trained with `every` itself, as it saves them: there step 0 is
    kept where `at` names it.
    """
    section, last = recipe.checkpoints, recipe.training.steps
    first = section.every if recipe.training.imported else 0
    regular = range(first, last + 1, section.every) if section.every <= last else ()
    return tuple(sorted({step for step in (*section.at, *regular, last) if step <= last}))


def resumable_steps(recipe: Recipe) -> tuple[int, ...]:
    """Return the planned steps from which training can go on: all whose moments are kept, and step 0, whose are zero.

    Of a run that GPT-NeoX trained there are none.
    """
    if recipe.training.imported:
        return ()
    every, last = recipe.checkpoints.resumable_every, recipe.training.steps
    return tuple(step for step in planned_steps(recipe) if step % every == 0 or step == last)


def checkpoint_name(step: int) -> str:
    """Return the name of a step's checkpoint, revision and branch."""
    return f"step{step}"
