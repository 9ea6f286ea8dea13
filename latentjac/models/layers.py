"""Names of feature maps, the hook that captures one and the hook that adds to one."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from latentjac.arguments import check_kind, shown
from latentjac.kernels.guards import is_traced_here
from latentjac.linearization.changes import is_ours, ours
from latentjac.linearization.locks import exclusion

OUTPUTS = ("eps", "x0", "image")
# Blocks of diffusers that return the stream of text before that of the picture.
TEXT_FIRST = frozenset(
    """
    JointTransformerBlock AuraFlowJointTransformerBlock BriaFiboTransformerBlock BriaSingleTransformerBlock
    BriaTransformerBlock ChromaTransformerBlock Flux2SingleTransformerBlock Flux2TransformerBlock
    Flux3SingleTransformerBlock FluxSingleTransformerBlock FluxTransformerBlock LongCatImageSingleTransformerBlock
    LongCatImageTransformerBlock OvisImageSingleTransformerBlock OvisImageTransformerBlock QwenImageTransformerBlock
    """.split()
)
SIDE_BY_SIDE = "+"  # between names of layers whose features are taken together


def resolve_layer(network: torch.nn.Module, layer: str, aliases: Mapping[str, str] | None = None) -> str:
    """Full module name of a layer, or the output name itself; of several layers side by side those of each.

    Args:
        network: The network the names refer to.
        layer: A module name (``"down_blocks.1"``), an alias, ``"eps"``, ``"x0"`` or ``"image"``; or several of the
            first two kinds (``"mid+up_blocks.0"``).
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
    names = {name for name, _ in network.named_modules(remove_duplicate=False) if name}
    parts = layer.split(SIDE_BY_SIDE)
    found = [_resolved(names, part.strip(), dict(aliases or {})) for part in parts]
    if len(set(found)) < len(found) or (len(found) > 1 and not set(found).isdisjoint(OUTPUTS)):
        raise ValueError(
            f"resolve_layer: layer must join different modules, got {shown(layer)} ({SIDE_BY_SIDE.join(found)})"
        )
    return SIDE_BY_SIDE.join(found)


