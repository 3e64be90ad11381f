"""The arithmetic of a run: what on a machine can change bits is set here, from the recipe, and described."""

import os

import torch

from treering.config.schema import TrainingSection
from treering.errors import EnvironmentMismatch
from treering.provenance.environment import launched_as

# Variables that the arithmetic libraries read. What is known to change no bit is left out of the record.
_LIBRARY_PREFIXES = (
    "ATEN_",
    "CUBLAS",
    "CUDNN_",
    "DNNL_",
    "GOMP_",
    "MKL_",
    "NVIDIA_TF32",
    "OMP_",
    "ONEDNN_",
    "TORCH_BLAS",
)
_WITHOUT_EFFECT = ("CUBLAS_WORKSPACE_CONFIG", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# These take threads away behind torch's back, so the recipe's number would not be the one that computes.
_THREAD_TAKERS = ("OMP_DYNAMIC", "OMP_THREAD_LIMIT", "MKL_DYNAMIC")


def set_arithmetic(threads: int) -> None:
    """Fix what can change bits: the number of threads, and deterministic kernels only.

    Args:
        threads: Threads inside one operation on a CPU; reductions depend on it.

    Raises:
        EnvironmentMismatch: When an environment variable would change that number behind torch's back.
    """
    if takers := [f"{name}={os.environ[name]}" for name in _THREAD_TAKERS if name in os.environ]:
        raise EnvironmentMismatch(
            "the environment limits the number of threads, which changes bits",
            expected=f"{threads} threads, as in the recipe",
            found=", ".join(takers),
            advice="unset it and run the same command again",
        )
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
    launched = launched_as()
    if training.device == "cuda" and launched is not None:
        return torch.device("cuda", launched.local_rank)
    return torch.device(training.device)


def describe_arithmetic(training: TrainingSection) -> dict[str, str | int]:
    """Return what of this machine and process can change bits, for the environment record."""
    limits = {name: os.environ[name] for name in sorted(os.environ) if _changes_bits(name)}
    device = torch.cuda.get_device_name() if training.device == "cuda" else "cpu"
    return {
        "device": device,
        "precision": training.precision,
        "threads": training.threads,
        "processor_capability": torch.backends.cpu.get_cpu_capability(),
        "limits": ", ".join(f"{name}={value}" for name, value in limits.items()) or "none",
    }


def _changes_bits(name: str) -> bool:
    return name.startswith(_LIBRARY_PREFIXES) and name not in _WITHOUT_EFFECT
