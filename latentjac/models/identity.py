"""A short hash that tells networks apart, the same in every process."""

from __future__ import annotations

import functools
import hashlib
import json
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from latentjac.linearization.changes import structure
from latentjac.linearization.locks import exclusion

# Settings that change no value, and what nn.Module keeps in places of its own.
_IGNORED = {
    "training",
    "gradient_checkpointing",
    "_gradient_checkpointing_func",
    "_internal_dict",
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_is_full_backward_hook",
    "_compiled_call_impl",
    "_is_torch_compile",
    "_hf_peft_config_loaded",
    "name_or_path",
}
_DEPTH = 4


def network_identity(network: nn.Module) -> str:
    """Hash of configuration, a sample of the weights, and what was added since the network was built.

    Args:
        network: With the configuration of diffusers or transformers, or without one.
    """
    config = _told(getattr(network, "config", {}))
    digest = hashlib.sha256(repr(sorted(config.items())).encode())
    with exclusion.evaluating():  # a network that is being traced has other parameters
        state = network.state_dict()
        probes = [_sample(p.detach()) for p in state.values()]
    # In one transfer: there are hundreds of them.
    values = torch.cat(probes).cpu().split([len(probe) for probe in probes]) if probes else ()
    for name, probe in zip(state, values, strict=True):
        digest.update(name.encode() + probe.numpy().tobytes())
    for added in _added(network, config):
        digest.update(added.encode())
    return digest.hexdigest()[:16]


def _told(config: Any) -> dict[str, Any]:
    """What a configuration says of a network; empty where it is of another kind."""
    found = config if isinstance(config, Mapping) else config.to_dict() if _is_of_transformers(config) else {}
    # Keys with an underscore say where the network was loaded from; files know lists alone.
    return {k: _as_lists(v) for k, v in found.items() if not k.startswith("_") and k != "transformers_version"}


def _is_of_transformers(config: object) -> bool:
    return hasattr(config, "name_or_path") and callable(getattr(config, "to_dict", None))


# Reading all settings takes ten times as long as seeing whether any has changed.
_known: weakref.WeakKeyDictionary[nn.Module, tuple[int, list[str]]] = weakref.WeakKeyDictionary()


def _added(network: nn.Module, config: dict[str, Any]) -> list[str]:
    """Settings that the network does not have by its configuration."""
    now = structure([network])
    known = _known.get(network)
    if known is None or known[0] != now:
        kind: Any = type(network)
        built = _as_built(kind, json.dumps(config, sort_keys=True, default=repr))
        known = _known[network] = now, sorted(set(_settings(network)) - built)
    return known[1]


@functools.lru_cache(maxsize=8)
def _as_built(kind: Any, config: str) -> frozenset[str]:
    """Settings of a new network of this configuration, without weights; none where it cannot be built."""
    make = getattr(kind, "from_config", None)
    if make is None:
        return frozenset()
    try:
        with torch.device("meta"):
            return frozenset(_settings(make(json.loads(config))))
    except Exception:  # networks of others, of which only the settings themselves are then known
        return frozenset()


def _settings(network: nn.Module) -> Iterator[str]:
    """Every module's type and settings, a text each."""
    for name, module in network.named_modules():
        yield f"{name}: {_kind(module)}"
        for key, value in list(vars(module).items()):
            if key not in _IGNORED and not _is_empty(value):
                yield f"{name}.{key} = {_text(value)}"


def _is_empty(value: Any) -> bool:
    """Whether nothing is in it: no settings, or a registry of hooks as diffusers leaves them behind after a run."""
    held = getattr(value, "hooks", value) if type(value).__name__ == "HookRegistry" else value
    return isinstance(held, dict) and not held


def _text(value: Any, depth: int = 0) -> str:
    """A setting without addresses: plain values as they are, objects by their types and own settings."""
    if isinstance(value, (int, float, complex, str, bytes, bool, type(None), torch.dtype, torch.device)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"{list(value.shape)} {_sample(value.detach()).tolist()}" if value.device.type != "meta" else "a tensor"
    if isinstance(value, (nn.Module, type)) or depth == _DEPTH:
        return _kind(value)
    if isinstance(value, dict):
        # Handles of hooks count up over the process.
        keys = (repr(key) if isinstance(key, str) else "" for key in value)
        return "{" + ", ".join(f"{k}: {_text(v, depth + 1)}" for k, v in zip(keys, value.values(), strict=True)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(entry, depth + 1) for entry in value) + "]"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(_text(entry, depth + 1) for entry in value)) + "}"
    name = getattr(value, "__qualname__", None)  # of functions
    inside = _told(value) if _is_of_transformers(value) else getattr(value, "__dict__", {})
    return name or f"{_kind(value)}({_text(inside, depth + 1)})"


def _kind(value: object) -> str:
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _as_lists(value: Any) -> Any:
    return [_as_lists(entry) for entry in value] if isinstance(value, (tuple, list)) else value


def _sample(t: torch.Tensor) -> torch.Tensor:
    """Some 64 entries, evenly spread, as float32, without a copy: channels may be last in memory."""
    every = max(1, t.numel() // 64)
    taken = t.take(torch.arange(0, t.numel(), every, device=t.device))
    return (torch.view_as_real(taken) if taken.is_complex() else taken).float()
