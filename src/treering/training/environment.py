"""Where a run is trained, and whether this is still such a place."""

from typing import Any

from treering.config.run_directory import RunDirectory
from treering.errors import EnvironmentMismatch
from treering.provenance.canonical import read_record, write_record
from treering.provenance.environment import describe_machine, describe_software
from treering.training.determinism import describe_arithmetic

_ENVIRONMENT = ("environment", 1)
# Of the software recorded, what computes weights; the rest is for the reader.
_SOFTWARE_THAT_COMPUTES = ("treering", "python", "numpy", "torch")


def record_environment(run: RunDirectory) -> None:
    """Write down where a run is begun, or compare this place with that.

    Raises:
        EnvironmentMismatch: When what can change bits is not as it was.
    """
    path, found = run.stage("training") / "environment.json", describe_environment(run)
    if not path.exists():
        write_record(path, *_ENVIRONMENT, found)
        return
    differing = environment_differences(run)
    if differing:
        raise EnvironmentMismatch(
            "this run was begun in another environment, and going on in this one could change bits",
            where=run.path,
            expected=f"the environment in {path}",
            found="(recorded ≠ here) " + "; ".join(differing),
            advice="go on where it was begun, or train anew under another name",
        )


def environment_differences(run: RunDirectory) -> list[str]:
    """Return what can change bits and is not here as it was where the run was begun, each with both values.

    Raises:
        FormatError: When no environment was recorded.
    """
    recorded = read_record(run.stage("training") / "environment.json", *_ENVIRONMENT)
    before, here = that_computes(recorded), that_computes(describe_environment(run))
    return [f"{name}: {before.get(name)} ≠ {here.get(name)}" for name in here if before.get(name) != here[name]]


def describe_environment(run: RunDirectory) -> dict[str, Any]:
    """Return this machine, its software and its arithmetic under a run's recipe."""
    return {
        "software": describe_software(),
        "machine": describe_machine(),
        "arithmetic": describe_arithmetic(run.recipe.training),
    }


def that_computes(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what of an environment can change bits."""
    software = {name: environment["software"].get(name) for name in _SOFTWARE_THAT_COMPUTES}
    return {**software, **environment["machine"], **environment["arithmetic"]}
