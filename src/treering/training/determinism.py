"""The arithmetic of a run: what on a machine can change bits is set here, from the recipe, and described."""

import importlib.metadata
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from treering.config.schema import TrainingSection
from treering.errors import EnvironmentMismatch
from treering.provenance.digests import digest_value
from treering.provenance.environment import describe_machine, launched_as

# Variables that the arithmetic libraries read. What is known to change no bit is left out of the record.
_LIBRARY_PREFIXES = (
    "ATEN_",
    "CUBLAS",
    "CUDNN_",
    "DISABLE_ADDMM_CUDA_LT",
    "DNNL_",
    "GOMP_",
    "MKL_",
    "NVIDIA_TF32",
    "OMP_",
    "ONEDNN_",
    "PYTORCH_TUNABLEOP",
    "TORCH_BLAS",
    "TORCH_CUBLASLT",
)
_WITHOUT_EFFECT = ("CUBLAS_WORKSPACE_CONFIG", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Read by torch.compile alone; where compiled code is kept is chosen below.
_COMPILER_PREFIXES = ("TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_COMPILE_", "TRITON_")
_CACHE = "TORCHINDUCTOR_CACHE_DIR"
# torch sets these itself when it compiles for a GPU: where code is kept, and the assembler, where it brings its own.
_PLACES = (_CACHE, "TRITON_CACHE_DIR")
_ASSEMBLER, _ASSEMBLER_OF_TORCH = "TRITON_PTXAS_PATH", str(Path(torch.__file__).parent / "bin" / "ptxas")
# These make torch.compile do nothing, without a word.
_COMPILER_STOPPERS = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE")
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
    torch.set_num_threads(threads)
    only_deterministic_kernels()


def only_deterministic_kernels() -> None:
    """Have torch compute with kernels that repeat their bits, in the precision that is asked for.

    On a GPU that is in time only before the first matrix product.
    """
    # Read by cuBLAS when its first handle is made; without it matrix products on a GPU are not repeatable.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory guards against reads of it, of which there are none here; it took a tenth of a small model's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cudnn.benchmark = False


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the process's own generators until the block ends, and put them back then: for code of others that draws."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def device_named(name: Literal["cpu", "cuda"]) -> torch.device:
    """Return a device of this machine.

    Raises:
        EnvironmentMismatch: When this machine has none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentMismatch(
            "this machine has no GPU that torch can use",
            expected="the device cuda, as asked for",
            found="a CPU",
            advice="run it on a machine with a GPU: the device changes bits, so it is not chosen for you",
        )
    return torch.device(name)


def open_device(training: TrainingSection) -> torch.device:
    """Return the device a recipe names, that of this process where there are several.

    Raises:
        EnvironmentMismatch: When this machine has none, or fewer GPUs than processes.
    """
    device = device_named(training.device)
    launched = launched_as()
    if training.device == "cpu" or launched is None:
        return device
    if launched.local_rank >= (there := torch.cuda.device_count()):
        raise EnvironmentMismatch(
            "this machine has fewer GPUs than processes",
            expected=f"a GPU for each process here; this one's LOCAL_RANK is {launched.local_rank}",
            found=f"{there} GPU{'s' if there != 1 else ''}",
            advice="start one process for each GPU, and have all of them see all of a machine's GPUs (CUDA_VISIBLE_DEVICES)",
        )
    return torch.device("cuda", launched.local_rank)


def tell_deepspeed(device: torch.device) -> None:
    """Have DeepSpeed take the device that the recipe names; it looks when it is imported, and again when it starts."""
    os.environ["DS_ACCELERATOR"] = device.type
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # a launcher's own stays


def describe_arithmetic(training: TrainingSection) -> dict[str, str | int]:
    """Return what of this machine and process can change bits, for the environment record.

    Raises:
        EnvironmentMismatch: When this machine lacks the recipe's device, or what compiles.
    """
    limits = {name: os.environ[name] for name in sorted(os.environ) if _changes_bits(name, training)}
    compiler = {"compiler": _compiler(training)} if training.compiled else {}
    return {
        **compiler,
        **_describe_device(device_named(training.device)),
        "precision": training.precision,
        "threads": training.threads,
        "processor_capability": torch.backends.cpu.get_cpu_capability(),
        "limits": ", ".join(f"{name}={value}" for name, value in limits.items()) or "none",
    }


def _describe_device(device: torch.device) -> dict[str, str]:
    if device.type == "cpu":
        return {"device": "cpu"}
    return {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda or "none"}


def keep_compiled_code_apart(training: TrainingSection) -> None:
    """Have torch keep compiled code where only runs of the same arithmetic find it.

    torch looks a compiled graph up by what it says, not by all it was compiled for: code made for other threads, another
    processor or another attention kernel would be taken, and compute other bits.

    Raises:
        EnvironmentMismatch: When the environment switches compiling off, or there is no compiler.
    """
    if stoppers := [f"{name}={os.environ[name]}" for name in _COMPILER_STOPPERS if name in os.environ]:
        raise EnvironmentMismatch(
            "the environment switches torch.compile off",
            expected="training.compiled: true, as in the recipe",
            found=", ".join(stoppers),
            advice="unset it and run the same command again",
        )
    compiled_for = [torch.__version__, training.attention, describe_machine(), describe_arithmetic(training)]
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    os.environ[_CACHE] = str(home / "treering" / "compiled" / digest_value(compiled_for).removeprefix("sha256:")[:16])


def _compiler(training: TrainingSection) -> str:
    """Return what compiles for the device, with its version; for a CPU Inductor takes the C++ compiler that CXX names."""
    if training.device == "cuda":
        try:
            return f"triton {importlib.metadata.version('triton')}"
        except importlib.metadata.PackageNotFoundError as error:
            raise _no_compiler("triton", "install torch with its `triton`") from error
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    try:
        version = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise _no_compiler(name, "install a C++ compiler (Debian: g++, macOS: the Xcode command line tools)") from error
    return next(iter(version.stdout.splitlines()), name)


def _no_compiler(name: str, advice: str) -> EnvironmentMismatch:
    return EnvironmentMismatch(
        "there is nothing here to compile with",
        expected="training.compiled: true, as in the recipe",
        found=f"no `{name}` that runs",
        advice=f"{advice}, or train without `compiled` in a recipe of another name: it changes bits",
    )


def _changes_bits(name: str, training: TrainingSection) -> bool:
    if training.compiled and name.startswith(_COMPILER_PREFIXES):
        return name not in _PLACES and (name, os.environ[name]) != (_ASSEMBLER, _ASSEMBLER_OF_TORCH)
    return name.startswith(_LIBRARY_PREFIXES) and name not in _WITHOUT_EFFECT
