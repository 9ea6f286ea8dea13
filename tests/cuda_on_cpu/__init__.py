"""Runs the CUDA kernels on the CPU: the same sources, compiled by a host compiler against the headers beside this.

Under :func:`emulated`, `latentjac.kernels` calls them for tensors of the CPU: the module that it finds has the
interface of `latentjac._native`. Every tensor that is made meanwhile lies in guarded memory (guarded.h) and starts as
NaN, and every call is made in both of the emulator's orders, which have to give the same bits.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch
from weakref import WeakSet

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from latentjac.kernels import native

HERE = Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
INCLUDE = [HERE, CSRC, Path(torch.__file__).parent / "include", sysconfig.get_path("include")]  # torch has pybind11
FLAGS = ["-std=c++17", "-fPIC", "-w", "-U_FORTIFY_SOURCE", "-DLATENTJAC_WITH_CUDA", *(f"-I{path}" for path in INCLUDE)]
# The emulator is short and does the arithmetic: it is worth more of the compiler's time than the kernels.
SOURCES = {
    **dict.fromkeys([HERE / "emulator.cpp"], "-O3"),
    **dict.fromkeys([*sorted((CSRC / "cuda").glob("*.cu")), HERE / "faults.cu"], "-O1"),
    **dict.fromkeys([HERE / "module.cpp", CSRC / "bind_cuda.cpp", CSRC / "fields.cpp"], "-O0"),
}
SHARED_ON_SM_80 = 163  # KB of shared memory that a block can have
_ADDRESSES = 1 << 40  # no size is as large, no array of a process lies lower
_EMPTY = ("aten.empty", "aten.new_empty")  # and those that begin so


class Guards(TorchDispatchMode):
    """Puts every new tensor of the CPU into guarded memory."""

    def __init__(self, module: ModuleType) -> None:
        super().__init__()
        self.module, self.held = module, WeakSet()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = op(*args, **kwargs)
        known = {_storage(t) for t in tree_leaves((args, kwargs)) if _plain(t)}
        empty = str(op).startswith(_EMPTY)
        return tree_map(lambda t: self._guarded(t, empty) if _plain(t) and _storage(t) not in known else t, out)

    def _guarded(self, t: torch.Tensor, empty: bool) -> torch.Tensor:
        size = t.untyped_storage().nbytes()
        if size == 0:
            return t
        memory = self.module.Guarded(size)
        self.held.add(memory)
        there = torch.frombuffer(memory, dtype=torch.uint8)
        if not empty:
            there.copy_(torch.empty(0, dtype=torch.uint8).set_(t.untyped_storage()))
        elif t.is_floating_point():
            there.view(t.dtype).fill_(torch.nan)
        return torch.empty(0, dtype=t.dtype).set_(there.untyped_storage(), t.storage_offset(), t.size(), t.stride())

    def of(self, addresses: Iterable[int]) -> list[Any]:
        """The memory that each address is in; one that is in none is refused."""
        found = []
        for address in addresses:
            (memory,) = [m for m in self.held if m.start <= address < m.start + memoryview(m).nbytes] or [None]
            assert memory is not None, "a kernel was given an array that is not in guarded memory"
            found.append(memory)
        return found


class Emulated:
    """Stands in for latentjac._native: for tensors of the CPU, each kernel is the one for CUDA.

    Attributes:
        calls: name and call of each that was made.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module, self.guards = module, Guards(module)
        self.kernels, self.types = {"cpu": module.kernels["cuda"]}, {"cpu": module.types["cuda"]}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        for name in module.kernels["cuda"]:
            setattr(self, name, partial(self._call, name))

    def jacobi_fits(self, rows: int, columns: int, device: None) -> bool:
        return self.module.jacobi_fits(rows, columns, 0)

    @contextmanager
    def shared_limit(self, kilobytes: int) -> Iterator[None]:
        """A device whose blocks have less shared memory than sm_80's."""
        self.module.limit_shared(kilobytes)
        try:
            yield
        finally:
            self.module.limit_shared(SHARED_ON_SM_80)

    def products(self) -> int:
        """Calls of mma, by all warps together, since this was last asked."""
        return self.module.products()

    def _call(self, name: str, threads: int, call: dict[str, Any]) -> None:
        """In both orders. RuntimeError with the kernel's own message, AssertionError where it wrote beside an array."""
        self.calls.append((name, call))
        arrays = self.guards.of(n for n in _numbers(call) if n >= _ADDRESSES)
        size = getattr(self.module, f"{name}_workspace")(0, call) if name in self.module.workspaces else 0
        before = [bytes(m) for m in arrays]
        self._run(name, size, call, arrays, backwards=False)
        first = [bytes(m) for m in arrays]
        for memory, value in zip(arrays, before, strict=True):
            memoryview(memory)[:] = value
        self._run(name, size, call, arrays, backwards=True)
        assert first == [bytes(m) for m in arrays], f"{name} depends on the order of threads"

    def _run(self, name: str, size: int, call: dict[str, Any], arrays: list[Any], backwards: bool) -> None:
        self.module.run_backwards(backwards)
        workspace = self.module.Guarded(size)
        memoryview(workspace)[:] = b"\xff" * size  # NaN
        getattr(self.module, f"cuda_{name}")(0, 0, workspace.start if size else 0, call)
        assert all(m.intact() for m in (*arrays, workspace)), f"{name} wrote beside an array"


