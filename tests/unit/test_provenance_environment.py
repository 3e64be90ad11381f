"""The environment record, and where Hugging Face's cache is."""

import os
import platform
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import treering
from treering.provenance.canonical import canonical_json
from treering.provenance.environment import describe_machine, describe_software, hugging_face_cache


def test_software_is_named_with_its_version() -> None:
    software = describe_software()
    assert software["treering"] == treering.__version__
    assert software["python"] == platform.python_version()
    assert software["torch"].startswith("2.")
    assert "absent" not in software.values()


def test_every_package_named_is_a_dependency(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package in set(describe_software()) - {"treering", "python", "unicode"}:
        assert any(dependency.startswith((f"{package}>=", f"{package}==")) for dependency in project["dependencies"]), package


def test_neither_the_machines_name_nor_the_users_is_recorded() -> None:
    record = canonical_json({**describe_machine(), **describe_software()}).decode()
    assert socket.gethostname() not in record
    assert str(Path.home()) not in record
    assert set(describe_machine()) == {"system", "architecture", "processor"}


def test_the_record_is_the_same_each_time() -> None:
    assert describe_machine() == describe_machine()
    assert describe_software() == describe_software()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HF_HUB_CACHE": "/a/b"},
        {"HF_HUB_CACHE": "~/b"},
        {"HF_HUB_CACHE": "$HOME/b"},
        {"HUGGINGFACE_HUB_CACHE": "/c"},
        {"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/c", "HF_HOME": "/h"},
        {"HF_HOME": "/h"},
        {"HF_HOME": "~/h", "XDG_CACHE_HOME": "/x"},
        {"XDG_CACHE_HOME": "/x"},
        {"XDG_CACHE_HOME": "~/x"},
    ],
)
def test_the_cache_is_where_huggingface_hub_looks(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    script = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert hugging_face_cache() == Path(process.stdout.strip())
