"""The native module: loading, thread pool, instruction sets, self test."""

import dataclasses
import importlib.metadata
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from devices import with_threads

from latentjac import kernels
from latentjac.kernels import native


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_self_test_passes():
    failed = [result for result in kernels.self_test() if not result.passed]
    assert not failed


def test_build_info_is_complete():
    info = kernels.build_info()
    assert dataclasses.is_dataclass(info)
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.native = False
    if info.native:
        assert info.why_not == ""
        assert info.compiler
        assert info.instruction_set in info.instruction_sets
        assert Path(info.path).is_file()
        assert bool(info.nvcc) == info.cuda_built == bool(info.cuda_architectures)
    else:
        assert info.why_not


def test_torch_governs_the_thread_pool(native_module):
    assert with_threads(native_module.max_threads, (1, 3, 2)) == [1, 3, 2]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc/self/maps")
def test_one_openmp_runtime_is_loaded(native_module):
    maps = Path("/proc/self/maps").read_text().splitlines()
    runtimes = {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line or "libiomp" in line}
    assert len(runtimes) == 1, runtimes


def test_calls_from_other_threads():
    x = torch.randn(4, 50, 32)
    expected = kernels.norm_act_primal(x, groups=4, activation="silu").y
    found = [None] * 4

    def work(i):
        found[i] = kernels.norm_act_primal(x, groups=4, activation="silu").y

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(torch.allclose(y, expected, atol=1e-6) for y in found)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_right(native_module, isa):
    code = (
        "from latentjac import kernels as k; info = k.build_info();"
        "bad = [r for r in k.self_test() if not r.passed]; print(info.instruction_set, bad); assert not bad"
    )
    result = run_python(code, LATENTJAC_ISA=isa)
    if "not supported here" in result.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[0] == isa


def test_torch_can_be_demanded():
    result = run_python("from latentjac import kernels as k; i = k.build_info(); print(i.native, i.why_not)",
                        LATENTJAC_KERNELS="torch")  # fmt: skip
    assert result.stdout.strip() == "False LATENTJAC_KERNELS=torch asks for the reference implementations"


def test_an_unknown_choice_is_named():
    result = run_python("import latentjac.kernels", LATENTJAC_KERNELS="fast")
    assert "LATENTJAC_KERNELS must be one of auto, native, torch, got 'fast'" in result.stderr


NAME = "latentjac._native"


@pytest.fixture
def alone(monkeypatch):
    """No installed latentjac whose module could be taken."""
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: ())
    monkeypatch.setenv("LATENTJAC_KERNELS", "auto")


def test_another_interface_number_is_refused(alone, monkeypatch):
    other = SimpleNamespace(interface=native.INTERFACE + 1, __file__="/somewhere/_native.so")
    monkeypatch.setitem(sys.modules, NAME, other)
    loaded = native.load()
    assert loaded.module is None
    assert f"interface number {native.INTERFACE + 1}, this latentjac expects {native.INTERFACE}" in loaded.reason
    monkeypatch.setitem(sys.modules, NAME, other)
    monkeypatch.setenv("LATENTJAC_KERNELS", "native")
    with pytest.raises(
        ImportError, match=r"LATENTJAC_KERNELS=native, but the native module cannot be used: .*interface"
    ):
        native.load()


def test_a_missing_module_is_explained(alone, monkeypatch):
    monkeypatch.setitem(sys.modules, NAME, None)
    monkeypatch.setenv("LATENTJAC_KERNELS", "native")
    with pytest.raises(ImportError, match="no built module found: install latentjac with pip install"):
        native.load()


def test_a_broken_module_does_not_break_pure_torch(alone, monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            if name == NAME:
                raise ImportError("libmissing.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert "libmissing.so" in native.load().reason
