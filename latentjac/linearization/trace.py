"""Turns a function into a flat list of calls, once for given shapes."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from latentjac.linearization.declared import Declared
from latentjac.linearization.export import Exported, TraceError, export
from latentjac.linearization.places import at, line_of_operator
from latentjac.linearization.writes import mutates

__all__ = [
    "Call",
    "DeclaredCall",
    "Meta",
    "Ref",
    "Trace",
    "TraceError",
    "refs",
    "resolve",
    "trace",
]

# Values that are equal to their first argument; nothing is left of them in a trace.
_SAME_VALUE = {
    "aten.alias.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.lift_fresh.default",
    "aten.lift_fresh_copy.default",
}
_DROPPED = {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default", "aten._assert_async.msg"}
# These depend on memory layout or on chance, so a program that lays tensors out its own way cannot keep them.
_REFUSED = ("aten.as_strided", "aten.rand", "aten.normal", "aten.bernoulli", "aten.uniform", "aten.multinomial")


@dataclass(frozen=True)
class Ref:
    """Stands for the value of a slot among the arguments of a call."""

    slot: int


@dataclass(frozen=True)
class Meta:
    """Shape and dtype of a slot's value."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def smooth(self) -> bool:
        """Whether such values have derivatives: real and complex numbers do, indices and truth values do not."""
        return self.dtype.is_floating_point or self.dtype.is_complex

    @property
    def numel(self) -> int:
        """Number of entries."""
        return functools.reduce(operator.mul, self.shape, 1)

    @property
    def nbytes(self) -> int:
        """Bytes of a dense tensor."""
        return self.numel * self.dtype.itemsize


@dataclass
class Call:
    """One call of an operator: every argument by its name in the operator's schema, tensors as :class:`Ref`."""

    name: str
    op: torch._ops.OpOverload
    arguments: dict[str, Any]
    outs: tuple[int, ...]
    multiple: bool

    @property
    def target(self) -> str:
        """The operator as ``aten.conv2d.default``."""
        return str(self.op)

    @property
    def reads(self) -> tuple[int, ...]:
        """Slots among the arguments, each once, in order."""
        return tuple(dict.fromkeys(refs(list(self.arguments.values()))))

    def evaluate(self, env: dict[int, torch.Tensor], **replaced: Any) -> Any:
        """Call the operator on values from ``env``; keyword arguments replace arguments of the same name."""
        arguments = resolve({**self.arguments, **replaced}, env)
        positional = [arguments.pop(a.name) for a in self.op._schema.arguments if not a.kwarg_only]
        return self.op(*positional, **arguments)


@dataclass
class DeclaredCall(Call):
    """A call of what declares its derivative: a custom ``autograd.Function``."""

    declared: Declared

    def evaluate(self, env: dict[int, torch.Tensor], **replaced: Any) -> Any:
        """Call it on values from ``env``."""
        return self.declared(resolve(self.arguments["tensors"], env))


@dataclass
class Trace:
    """A function as a list of calls on slots; slots hold tensors.

    Attributes:
        calls: In order.
        metas: Of every slot.
        x: Slot of x.
        constants: Slots of the further arguments; None for what is no tensor, or part of the trace.
        frozen: Values of slots that are the same at every point, such as parameters.
        y: Slot of the result.
        fixed: Values of arguments that are part of the trace, by their place behind x: f reads them.
        f: What was traced; None once that is forgotten.
        args: With what.
    """

    calls: list[Call] = field(default_factory=list)
    metas: dict[int, Meta] = field(default_factory=dict)
    x: int = -1
    constants: list[int | None] = field(default_factory=list)
    frozen: dict[int, torch.Tensor] = field(default_factory=dict)
    y: int = -1
    fixed: dict[int, torch.Tensor] = field(default_factory=dict)
    f: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()

    def place(self, target: str) -> str:
        """`` (file:line)`` where f first calls an operator; evaluates f."""
        return "" if self.f is None else at(line_of_operator(target, self.f, *self.args))

    def forget(self) -> None:
        """Let go of f and its arguments, once no line of f is asked for any more."""
        self.f, self.args = None, ()


def refs(value: Any) -> Iterator[int]:
    """Slots in a nested argument."""
    if isinstance(value, Ref):
        yield value.slot
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from refs(item)