@contextmanager
def emulated(module: ModuleType) -> Iterator[Emulated]:
    """Let `latentjac.kernels` take the emulated kernels, and everything new lie in guarded memory."""
    stand_in = Emulated(module)
    with patch.object(native, "LOADED", native.Loaded(stand_in, "", "native")), stand_in.guards:  # type: ignore[arg-type]
        yield stand_in


def compiler() -> str:
    """A host compiler; tests that need one fail without it."""
    for name in [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]:
        if shutil.which(name):
            return name
    raise RuntimeError("no C++ compiler to run the CUDA sources on the CPU; LATENTJAC_KERNELS=torch tests without them")


def build(folder: Path, objects: Path) -> ModuleType:
    """Compile the kernels with the emulator into one module in a folder.

    Object files that are there already are taken as they are; LATENTJAC_BUILD_DIR keeps them for the next run.
    """
    headers = [p for place in (CSRC, HERE) for p in sorted(place.rglob("*")) if p.suffix in {".h", ".cuh"}]
    shared = hashlib.sha256(b"".join(p.read_bytes() for p in headers) + repr((compiler(), FLAGS)).encode())
    kept = os.environ.get("LATENTJAC_BUILD_DIR")
    place = Path(kept) / "cuda_on_cpu" if kept else objects
    place.mkdir(parents=True, exist_ok=True)

    def compile_one(source: Path) -> str:
        key = shared.copy()
        key.update(source.read_bytes() + SOURCES[source].encode())
        target = place / f"{source.name}.{key.hexdigest()[:16]}.o"
        if not target.exists():
            unfinished = folder / f"{source.name}.o"
            command = [compiler(), *FLAGS, SOURCES[source], "-x", "c++", "-c", str(source), "-o", str(unfinished)]
            subprocess.run(command, check=True)
            shutil.move(unfinished, target)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = list(pool.map(compile_one, SOURCES))
    library = folder / "cuda_on_cpu_kernels.so"
    subprocess.run([compiler(), "-shared", "-o", str(library), *compiled], check=True)
    spec = importlib.util.spec_from_file_location("cuda_on_cpu_kernels", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plain(value: Any) -> bool:
    """Whether a value is a tensor with memory of the CPU; zeros of forward differentiation have none."""
    if type(value) is not torch.Tensor or value._is_zerotensor():
        return False
    return value.device.type == "cpu" and value.layout is torch.strided


def _storage(t: torch.Tensor) -> int:
    return t.untyped_storage().data_ptr()


def _numbers(value: Any) -> Iterator[int]:
    """All whole numbers of a call."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, int):
        yield value
