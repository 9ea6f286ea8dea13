"""torch.export of any callable, for values: one at a time, and nothing is left behind when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.export._trace as exporter
import torch.fx.config
from torch import nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves

from latentjac.kernels.guards import refuse_dual, refuse_transforms
from latentjac.linearization.changes import modules_of
from latentjac.linearization.declared import Declared, Recorder
from latentjac.linearization.joint import SeveralResultsError
from latentjac.linearization.locks import exclusion
from latentjac.linearization.places import at, line_of_error
from latentjac.linearization.regions import of_values
from latentjac.linearization.surroundings import ordinary, outside
from latentjac.linearization.writes import without_writes

Tensor = torch.Tensor


class TraceError(RuntimeError):
    """A function could not be turned into a list of calls; the message says why."""


@dataclass
class Exported:
    """A graph of operators.

    Attributes:
        program: Its inputs, and the tensors in it.
        graph: Without operators that write to their arguments, wherever torch knows others.
        declared: Calls of what declares its derivative, by their number in the graph.
        fixed: Arguments whose values are part of the graph, by their place behind x.
    """

    program: torch.export.ExportedProgram
    graph: torch.fx.Graph
    declared: dict[int, Declared]
    fixed: dict[int, Tensor]


def check_output(name: str, y: object) -> None:
    """Raise unless y is one floating-point tensor."""
    if isinstance(y, (tuple, list)) and y and all(isinstance(part, Tensor) for part in y):
        raise SeveralResultsError(
            f"{name}: f must return one floating-point torch.Tensor, got {type(y).__name__} of {len(y)}"
        )
    if not isinstance(y, Tensor):
        raise TypeError(f"{name}: f must return one floating-point torch.Tensor, got {type(y).__name__}")
    if not y.is_floating_point():
        raise TypeError(f"{name}: f must return one floating-point torch.Tensor, got dtype {y.dtype}")


def export(f: Callable[..., Tensor], x: Tensor, constants: tuple[Any, ...], values: bool = False) -> Exported:
    """Export ``f(x, *constants)`` for the shapes and dtypes of its arguments.

    Args:
        f: Any callable.
        x: Where.
        constants: Further arguments.
        values: Make the values of small constants part of the graph, and compute while tracing what depends on these
            and on tensors that f refers to, so that f may read numbers and truth values from it.

    Raises:
        TraceError: If it fails.
        TypeError: If f does not return one floating-point tensor.
    """
    refuse_transforms("linearize")
    for i, constant in enumerate(constants):
        # What holds tensors would count as several arguments.
        if isinstance(constant, (list, tuple, dict, torch.nn.Module)):
            kind = type(constant).__name__
            raise TraceError(f"constants[{i}] is a {kind}: pass its tensors as constants of their own")
    with outside(x.device):
        args = [ordinary(value.detach()) if isinstance(value, Tensor) else value for value in (x, *constants)]
        fixed = {i: args[i + 1] for i, value in enumerate(constants) if values and _is_small(value)}
        _refuse_dual(f, args)
        recorder = Recorder()
        wrapped = _AsModule(f, recorder, fixed, _Known() if values else None)
        free = tuple(value for i, value in enumerate(args) if i - 1 not in fixed)
        try:
            with exclusion.alone(), _nothing_left(wrapped), _settings_kept(), _no_stacks(), torch.enable_grad():
                program = torch.export.export(wrapped, free, strict=False)
                graph = None if any(map(_is_region, program.graph.nodes)) else without_writes(program.graph)
                if graph is None:
                    program = program.run_decompositions({})
        except Exception as error:  # every way in which export fails has the same answer
            if recorder.refusal is not None:
                raise recorder.refusal from None
            reason, line = str(error).strip().split("\n")[0], at(line_of_error(error))
            raise TraceError(f"torch.export failed: {type(error).__name__}: {reason}{line}") from error
    return Exported(program, graph or program.graph, recorder.calls, {i: value.clone() for i, value in fixed.items()})


def _refuse_dual(f: Callable[..., Tensor], args: list[Any]) -> None:
    """Refuse an f that refers to dual tensors, which a trace would take for constants."""
    if forward_ad._current_level >= 0:
        with torch.no_grad():
            refuse_dual("linearize", f(*args))


def _is_small(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.numel() == 1 or not (value.is_floating_point() or value.is_complex()))


def _is_region(node: torch.fx.Node) -> bool:
    """Whether it is a region with its own autocast; decomposition puts the conversions in that autocast makes."""
    return isinstance(node.target, torch._ops.HigherOrderOperator)


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Have export leave the libraries that torch computes with as they are set.

    It switches oneDNN and cuDNN off for the whole process: passes of other threads would round differently meanwhile.
    """
    switched, thread = exporter._ignore_backend_decomps, threading.get_ident()

    def unless_here() -> Any:
        return nullcontext() if threading.get_ident() == thread else switched()

    exporter._ignore_backend_decomps = unless_here
    try:
        yield
    finally:
        exporter._ignore_backend_decomps = switched