def resolve(value: Any, env: dict[int, torch.Tensor]) -> Any:
    """A nested argument with its slots replaced by their values."""
    if isinstance(value, Ref):
        return env[value.slot]
    if isinstance(value, dict):
        return {key: resolve(item, env) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(resolve(item, env) for item in value)
    return value


def trace(f: Callable[..., torch.Tensor], x: torch.Tensor, constants: tuple[Any, ...]) -> Trace:
    """Trace ``f(x, *constants)`` for the shapes and dtypes of its arguments.

    Values of tensors are not looked at: the trace holds for every x and every constant of these shapes. Where that
    cannot be done, the values of small constants (truth values, whole numbers, single numbers) are part of the trace,
    which then holds for these values (``fixed``).

    Raises:
        TraceError: If f cannot be exported, or has operations that a trace cannot hold.
        TypeError: If f does not return one floating-point tensor.
    """
    try:
        return _trace(f, x, constants, values=False)
    except TraceError as error:
        try:
            return _trace(f, x, constants, values=True)
        except TraceError:
            raise error from error.__cause__


def _trace(f: Callable[..., torch.Tensor], x: torch.Tensor, constants: tuple[Any, ...], values: bool) -> Trace:
    exported = export(f, x, constants, values)
    try:
        return _Builder(exported, f, (x, *constants)).build()
    except TraceError:
        raise
    except Exception as error:  # sizes that depend on data fail at any comparison
        reason = str(error).strip().split("\n")[0]
        raise TraceError(f"the graph cannot be read: {type(error).__name__}: {reason}") from error


class _Builder:
    """Reads the graph of an exported program into a :class:`Trace`."""

    def __init__(self, exported: Exported, f: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._program, self._graph, self._declared = exported.program, exported.graph, exported.declared
        self._n_constants, self._fixed = len(args) - 1, exported.fixed
        self._slots: dict[torch.fx.Node, int | tuple[int, ...]] = {}
        self._trace = Trace(fixed=exported.fixed, f=f, args=args)
        # Slots of values that depend on x: how those lie in memory is the program's own affair.
        self._dependent: set[int] = set()

    def build(self) -> Trace:
        self._inputs()
        for node in self._graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                self._output(node)
            elif node.op == "get_attr":
                raise TraceError(f"the graph refers to {node.target}, a region of its own")
        self._drop_dead_calls()
        return self._trace

    def _drop_dead_calls(self) -> None:
        """Drop what the result does not need, such as all that comes behind a tap."""
        needed, calls = {self._trace.y}, []
        for call in reversed(self._trace.calls):
            if not needed.isdisjoint(call.outs):
                calls.append(call)
                needed.update(call.reads)
        self._trace.calls = calls[::-1]
        self._trace.frozen = {slot: value for slot, value in self._trace.frozen.items() if slot in needed}

    def _new(self, value: torch.Tensor) -> int:
        slot = len(self._trace.metas)
        if not all(isinstance(size, int) for size in value.shape):
            raise TraceError(f"a tensor has the data-dependent shape {list(value.shape)}")
        self._trace.metas[slot] = Meta(tuple(value.shape), value.dtype)
        return slot

    def _inputs(self) -> None:
        users: list[int | None] = []
        kinds = {spec.arg.name: spec for spec in self._program.graph_signature.input_specs}
        for node in self._graph.nodes:
            if node.op != "placeholder":
                continue
            spec, value = kinds[node.name], node.meta.get("val")
            slot = self._new(value) if isinstance(value, torch.Tensor) else None
            if slot is not None:
                self._slots[node] = slot
            if spec.kind == torch.export.graph_signature.InputKind.USER_INPUT:
                users.append(slot)
            elif slot is not None:
                state = self._program.state_dict
                tensor = state[spec.target] if spec.target in state else self._program.constants[spec.target]
                self._trace.frozen[slot] = tensor.detach()
        assert users[0] is not None
        self._trace.x, left = users[0], iter(users[1:])
        self._trace.constants = [None if i in self._fixed else next(left) for i in range(self._n_constants)]
        self._dependent.add(users[0])

    def _output(self, node: torch.fx.Node) -> None:
        specs = self._program.graph_signature.output_specs
        if any(s.kind != torch.export.graph_signature.OutputKind.USER_OUTPUT for s in specs):
            raise TraceError("f writes to its inputs or to buffers of a module")
        (values,) = node.args
        assert isinstance(values, (list, tuple))
        slot = self._slots[_as_node(values[0])]
        assert isinstance(slot, int)
        self._trace.y = slot

    def _call(self, node: torch.fx.Node) -> None:
        first = node.args[0] if node.args else None
        if node.target is operator.getitem:
            slots, index = self._slots[_as_node(first)], node.args[1]
            assert isinstance(slots, tuple)
            assert isinstance(index, int)
            self._slots[node] = slots[index]
            return
        if not isinstance(node.target, torch._ops.OpOverload):
            raise TraceError(f"{node.target} is not an operator on tensors")
        target = str(node.target)
        if target in _DROPPED:
            return
        if mutates(node) or target.startswith(_REFUSED) or (target.startswith("aten.dropout") and _is_random(node)):
            raise TraceError(f"{target} cannot be part of a trace{self._trace.place(target)}")
        if (self._keeps_value(target) and self._slots.get(_as_node(first)) in self._dependent) or self._is_same(node):
            self._slots[node] = self._slots[_as_node(first)]
            return
        value: Any = node.meta.get("val")
        multiple = isinstance(value, (list, tuple))
        values = list(value) if multiple else [value]
        if not all(isinstance(item, torch.Tensor) for item in values):
            raise TraceError(f"{target} reads a number off a tensor{self._trace.place(target)}")
        outs = tuple(self._new(item) for item in values)
        self._slots[node] = outs if multiple else outs[0]
        self._append(node.name, node.target, self._arguments(node, node.target), outs, multiple)

    def _append(
        self, name: str, op: torch._ops.OpOverload, arguments: dict[str, Any], outs: tuple[int, ...], multiple: bool
    ) -> None:
        if str(op) == "latentjac.declared.default":
            call: Call = DeclaredCall(name, op, arguments, outs, multiple, self._declared[arguments["number"]])
        else:
            call = Call(name, op, arguments, outs, multiple)
        if not self._dependent.isdisjoint(call.reads):
            self._dependent.update(outs)
        self._trace.calls.append(call)

    @staticmethod
    def _keeps_value(target: str) -> bool:
        """Whether nothing but the layout in memory may change, which views of constants read."""
        return target in _SAME_VALUE or target.startswith("aten.dropout")

    def _is_same(self, node: torch.fx.Node) -> bool:
        """Conversions to the dtype a value has, and products with 1."""
        source = node.args[0] if node.args else None
        if not isinstance(source, torch.fx.Node) or source not in self._slots:
            return False
        value, first = node.meta["val"], source.meta["val"]
        if not isinstance(value, torch.Tensor) or value.dtype != first.dtype or value.shape != first.shape:
            return False
        name = str(node.target)
        if name.startswith(("aten.to.", "aten._to_copy", "aten.type_as")):
            return value.device == first.device
        scaled = name in ("aten.div.Tensor", "aten.mul.Tensor", "aten.div.Scalar", "aten.mul.Scalar")
        return (
            scaled
            and "rounding_mode" not in node.kwargs
            and isinstance(node.args[1], (int, float))
            and node.args[1] == 1
        )

    def _arguments(self, node: torch.fx.Node, op: torch._ops.OpOverload) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        for position, argument in enumerate(op._schema.arguments):
            if position < len(node.args) and not argument.kwarg_only:
                value: Any = node.args[position]
            elif argument.name in node.kwargs:
                value = node.kwargs[argument.name]
            else:
                value = argument.default_value
            arguments[argument.name] = self._refer(value)
        return arguments

    def _refer(self, value: Any) -> Any:
        if isinstance(value, torch.fx.Node):
            slot = self._slots.get(value)
            if not isinstance(slot, int):
                raise TraceError(f"{value} is not a tensor")
            return Ref(slot)
        if isinstance(value, (list, tuple)):
            return type(value)(self._refer(item) for item in value)
        if isinstance(value, torch.SymInt):
            raise TraceError("a size depends on data")
        return value


def _as_node(value: Any) -> torch.fx.Node:
    assert isinstance(value, torch.fx.Node)
    return value


def _is_random(node: torch.fx.Node) -> bool:
    """Whether a dropout drops anything."""
    _, probability, training = node.args
    return bool(training) and probability not in (0,)
