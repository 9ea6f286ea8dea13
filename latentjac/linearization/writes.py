"""In-place operators of a graph as operators that return what was written.

``ExportedProgram.run_decompositions`` does so for any graph, by tracing all of it a second time. Most networks that
write do so in plain ways: ``x += y``, ``relu(x, inplace=True)``, ``x[mask] = y``, ``x[:, :n] = y``, and nothing else
looks at the memory of x. There a few nodes are exchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph, Node, map_arg
from torch.utils._pytree import tree_leaves

# What a written part of a tensor becomes in the whole.
_SCATTER: dict[Any, Any] = {
    torch.ops.aten.slice.Tensor: torch.ops.aten.slice_scatter.default,
    torch.ops.aten.select.int: torch.ops.aten.select_scatter.default,
}


class _NotPlain(Exception):
    """Exchanging nodes might change the result."""


def mutates(node: Node) -> bool:
    """Whether an operator of a graph writes to its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def without_writes(graph: Graph) -> Graph | None:
    """A graph that means the same, with all in-place operators exchanged; None where one is not plain.

    Args:
        graph: Of ``torch.export.export``.
    """
    if not any(map(mutates, graph.nodes)):
        return graph
    own = Graph()
    own.output(own.graph_copy(graph, {}))
    memory = _Memory(own)
    try:
        for node in list(own.nodes):
            if mutates(node):
                memory.exchange(node)
            else:
                memory.place(node)
    except _NotPlain:
        return None
    return own


class _Memory:
    """Which nodes may lie in the same memory.

    Attributes:
        group: Of a node: all nodes that may lie where it lies, in order; one list for all of them.
        position: Of a node in the graph.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.group: dict[Node, list[Node]] = {}
        self.position = {node: i for i, node in enumerate(graph.nodes)}

    def place(self, node: Node) -> None:
        """Note where a node lies."""
        own = [node]
        for source in _shared(node):
            for other in self.group.get(source, ()):
                if other not in own:
                    own.append(other)
        for member in own:
            self.group[member] = own

    def exchange(self, node: Node) -> None:
        """Put an operator that returns what is written in the place of one that writes."""
        target = node.args[0] if node.args else None
        function = _functional(node)
        if function is None or not isinstance(target, Node):
            raise _NotPlain
        chain = self._views(target)
        base, at = chain[0], self.position[node]
        for other in self.group[base]:
            if other.op == "placeholder" or (other is not base and any(self._after(user, at) for user in other.users)):
                raise _NotPlain
        with self.graph.inserting_before(node):
            written = self._call(at, function, *node.args, **node.kwargs)
            old = target.meta["val"]
            if written.meta["val"].dtype != old.dtype:  # what is written becomes what it is written to
                written = self._call(at, torch.ops.aten._to_copy.default, written, dtype=old.dtype)
            if written.meta["val"].shape != old.shape:
                raise _NotPlain
            node.replace_all_uses_with(written)
            for view, whole in zip(chain[:0:-1], chain[-2::-1], strict=True):
                written = self._call(at, _SCATTER[view.target], whole, written, *view.args[1:], **view.kwargs)
        base.replace_all_uses_with(written, lambda user: self._after(user, at))
        self.graph.erase_node(node)

    def _views(self, node: Node) -> list[Node]:
        """A tensor that has memory of its own, and views of views of it up to a node."""
        chain = [node]
        while chain[0].target in _SCATTER and isinstance(chain[0].args[0], Node):
            chain.insert(0, chain[0].args[0])
        return chain

    def _after(self, node: Node, position: int) -> bool:
        return self.position[node] > position

    def _call(self, position: int, op: Any, *args: Any, **kwargs: Any) -> Node:
        node = self.graph.call_function(op, args, kwargs)
        node.meta["val"] = _evaluated(node)
        self.position[node] = position
        self.place(node)
        return node


def _functional(node: Node) -> Any:
    """The operator that returns what an in-place operator writes; None where there is none of that name."""
    op: Any = node.target
    name, overload = op._schema.name.split("::")[1], op._overloadname
    written = [argument.alias_info is not None and argument.alias_info.is_write for argument in op._schema.arguments]
    if op.namespace != "aten" or not name.endswith("_") or not written[0] or any(written[1:]):
        return None
    if torch.Tag.nondeterministic_seeded in op.tags:
        return None
    if torch.Tag.inplace_view in op.tags and name != "detach_":
        return None
    found = getattr(getattr(torch.ops.aten, name[:-1], None), overload, None)
    return None if found is None or found._schema.is_mutable else found


def _shared(node: Node) -> list[Node]:
    """Arguments in whose memory the result of a call lies, or may lie."""
    op: Any = node.target
    if node.op != "call_function":
        return []
    if not isinstance(op, torch._ops.OpOverload):
        return node.all_input_nodes
    if not torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), torch._C.DispatchKey.CompositeImplicitAutograd):
        return node.all_input_nodes if any(result.alias_info is not None for result in op._schema.returns) else []
    # What is made of other operators may return what it was given, and its schema need not tell.
    found = {_storage(value) for value in tree_leaves(_evaluated(node)) if isinstance(value, Tensor)}
    return [
        source
        for source in node.all_input_nodes
        if any(_storage(value) in found for value in tree_leaves(source.meta["val"]) if isinstance(value, Tensor))
    ]


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _evaluated(node: Node) -> Any:
    """The result of a call for its arguments, without values."""
    args, kwargs = map_arg((node.args, node.kwargs), lambda source: source.meta["val"])
    mode = next((value.fake_mode for value in tree_leaves((args, kwargs)) if isinstance(value, FakeTensor)), None)
    if mode is None:
        raise _NotPlain
    op: Any = node.target
    try:
        with mode, torch.no_grad():
            return op(*args, **kwargs)
    except Exception as error:  # sizes that depend on values, and whatever else
        raise _NotPlain from error
