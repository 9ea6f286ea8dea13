"""A stand-in for CUDA graphs on a CPU: it records operators on fixed memory and runs them again.

Like a CUDA graph, a recording knows nothing of Python: a replay runs the operators that were recorded, on the memory
that they had then, and writes their results to where those were. Calls of native kernels are recorded with their
addresses. What a replay has to write is NaN before it, and so is, in all other recordings, what nobody holds any more:
in the pool that recordings share, that memory may belong to any of them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from latentjac.kernels import native

Tensor = torch.Tensor

# Operators that write nothing: what is in their memory is what was there.
_EMPTY = ("aten.empty", "aten.new_empty", "aten.empty_like", "aten.empty_strided")
# What waits for the device, which a CUDA graph cannot hold: values read there, and values of the host copied there.
_WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.equal", "aten.masked_select", "aten.lift_fresh")


class View:
    """What a tensor is of its memory; holds that memory but not the tensor."""

    def __init__(self, t: Tensor, storages: dict[int, Any]) -> None:
        self.storage = storages.setdefault(storage(t), t.untyped_storage())
        self.dtype, self.where = t.dtype, (t.storage_offset(), t.size(), t.stride())

    @cached_property
    def tensor(self) -> Tensor:
        return torch.empty(0, dtype=self.dtype).set_(self.storage, *self.where)


class Recording(TorchDispatchMode):
    """Operators with their arguments and results, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Callable[[], object]] = []
        self.storages: dict[int, Any] = {}
        self.written: dict[int, torch.dtype] = {}  # by storage, with the type of what is there
        # Memory that was written, as numbers and others: what nothing but the recording holds, and the rest.
        self.temporary: tuple[list[Tensor], list[Tensor]] = [], []
        self.held: tuple[list[Tensor], list[Tensor]] = [], []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if str(op).startswith(_WAITING):
            raise RuntimeError(f"{op} waits for the device")
        out = op(*args, **kwargs)
        given = {storage(t) for t in tree_leaves((args, kwargs)) if strided(t)}
        results = [t for t in tree_leaves(out) if strided(t)]
        fresh = [t.numel() > 0 and storage(t) not in given for t in results]
        for t, new in zip(results, fresh, strict=True):
            if new:
                self.written.setdefault(storage(t), t.dtype)
        views = self._views(args), self._views(kwargs), [self._views(t) for t in results]
        if not str(op).startswith(_EMPTY):
            self.steps.append(lambda: again(op, *views, fresh))
        return out

    def _views(self, values: Any) -> Any:
        return tree_map(lambda t: View(t, self.storages) if strided(t) else t, values)

    def poison(self, all_of_it: bool) -> None:
        """Make NaN of what was written: all of it, or only what nothing but the recording holds."""
        for numbers, others in (self.temporary, self.held) if all_of_it else (self.temporary,):
            if numbers:
                torch._foreach_mul_(numbers, float("nan"))
            for whole in others:
                whole.fill_(1)

    def settle(self) -> None:
        """Find out which memory is held by nobody else, once the recording is over."""
        gc.collect(1)  # cycles of the recording; all generations would take half a second
        temporary = {key for key in self.written if torch._C._storage_Use_Count(key) == 1}
        for key, dtype in self.written.items():
            whole = torch.empty(0, dtype=dtype).set_(self.storages[key])
            numbers, others = self.temporary if key in temporary else self.held
            (numbers if dtype.is_floating_point or dtype.is_complex else others).append(whole)


def again(op: Any, args: Any, kwargs: Any, results: list[View], fresh: list[bool]) -> None:
    args, kwargs = tree_map(lambda v: v.tensor if isinstance(v, View) else v, (args, kwargs))
    values = [t for t in tree_leaves(op(*args, **kwargs)) if strided(t)]
    for view, value, new in zip(results, values, fresh, strict=True):
        if new:
            view.tensor.copy_(value)


def strided(t: Any) -> bool:
    return isinstance(t, Tensor) and t.layout is torch.strided


def storage(t: Tensor) -> int:
    return t.untyped_storage()._cdata


class Recorder:
    """Records like :class:`latentjac.recording.CudaRecorder`.

    Attributes:
        replays: How many there were.
        fails: Called before each recording; may raise.
    """

    def __init__(self, fails: Callable[[], object] = lambda: None) -> None:
        self.recordings: list[Recording] = []
        self.replays, self.fails = 0, fails
        self.current: Recording | None = None

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
        self.current = recording = Recording()
        loaded = native.LOADED
        if loaded.module is not None:
            names = vars(loaded.module).items()
            module = SimpleNamespace(**{k: self.native(v) if recorded(v) else v for k, v in names})
            native.LOADED = native.Loaded(module, loaded.reason, loaded.wish)
        try:
            with recording:
                result = run()
                self.fails()
        finally:
            native.LOADED, self.current = loaded, None
        recording.settle()
        recording.poison(all_of_it=True)  # nothing runs while a graph is recorded
        self.recordings.append(recording)
        return lambda: self.replay(recording), result

    def native(self, function: Callable) -> Callable:
        """A native function that is recorded when it is called during a recording."""

        def call(*args: Any) -> Any:
            if self.current is not None:
                self.current.steps.append(lambda: function(*args))
            return function(*args)

        return call

    def replay(self, recording: Recording) -> None:
        self.replays += 1
        for other in self.recordings:
            other.poison(all_of_it=other is recording)
        for step in recording.steps:
            step()


def recorded(value: Any) -> bool:
    """Whether a member of the native module computes something (sizes and types do not)."""
    name = getattr(value, "__name__", "")
    return callable(value) and not isinstance(value, type) and not name.endswith("_workspace")
