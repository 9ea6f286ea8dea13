"""Names of feature maps, the hook that captures one and the hook that adds to one."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from latentjac.arguments import check_kind, shown

OUTPUTS = ("eps", "x0")
ALIASES = {"mid": "mid_block", "h": "mid_block"}


def resolve_layer(network: torch.nn.Module, layer: str) -> str:
    """Full module name of a layer, or the output name itself.

    Args:
        network: The network the names refer to.
        layer: A module name (``"down_blocks.1"``), ``"mid"``, ``"eps"`` or ``"x0"``.

    Raises:
        TypeError: If network is no module or layer is not a string.
        ValueError: If there is no such layer; the message suggests the nearest names.
    """
    check_kind("resolve_layer", "network", network, torch.nn.Module, "a torch.nn.Module")
    if not isinstance(layer, str):
        raise TypeError(f"resolve_layer: layer must be a module name, 'eps' or 'x0', got {type(layer).__name__}")
    layer = str(layer)
    if layer in OUTPUTS:
        return layer
    names = {name for name, _ in network.named_modules(remove_duplicate=False) if name}
    full = layer if layer in names else ALIASES.get(layer, layer)
    if full in names:
        return full
    known = sorted(names) + [a for a, target in ALIASES.items() if target in names] + list(OUTPUTS)
    # Top-level blocks are what most callers mean, so a bare guess falls back to those.
    near = difflib.get_close_matches(layer, known, n=4, cutoff=0.5) or sorted(n for n in known if "." not in n)
    raise ValueError(
        f"resolve_layer: layer must be a module name of the network, 'eps' or 'x0', got {shown(layer)}; nearest: {near}"
    )


class _Reached(Exception):
    """Stops a forward pass behind the tap."""


class Tap:
    """Captures the output of one module and, in eager mode, skips the rest of the network.

    A module that runs several times is tapped at its first run.
    """

    def __init__(self, network: torch.nn.Module, name: str) -> None:
        self._network, self._name = network, name
        self._module = network.get_submodule(name)

    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
        """First tensor of the module's first output while the network runs on the arguments."""
        captured: list[torch.Tensor] = []
        # An exception cannot be traced; under export the rest is dead code and is removed there.
        tracing = torch.compiler.is_exporting() or torch.compiler.is_compiling()

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
            self._network(*args, **kwargs)
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
        offset: ``[B, *features]`` for forward passes of B samples.
    """
    ran: list[bool] = []

    def begin(module: torch.nn.Module, inputs: object) -> None:
        ran.clear()

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
        return output + offset
    if isinstance(output, (tuple, list)) and output:
        return type(output)((_plus(output[0], offset, name), *output[1:]))
    raise ValueError(f"layer: {name!r} must return a tensor to add to, got {type(output).__name__}")
