"""Tensors that say they are on a GPU and compute on the CPU, so that code for a GPU runs where there is none.

As on a GPU, an operator refuses tensors of two devices, a generator of another device than its result, and NumPy. Where
the host would wait for a value, or copy one over, that is counted, and refused while passes are recorded. Kernels are
the reference implementations; a recording runs its function again. Memory, streams and speed are not there.

Networks are traced on the CPU.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from latentjac.kernels import guards, native
from latentjac.linearization.changes import modules_of
from latentjac.models import forwards

# latentjac.linearize is a function too.
compiled, engine, tracing = (import_module(f"latentjac.linearization.{n}") for n in ("compiled", "engine", "trace"))
CPU, META, GPU = torch.device("cpu"), torch.device("meta"), torch.device("cuda", 0)

# These tell the host a value, or have a size that depends on values; solvers of cuSOLVER tell whether they succeeded.
_READING = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "_linalg_check_errors"),
    *("_linalg_svd", "_linalg_eigh", "linalg_lstsq"),
}
_CROSSING = {"_to_copy", "copy_", "index", "index_put_", "_index_put_impl_"}
# Numbers of the CPU may meet tensors of a GPU in arithmetic, but not here.
_STRICT = ("cat", "stack", "mm", "bmm", "addmm", "baddbmm", "convolution", "gather", "scatter", "linalg", "_linalg")


class OnGpu(Tensor):
    """A tensor with values on the CPU under the name of a GPU; torch itself, which may know no GPU, takes it for meta.

    Attributes:
        held: The values.
    """

    held: Tensor
    device, is_cuda, is_cpu, is_meta = GPU, True, False, False
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=META
        )
        made.held = held
        return made

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __format__(self, how: str) -> str:
        return format(self.item(), how)

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=GPU)

    def __getitem__(self, index: Any) -> Tensor:
        return super().__getitem__(_brought(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_brought(index), value)

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a tensor on a GPU has no NumPy array: copy it to the CPU first")

    __array__ = numpy

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{op} outside of pretended_gpu")


def _settled(value: Tensor) -> Tensor:
    """A tensor without what torch puts off: conjugates, signs, and zeros that are not there."""
    value = torch.zeros(value.shape, dtype=value.dtype) if value._is_zerotensor() else value
    return value.resolve_conj().resolve_neg()


@functools.cache
def _described(op: Any) -> tuple[str, str, bool]:
    """An operator's name, alone and with its overload, and whether it writes to what it is given."""
    name = op._schema.name.removeprefix("aten::")
    return name, str(op), op._schema.is_mutable and name != "_local_scalar_dense"


