"""What of a machine can change bits is set from the recipe and described."""

import pytest
import torch
from training_making import resolve

from treering.errors import EnvironmentMismatch
from treering.training.determinism import describe_arithmetic, open_device
from treering.training.estimate import training_seconds


def test_the_description_follows_the_recipe_and_the_processor() -> None:
    described = describe_arithmetic(resolve(training={"threads": 3, "precision": "bf16"}).training)
    assert described["threads"] == 3
    assert described["precision"] == "bf16"
    assert described["device"] == "cpu"
    assert described["processor_capability"] == torch.backends.cpu.get_cpu_capability()


def test_limits_on_the_processors_instructions_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR"):
        monkeypatch.delenv(name, raising=False)
    assert describe_arithmetic(resolve().training)["limits"] == "none"
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert describe_arithmetic(resolve().training)["limits"] == "ATEN_CPU_CAPABILITY=avx2, MKL_CBWR=COMPATIBLE"


def test_a_cpu_is_always_there() -> None:
    assert open_device(resolve().training) == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_reason_to_take_the_cpu() -> None:
    training = resolve(training={"device": "cuda"}).training
    with pytest.raises(EnvironmentMismatch, match="no GPU"):
        open_device(training)
    assert training_seconds(training, 10**12) is None


def test_the_estimate_grows_with_the_work() -> None:
    seconds = training_seconds(resolve().training, 10**12)
    assert seconds is not None
    assert 0 < seconds < 1e6
