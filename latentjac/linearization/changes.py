"""What a function is made of, so that a change behind a trace is noticed: modules, their settings and their weights."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from latentjac.linearization.locks import exclusion

Tensor = torch.Tensor

# Where nn.Module keeps what is looked at by itself.
_PARTS = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
# A module's settings may nest: dictionaries of adapters, objects that process attention.
_DEPTH = 4
# Entries of a weight whose norm stands for it.
_ENTRIES = 64
_PLAIN = (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)


def modules_of(f: Any) -> list[nn.Module]:
    """Modules that a callable refers to by closure, global name, binding or attribute, without those inside others."""
    found: list[nn.Module] = []
    _collect(f, found, set(), depth=0)
    inner = {id(child) for module in found for child in module.modules() if child is not module}
    return [module for module in found if id(module) not in inner]


def _collect(value: Any, found: list[nn.Module], seen: set[int], depth: int) -> None:
    if id(value) in seen or depth > 4:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        found.append(value)
    elif isinstance(value, functools.partial):
        children = [value.func, *value.args, *value.keywords.values()]
    elif inspect.ismethod(value):
        children = [value.__self__, value.__func__]
    elif inspect.isfunction(value):
        variables = inspect.getclosurevars(value)
        children = [*variables.nonlocals.values(), *variables.globals.values(), *(value.__defaults__ or ())]
    elif isinstance(value, (list, tuple)):
        children = list(value)
    elif isinstance(value, dict):
        children = list(value.values())
    else:
        plain = isinstance(value, (torch.Tensor, type, str)) or inspect.ismodule(value)
        children = [] if plain else list(getattr(value, "__dict__", {}).values())
    if not isinstance(value, nn.Module):
        for child in children:
            _collect(child, found, seen, depth + 1)


def refuse_sharded(function: str, f: Any) -> None:
    """Raise if weights that f refers to are spread over processes: its trace and its products would have parts of them.

    Raises:
        TypeError: If so; names the module.
    """
    sharded = getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)
    if sharded is None:
        return
    for module in modules_of(f):
        for name, weight in module.named_parameters():
            if isinstance(weight, sharded):
                raise TypeError(
                    f"{function}: f must have whole weights, got {name!r} of {type(module).__name__} as a DTensor "
                    "(FSDP2, tensor parallelism): give a copy of the module that was not sharded, with the weights of "
                    "torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True)"
                )


def ours(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hook that is there for one evaluation by this library: it is no change of the network."""
    hook.latentjac = True  # type: ignore[attr-defined]
    return hook


def is_ours(hook: object) -> bool:
    """Whether a hook is marked so."""
    return getattr(hook, "latentjac", False) is True


def structure(modules: Iterable[nn.Module]) -> int:
    """A number that changes with anything but the values of weights: modules, hooks, settings, modes, processors."""
    with exclusion.evaluating():  # a module that is being traced has other parameters
        return hash(tuple(_module(part) for whole in modules for part in whole.modules()))


def _module(module: nn.Module) -> tuple[Any, ...]:
    tokens: list[Any] = [id(module), type(module), *module._parameters, *map(id, module._parameters.values())]
    tokens += map(id, module._buffers.values())
    for name, value in list(vars(module).items()):
        # Most settings are plain or empty.
        if type(value) in _PLAIN:
            tokens += (name, value)
        elif name not in _PARTS and not (isinstance(value, dict) and not value):
            token = _token(value)
            if token:  # there is more than hooks of ours, which other threads may have there now
                tokens += (name, token)
    return tuple(tokens)


def _token(value: Any, depth: int = 0) -> Any:
    """Something hashable that tells settings apart: plain values by value, everything else by identity."""
    if isinstance(value, _PLAIN):
        return (type(value), value)
    if is_ours(value):
        return None
    if isinstance(value, Tensor):
        return (value.shape, value.dtype)  # modules may compute such ones anew at each call
    if depth == _DEPTH or isinstance(value, (nn.Module, type)) or (callable(value) and not hasattr(value, "__dict__")):
        return id(value)
    if isinstance(value, dict):
        tokens = ((key, _token(entry, depth + 1)) for key, entry in list(value.items()))
        return tuple((key if isinstance(key, _PLAIN) else id(key), token) for key, token in tokens if token is not None)
    if isinstance(value, (list, tuple, set, frozenset)):
        return (type(value), *(_token(entry, depth + 1) for entry in list(value)))
    return (id(value), _token(getattr(value, "__dict__", {}), depth + 1))


def version(value: Tensor) -> int:
    """How often a tensor was written to, as far as torch counts that."""
    return -1 if value.is_inference() else value._version


class Stamp:
    """Weights as they are now, to notice later that they were written to.

    Versions count writes through the tensors themselves. On a processor a sample of each weight's entries is compared,
    too: writes through ``.data`` and NumPy are not counted. A GPU would have to be waited for.

    Args:
        weights: Tensors.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = [value for value in weights if value.layout is torch.strided]
        samples = [
            value.detach().as_strided((min(value.numel(), _ENTRIES),), (max(1, value.numel() // _ENTRIES),))
            for value in self._weights
            if value.device.type == "cpu" and value.is_floating_point() and value.numel() and _is_dense(value)
        ]
        dtypes = {value.dtype for value in samples}
        self._samples = [[value for value in samples if value.dtype == dtype] for dtype in dtypes]
        self._versions, self._entries = self._counted(), self._sampled()

    def holds(self) -> bool:
        """Whether the weights are what they were."""
        return self._counted() == self._versions and self._sampled() == self._entries

    def _counted(self) -> list[int]:
        return [version(value) for value in self._weights]

    def _sampled(self) -> bytes:
        # As bytes, so that NaN are equal to themselves.
        return b"".join(torch.cat(group).view(torch.uint8).numpy().tobytes() for group in self._samples)


def _is_dense(value: Tensor) -> bool:
    return value.is_contiguous() or (value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last))