def _resolved(names: set[str], layer: str, others: Mapping[str, str]) -> str:
    if layer in OUTPUTS:
        return layer
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
    """Captures the output of a module and, in eager mode, skips the rest of the network.

    A module that runs several times is tapped at its first run.

    Args:
        network: The network.
        name: Full name of the module, or of several with ``+`` between them, whose features are side by side,
            ``[B, n]``.
        call: How the network is called; by default as it is.
        picture_in: Which of the tokens of a module are features, of its name; by default all.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        name: str,
        call: Callable[..., Any] | None = None,
        picture_in: Callable[[str], slice] = lambda name: slice(None),
    ) -> None:
        self._network, self._call, self._picture_in = network, call or network, picture_in
        self._modules = _modules(network, name)

    def __call__(self, *args: object, **kwargs: object) -> torch.Tensor:
        """Features of the module's first output while the network runs on the arguments.

        The first tensor in it; of blocks with a stream of text and one of the picture the latter.
        """
        captured: dict[str, torch.Tensor] = {}
        # An exception cannot be traced; under export the rest is dead code and is removed there.
        tracing = is_traced_here()

        def capture(name: str, output: object) -> None:
            if name in captured:
                return
            captured[name] = _of_picture(_features(name, self._modules[name], output), self._picture_in(name))
            if len(captured) == len(self._modules) and not tracing:
                raise _Reached

        handles = [
            module.register_forward_hook(_of_this_thread(lambda _, inputs, output, name=name: capture(name, output)))
            for name, module in self._modules.items()
        ]
        try:
            run(self._network, self._call, *args, **kwargs)
        except _Reached:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return _side_by_side(captured, self._modules)


@contextmanager
def recorded(
    network: torch.nn.Module, name: str, picture_in: Callable[[str], slice] = lambda name: slice(None)
) -> Iterator[list[torch.Tensor]]:
    """Features that whole passes come by while the network runs, those that :class:`Tap` captures: one entry a pass.

    Args:
        network: The network.
        name: Full name of the module, or of several with ``+`` between them.
        picture_in: Which of the tokens of a module are features, of its name; by default all.

    Raises:
        ValueError: At the end of a pass that does not run a module.
    """
    modules = _modules(network, name)
    captured: dict[str, torch.Tensor] = {}
    found: list[torch.Tensor] = []

    @_of_this_thread
    def begin(module: torch.nn.Module, inputs: object) -> None:
        captured.clear()

    def capture(name: str, output: object) -> None:
        if name not in captured:
            captured[name] = _of_picture(_features(name, modules[name], output), picture_in(name))

    @_of_this_thread
    def end(module: torch.nn.Module, inputs: object, output: object) -> None:
        found.append(_side_by_side(captured, modules))

    handles = [
        network.register_forward_pre_hook(begin),
        *(
            module.register_forward_hook(_of_this_thread(lambda _, inputs, output, part=part: capture(part, output)))
            for part, module in modules.items()
        ),
        network.register_forward_hook(end),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _modules(network: torch.nn.Module, name: str) -> dict[str, torch.nn.Module]:
    """The modules of a full name, by their own."""
    return {part: network.get_submodule(part) for part in name.split(SIDE_BY_SIDE)}


def _of_picture(features: torch.Tensor, where: slice) -> torch.Tensor:
    """Those tokens of features that a slice chooses."""
    return features if where == slice(None) else features[:, where]


def _side_by_side(captured: Mapping[str, torch.Tensor], modules: Iterable[str]) -> torch.Tensor:
    """Features of one module as they are, of several as ``[B, n]`` in their order."""
    missing = [name for name in modules if name not in captured]
    if missing:
        raise ValueError(f"layer: {missing[0]!r} must be run by the network, but it is not")
    if len(captured) == 1:
        return next(iter(captured.values()))
    return torch.cat([captured[name].flatten(1) for name in modules], dim=1)


def _place(module: torch.nn.Module, output: object) -> int:
    """Where in what a module returns its features are."""
    pair = isinstance(output, (tuple, list)) and len(output) > 1
    return 1 if pair and type(module).__name__ in TEXT_FIRST else 0


def _features(name: str, module: torch.nn.Module, output: Any) -> torch.Tensor:
    if isinstance(output, (tuple, list)) and output:
        output = output[_place(module, output)]
    while isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        output = getattr(output, "sample", None)
    if not isinstance(output, torch.Tensor):
        raise ValueError(f"layer: {name!r} must return a tensor, got none in its output")
    return output


@contextmanager
def injected(
    network: torch.nn.Module, name: str, offset: torch.Tensor, picture_in: slice = slice(None)
) -> Iterator[None]:
    """Add a tensor to the output of a module while the network runs.

    A module that runs several times in a forward pass gets it at its first run, where :class:`Tap` looks.

    Args:
        network: The network.
        name: Full name of the module.
        offset: ``[B, *features]`` for forward passes of B samples, or of a multiple of B: of a guided prediction
            the rows under the prompt and those under the negative prompt get the same.
        picture_in: Which of the tokens it is added to; by default all.
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
        return _plus(output, offset, name, _place(module, output), picture_in)

    handles = [network.register_forward_pre_hook(begin), network.get_submodule(name).register_forward_hook(add)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _plus(output: object, offset: torch.Tensor, name: str, place: int = 0, picture_in: slice = slice(None)) -> object:
    """The output with the offset added to its tensor at a place, or to the first one in there."""
    if isinstance(output, torch.Tensor):
        times, rest = divmod(len(output), len(offset))
        if rest:
            raise ValueError(f"layer: {name!r} must return a multiple of {len(offset)} rows, got {len(output)}")
        repeated = offset if times == 1 else offset.repeat(times, *[1] * (offset.ndim - 1))
        if picture_in == slice(None):
            return output + repeated
        changed = output.clone()
        changed[:, picture_in] += repeated
        return changed
    if isinstance(output, (tuple, list)) and output:
        return type(output)(
            _plus(part, offset, name, 0, picture_in) if i == place else part for i, part in enumerate(output)
        )
    raise ValueError(f"layer: {name!r} must return a tensor to add to, got {type(output).__name__}")