def _held(value: Any, tensors: list[Tensor]) -> Any:
    """What operators are given, with what tensors hold in their place; the tensors are added to a list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.held if isinstance(value, OnGpu) else value
    if isinstance(value, (list, tuple)):
        return [_held(each, tensors) for each in value]
    return value


def _named(value: Any, known: dict[int, OnGpu]) -> Any:
    """What operators give, as tensors on the GPU; those that were written to as they were."""
    if isinstance(value, Tensor):
        return known[id(value)] if id(value) in known else OnGpu(_settled(value))
    if isinstance(value, (list, tuple)):
        return type(value)(_named(each, known) for each in value)
    return value


def _brought(index: Any) -> Any:
    """An index with its lists as tensors, which torch would make where it takes the indexed one to be."""
    if isinstance(index, list):
        return torch.tensor(index, device=GPU)
    return tuple(map(_brought, index)) if isinstance(index, tuple) else index


class Gpu(TorchDispatchMode):
    """Runs operators on what their tensors hold.

    Attributes:
        waits: How often the host waited for the GPU, by operator.
        copies: How often values of the host were copied over, by operator.
        recording: Whether both are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.recording = False
        self._launched: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, label, mutable = _described(op)
        tensors: list[Tensor] = []
        args = _held(args, tensors)
        kwargs = {key: _held(value, tensors) for key, value in (kwargs or {}).items()}
        device = kwargs.get("device")
        if mutable and tensors:
            result = tensors[0].device.type
        else:
            there = any(isinstance(t, OnGpu) for t in tensors) if device is None else device.type != "cpu"
            result = "cuda" if there else "cpu"  # torch's own code asks for a place like that of a tensor: meta
        self._launched[label] += result == "cuda"
        self._check(op, name, tensors, kwargs.get("generator"), result)
        if name == "_fused_sdp_choice":
            return 0  # the one that is made of other operators
        if device is not None:
            kwargs["device"] = CPU
        out = op(*args, **kwargs)
        if result == "cpu":
            return out
        return _named(out, {id(t.held): t for t in tensors if isinstance(t, OnGpu)})

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Operators whose results were on the GPU, by name."""
        self._launched = launched = Counter()
        yield launched

    def _check(self, op: Any, name: str, tensors: list[Tensor], generator: Any, result: str) -> None:
        there = [t for t in tensors if isinstance(t, OnGpu)]
        if result == "cuda" and isinstance(generator, torch.Generator) and generator.device.type == "cpu":
            raise RuntimeError(f"{op}: expected a generator of the GPU, got one of the CPU")
        masked = name in _CROSSING - {"_to_copy", "copy_"} and any(t.dtype == torch.bool for t in tensors[1:])
        if there and (name in _READING or masked or (name in _CROSSING and result == "cpu")):
            self._count(self.waits, op)
        mixed = bool(there) and len(there) < len(tensors)
        if name in _CROSSING:
            if result == "cuda" and len(there) < len(tensors):
                self._count(self.copies, op)
        elif mixed and (name.startswith(_STRICT) or any(t.ndim for t in tensors if t.device.type == "cpu")):
            raise RuntimeError(f"{op}: expected tensors of one device, got {[str(t.device) for t in tensors]}")

    def _count(self, counts: Counter[str], op: Any) -> None:
        counts[str(op)] += 1
        if self.recording:
            raise RuntimeError(f"{op}: not permitted while a stream is captured")

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        """As :class:`latentjac.recording.Recorder`."""
        run()
        self.recording = True
        try:
            result = run()
        finally:
            self.recording = False

        def replay() -> None:
            for old, new in zip(tree_leaves(result), tree_leaves(run()), strict=True):
                if isinstance(old, OnGpu):
                    old.held = new.held

        return replay, result


@contextmanager
def pretended_gpu() -> Iterator[Gpu]:
    """Have torch see a GPU, "cuda:0"."""
    gpu, stream = Gpu(), SimpleNamespace(cuda_stream=0, wait_event=lambda event: None, record_event=lambda: None)
    replaced = [
        (torch.cuda, "is_available", lambda: True),
        (torch.cuda, "current_stream", lambda device=None: stream),
        (torch.cuda, "synchronize", lambda device=None: None),
        (torch.cuda, "empty_cache", lambda: None),
        (torch.cuda, "mem_get_info", lambda device=None: (2**33, 2**33)),
        (torch.cuda, "memory_reserved", lambda device=None: 0),
        (torch.cuda, "memory_allocated", lambda device=None: 0),
        (guards, "_PLAIN", (Tensor, nn.Parameter, OnGpu)),
        (native, "LOADED", native.Loaded(None, "a GPU is pretended", "torch")),
        (engine, "CudaRecorder", lambda device: gpu),
        (forwards, "CudaRecorder", lambda device: gpu),
        (engine, "trace", trace_for_gpu),
    ]
    if torch.cuda.is_available():
        torch.cuda.init()
    else:
        replaced.append((torch.cuda, "_lazy_init", lambda: None))
    with ExitStack() as stack:
        for owner, name, value in replaced:
            stack.enter_context(patch.object(owner, name, value))
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor makes them on the CPU and copies them over
        stack.enter_context(gpu)
        yield gpu


def trace_for_gpu(f: Callable[..., Tensor], x: Tensor, constants: tuple[Any, ...]) -> Any:
    """The trace of a function where x is; for the GPU it is made on the CPU, with what f has in its closure there."""
    if not isinstance(x, OnGpu):
        return tracing.trace(f, x, constants)
    with _disable_current_modes(), _on_cpu(nn.ModuleList(modules_of(f))):
        return moved(tracing.trace(f, held(x), tuple(map(held, constants))))


def moved(trace: Any) -> Any:
    """A trace with its values and devices on the GPU; single numbers stay, as they do in the closure of a function."""
    calls = [
        replace(call, arguments={**call.arguments, "device": GPU}) if call.arguments.get("device") == CPU else call
        for call in trace.calls
    ]
    frozen = {slot: OnGpu(value) if value.ndim else value for slot, value in trace.frozen.items()}
    return replace(trace, calls=calls, frozen=frozen)


def check_on_gpu(lin: Any, v: Tensor, u: Tensor, recordable: bool = True, tolerance: float = 1e-10) -> None:
    """Compare both products of a program with those on the GPU, recorded and replayed, at its point."""
    x, constants, known = OnGpu(lin.x), [place(c) for c in lin._constants], moved(lin.program._trace)

    def evaluate(there: Any, x: Tensor, constants: tuple[Any, ...]) -> Tensor:
        with _disable_current_modes(), torch.no_grad():  # f has its weights on the CPU
            return OnGpu(lin._f(held(x), *map(held, constants)).clone())

    traced = patch.object(engine, "trace", lambda *arguments: known)
    with pretended_gpu() as gpu, traced, patch.object(compiled.ProgramLinearization, "_evaluate", evaluate):
        there = compiled.ProgramLinearization(lin._f, x, *constants, cuda_graphs=recordable or "auto")
        there.rebase(x)
        for _ in range(2):
            gpu.waits.clear()
            gpu.copies.clear()
            found = [there.jvp(OnGpu(v)), there.vjp(OnGpu(u))]
        assert not recordable or not gpu.waits + gpu.copies
    for product, expected in zip(found, (lin.jvp(v), lin.vjp(u)), strict=True):
        assert (product.held - expected).norm() <= tolerance * expected.norm()


def place(value: Any) -> Any:
    """A tensor on the GPU; everything else as it is."""
    return OnGpu(value) if isinstance(value, Tensor) else value


def held(value: Any) -> Any:
    """What a tensor of the GPU holds; everything else as it is."""
    return value.held if isinstance(value, OnGpu) else value


@contextmanager
def _on_cpu(modules: nn.Module) -> Iterator[None]:
    """What parameters and buffers hold, in their place."""
    there = [
        (store, name, value)
        for module in modules.modules()
        for store in (module._parameters, module._buffers)
        for name, value in store.items()
        if isinstance(value, OnGpu)
    ]
    for store, name, value in there:
        plain = value.held
        store[name] = nn.Parameter(plain, value.requires_grad) if isinstance(value, nn.Parameter) else plain
    try:
        yield
    finally:
        for store, name, value in there:
            store[name] = value