@contextmanager
def _no_stacks() -> Iterator[None]:
    """Keep no stack of Python with each node: nothing here reads them, and they take a fifth of the time of a trace."""
    name, settings = "do_not_emit_stack_traces", torch.fx.config
    if not hasattr(settings, name):  # older versions of torch
        yield
        return
    before = getattr(settings, name)
    setattr(settings, name, True)
    try:
        yield
    finally:
        setattr(settings, name, before)


@contextmanager
def _nothing_left(module: nn.Module) -> Iterator[None]:
    """Put back what export changes for a while: flags of torch, and the parameters of modules."""
    flags = [
        (owner, name, getattr(owner, name))
        for owner, name in (
            (torch.compiler, "_is_compiling_flag"),
            (torch.compiler, "_is_exporting_flag"),
            (exporter, "_EXPORT_FLAGS"),
            (exporter, "_EXPORT_MODULE_HIERARCHY"),
        )
    ]
    dicts: list[dict[str, Any]] = [own for child in module.modules() for own in _own(child)]
    held = [(own, dict(own)) for own in dicts]
    try:
        for own, before in held:
            for name, value in before.items():
                if value is not None and value.is_inference():
                    own[name] = _ordinary_parameter(value)
        yield
    finally:
        for owner, name, value in flags:
            setattr(owner, name, value)
        for own, before in held:
            if own.keys() != before.keys() or any(own[name] is not value for name, value in before.items()):
                own.clear()
                own.update(before)


def _own(module: nn.Module) -> list[Any]:
    return [module._parameters, module._buffers]


def _ordinary_parameter(value: Tensor) -> Tensor:
    copy = ordinary(value.detach())
    return nn.Parameter(copy, requires_grad=False) if isinstance(value, nn.Parameter) else copy


class _AsModule(nn.Module):
    """f as a module that owns the modules f refers to, so that export lifts their parameters."""

    def __init__(
        self, f: Callable[..., Tensor], recorder: Recorder, fixed: dict[int, Tensor], known: _Known | None
    ) -> None:
        super().__init__()
        self.owned = nn.ModuleList(modules_of(f))
        self.call = [f]  # in a list, so that a module f is not registered twice
        self._recorder, self._fixed, self._known = recorder, fixed, known

    def forward(self, *args: Any) -> Tensor:
        left = iter(args)
        count = len(args) + len(self._fixed)
        whole = [self._fixed[i - 1] if i - 1 in self._fixed else next(left) for i in range(count)]
        with of_values(self._recorder), self._known or nullcontext():
            y = self.call[0](*whole)
        try:
            check_output("linearize", y)
        except TypeError as error:
            self._recorder.refusal = error  # here, since export takes assignments to modules back
            raise
        return y


class _Known(TorchFunctionMode):
    """Computes what depends on known values alone, instead of tracing it."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        known = bool(tensors) and all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        if known and not _writes(func, kwargs) and not _is_random(func):
            with _disable_current_modes(), torch.no_grad():
                return func(*args, **(kwargs or {}))
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _with_places(args[1]), *args[2:])
        return func(*args, **(kwargs or {}))


def _with_places(index: Any) -> Any:
    """An index with the places of truth values instead of these, whose number a trace would not know."""
    places: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if type(part) is Tensor and part.dtype == torch.bool and part.ndim:
            with _disable_current_modes():
                places.extend(part.nonzero(as_tuple=True))
        else:
            places.append(part)
    return tuple(places)


_IN_PLACE = {f"__{name}__" for name in "iadd isub imul itruediv ifloordiv imod ipow iand ior ixor set setitem".split()}
_RANDOM = ("rand", "normal", "bernoulli", "multinomial", "dropout", "uniform", "exponential", "poisson", "cauchy")


def _name(func: Callable) -> str:
    return str(getattr(func, "__name__", func))


def _writes(func: Callable, kwargs: dict | None) -> bool:
    name = _name(func)
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")) or "out" in (kwargs or {})


def _is_random(func: Callable) -> bool:
    return any(word in _name(func) for word in _RANDOM)
