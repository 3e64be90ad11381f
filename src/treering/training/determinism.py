"""The arithmetic of a run: what on a machine can change bits is set here, from the recipe, and described."""

import os

import torch

from treering.config.schema import TrainingSection
from treering.errors import EnvironmentMismatch

_ENVIRONMENT_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def set_arithmetic(threads: int) -> None:
    """Fix what can change bits: the number of threads, and deterministic kernels only.

    Args:
        threads: Threads inside one operation on a CPU; reductions depend on it.
    """
    # Read by cuBLAS when its first handle is made; without it matrix products on a GPU are not repeatable.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory guards against reads of it, of which there are none here; it took a tenth of a small model's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False


def open_device(training: TrainingSection) -> torch.device:
    """Return the device a recipe names.

    Raises:
        EnvironmentMismatch: When this machine has none.
    """
    if training.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentMismatch(
            "this machine has no GPU that torch can use",
            expected="training.device: cuda, as in the recipe",
            found="a CPU",
            advice="run it on a machine with a GPU: the device changes bits, so it is not chosen for you",
        )
    return torch.device(training.device)


def describe_arithmetic(training: TrainingSection) -> dict[str, str | int]:
    """Return what of this machine and process can change bits, for the environment record."""
    limits = {name: os.environ[name] for name in _ENVIRONMENT_LIMITS if name in os.environ}
    device = torch.cuda.get_device_name() if training.device == "cuda" else "cpu"
    return {
        "device": device,
        "precision": training.precision,
        "threads": training.threads,
        "processor_capability": torch.backends.cpu.get_cpu_capability(),
        "limits": ", ".join(f"{name}={value}" for name, value in limits.items()) or "none",
    }
