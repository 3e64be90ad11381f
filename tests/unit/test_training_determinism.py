"""What of a machine can change bits is set from the recipe and described."""

from pathlib import Path

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


def test_what_torch_sets_itself_when_it_compiles_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    training = resolve(training={"compiled": True}).training
    before = describe_arithmetic(training)["limits"]
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "somewhere")
    monkeypatch.setenv("TRITON_CACHE_DIR", "somewhere")
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(Path(torch.__file__).parent / "bin" / "ptxas"))
    assert describe_arithmetic(training)["limits"] == before
    for name, value in (("TRITON_PTXAS_PATH", "/usr/local/bin/ptxas"), ("TRITON_DEFAULT_FP_FUSION", "0")):
        monkeypatch.setenv(name, value)
        assert f"{name}={value}" in str(describe_arithmetic(training)["limits"])


@pytest.mark.parametrize(("rank", "there"), [(1, 1), (7, 4)])
def test_a_process_without_a_gpu_of_its_own_is_told_so(monkeypatch: pytest.MonkeyPatch, rank: int, there: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    places = {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    training = resolve(training={"device": "cuda"}).training
    with pytest.raises(EnvironmentMismatch, match=f"fewer GPUs than processes[\\s\\S]*{there} GPU"):
        open_device(training)
    monkeypatch.setenv("LOCAL_RANK", str(there - 1))
    assert open_device(training) == torch.device("cuda", there - 1)


def test_a_cpu_is_always_there() -> None:
    assert open_device(resolve().training) == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_reason_to_take_the_cpu() -> None:
    training = resolve(training={"device": "cuda"}).training
    with pytest.raises(EnvironmentMismatch, match="no GPU"):
        open_device(training)
    with pytest.raises(EnvironmentMismatch, match="no GPU"):
        describe_arithmetic(training)
    assert training_seconds(training, 10**12) is None


def test_the_estimate_grows_with_the_work() -> None:
    seconds = training_seconds(resolve().training, 10**12)
    assert seconds is not None
    assert 0 < seconds < 1e6
