"""A build that cannot work gives one sentence with the remedy and the switch."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77")  # what pyproject.toml asks of a build
ROOT = Path(__file__).parent.parent


def build(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path / "build")]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CXX": "/nowhere/c++"}, ["no working C++17 compiler", "install one", "LATENTJAC_NATIVE=off pip install ."]),
        ({"LATENTJAC_CUDA": "on", "CUDACXX": "/nowhere/nvcc"}, ["nvcc was not found", "LATENTJAC_CUDA=off"]),
        ({"LATENTJAC_NATIVE": "perhaps"}, ["LATENTJAC_NATIVE must be one of on, off, got 'perhaps'"]),
        ({"LATENTJAC_CUDA": "maybe"}, ["LATENTJAC_CUDA must be one of auto, on, off, got 'maybe'"]),
    ],
    ids=["no compiler", "no nvcc", "bad switch", "bad CUDA switch"],
)
def test_one_clear_sentence(tmp_path: Path, environment: dict[str, str], words: list[str]) -> None:
    done = build(tmp_path, **environment)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for word in words:
        assert word in last


def test_pure_pytorch_needs_no_compiler(tmp_path: Path) -> None:
    done = build(tmp_path, LATENTJAC_NATIVE="off", CXX="/nowhere/c++")
    assert done.returncode == 0, done.stderr
    built = {path.name for path in (tmp_path / "build").rglob("*")}
    assert "interface.py" in built
    assert not any(name.endswith((".so", ".pyd")) for name in built)


def test_architectures_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("setuptools.setup", lambda **given: None)
    arguments = runpy.run_path(str(ROOT / "setup.py"))["cuda_arguments"]
    monkeypatch.delenv("CUDAARCHS", raising=False)
    assert not any("ARCHITECTURES" in each for each in arguments("nvcc", "c++"))
    monkeypatch.setenv("CUDAARCHS", "80-real;90a-real")
    assert "-DCMAKE_CUDA_ARCHITECTURES=80-real;90a-real" in arguments("nvcc", "c++")
