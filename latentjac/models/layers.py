"""Names of feature maps, the hook that captures one and the hook that adds to one."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from latentjac.arguments import check_kind, shown
from latentjac.kernels.guards import is_traced_here
from latentjac.linearization.changes import is_ours, ours
from latentjac.linearization.locks import exclusion

OUTPUTS = ("eps", "x0", "image")


def resolve_layer(network: torch.nn.Module, layer: str, aliases: Mapping[str, str] | None = None) -> str:
    """Full module name of a layer, or the output name itself.

    Args:
        network: The network the names refer to.
        layer: A module name (``"down_blocks.1"``), an alias, ``"eps"``, ``"x0"`` or ``"image"``.
        aliases: Other names of modules, such as those of :attr:`Model.layers`.

    Raises:
        TypeError: If network is no module, layer is not a string or aliases are no mapping.
        ValueError: If there is no such layer; the message suggests the nearest names.
    """
    check_kind("resolve_layer", "network", network, torch.nn.Module, "a torch.nn.Module")
    if not isinstance(layer, str):
        raise TypeError(
            f"resolve_layer: layer must be a module name, 'eps', 'x0' or 'image', got {type(layer).__name__}"
        )
    layer = str(layer)
    if layer in OUTPUTS:
        return layer
    check_kind("resolve_layer", "aliases", aliases, Mapping, "a mapping of names", optional=True)
    others = dict(aliases or {})
    names = {name for name, _ in network.named_modules(remove_duplicate=False) if name}
    full = layer if layer in names else others.get(layer, layer)
    if full in names:
        return full
    known = sorted(names) + [a for a, target in others.items() if target in names] + list(OUTPUTS)
    # Top-level blocks are what most callers mean, so a bare guess falls back to those.
    near = difflib.get_close_matches(layer, known, n=4, cutoff=0.5) or sorted(n for n in known if "." not in n)
    raise ValueError(
        f"resolve_layer: layer must be a module name of the network, 'eps', 'x0' or 'image', got {shown(layer)}; "
        f"nearest: {near}"
    )


def run(network: torch.nn.Module, call: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    """What calling a network with these arguments gives, while nobody traces it.

    Raises:
        ValueError: If a module is in training mode.
    """
    refuse_training(network)
    # Compiled code does not know of hooks that came later.
    compiled = any(module._compiled_call_impl is not None for module in network.modules())
    eager = compiled and (is_traced_here() or _is_hooked(network))
    with exclusion.evaluating(), torch.compiler.set_stance("force_eager") if eager else nullcontext():
        return call(*args, **kwargs)


def _is_hooked(network: torch.nn.Module) -> bool:
    """Whether there is a hook of ours on it."""
    hooks = (h for m in network.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values()))
    return any(is_ours(hook) for hook in hooks)


def refuse_training(network: torch.nn.Module) -> None:
    """Raise if a module is in training mode, in which dropout and batch statistics make values random."""
    for name, module in network.named_modules():
        if module.training:
            where = f"its module {name!r}" if name else "it"
            raise ValueError(
                f"network: must be in evaluation mode (network.eval()), got training mode in {where}, "
                f"a {type(module).__name__}"
            )


def _of_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that other threads, which run the same network at the same time, do not meet."""
    owner = threading.get_ident()

    def guarded(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == owner else None

    return ours(guarded)


class _Reached(Exception):
    """Stops a forward pass behind the tap."""


class Tap:
    """Captures the output of one module and, in eager mode, skips the rest of the network.

    A module that runs several times is tapped at its first run.

    Args:
        network: The network.
        name: Full name of the module.
        call: How the network is called; by default as it is.
    """

    def __init__(self, network: torch.nn.Module, name: str, call: Callable[..., Any] | None = None) -> None:
        self._network, self._name, self._call = network, name, call or network
        self._module = network.get_submodule(name)

    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
        """First tensor of the module's first output while the network runs on the arguments."""
        captured: list[torch.Tensor] = []
        # An exception cannot be traced; under export the rest is dead code and is removed there.
        tracing = is_traced_here()

        @_of_this_thread
        def hook(module: torch.nn.Module, inputs: object, output: object) -> None:
            if captured:
                return
            while isinstance(output, (tuple, list)) and output:
                output = output[0]
            if not isinstance(output, torch.Tensor):
                output = getattr(output, "sample", None)
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"layer: {self._name!r} must return a tensor, got none in its output")
            captured.append(output)
            if not tracing:
                raise _Reached

        handle = self._module.register_forward_hook(hook)
        try:
            run(self._network, self._call, *args, **kwargs)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not captured:
            raise ValueError(f"layer: {self._name!r} must be run by the network, but it is not")
        return captured[0]


@contextmanager
def injected(network: torch.nn.Module, name: str, offset: torch.Tensor) -> Iterator[None]:
    """Add a tensor to the output of a module while the network runs.

    A module that runs several times in a forward pass gets it at its first run, where :class:`Tap` looks.

    Args:
        network: The network.
        name: Full name of the module.
        offset: ``[B, *features]`` for forward passes of B samples, or of a multiple of B: of a guided prediction
            the rows under the prompt and those under the negative prompt get the same.
    """
    ran: list[bool] = []

    @_of_this_thread
    def begin(module: torch.nn.Module, inputs: object) -> None:
        ran.clear()

    @_of_this_thread
    def add(module: torch.nn.Module, inputs: object, output: object) -> object:
        if ran:
            return None
        ran.append(True)
        return _plus(output, offset, name)

    handles = [network.register_forward_pre_hook(begin), network.get_submodule(name).register_forward_hook(add)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plus(output: object, offset: torch.Tensor, name: str) -> object:
    """The output with the offset added to its first tensor."""
    if isinstance(output, torch.Tensor):
        times, rest = divmod(len(output), len(offset))
        if rest:
            raise ValueError(f"layer: {name!r} must return a multiple of {len(offset)} rows, got {len(output)}")
        return output + (offset if times == 1 else offset.repeat(times, *[1] * (offset.ndim - 1)))
    if isinstance(output, (tuple, list)) and output:
        return type(output)((_plus(output[0], offset, name), *output[1:]))
    raise ValueError(f"layer: {name!r} must return a tensor to add to, got {type(output).__name__}")
