"""Refuses networks whose weights are not there as plain numbers: offloaded, cast at each call, quantized; or cached."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.models.errors import LoadError

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# Libraries whose layers hold quantized weights, and classes of such layers elsewhere.
_QUANTIZERS = {"bitsandbytes", "torchao", "optimum", "quanto", "hqq", "nunchaku", "sdnq", "auto_gptq", "gptqmodel"}
_QUANTIZED = {"GGUFLinear", "GGUFConv2d", "Linear4bit", "Linear8bitLt", "QLinear", "QConv2d", "FP8Linear"}
_OFFLOADED = "load(pipeline, device=...) after pipeline.remove_all_hooks() moves the network as a whole"
_WITHOUT = "load the pipeline by diffusers without that, in a floating type"


def check_plain(where: str, part: torch.nn.Module) -> None:
    """Raise unless a network can be called, traced and differentiated with the weights that it has.

    Args:
        where: What the network is called.
        part: It.

    Raises:
        LoadError: If hooks move or cast its weights or skip parts of it, or if weights are quantized; it names the
            module and the way out.
    """
    cached = bool(getattr(part, "is_cache_enabled", False))
    for name, module in part.named_modules():
        found = _hooks(module, cached) or _weights(module)
        if found is not None:
            got, out = found
            at = f"its module {name!r}, a {type(module).__name__}" if name else "it"
            raise LoadError(f"load: {where} must have plain weights on one device, got {got} in {at} ({out})")


def _hooks(module: torch.nn.Module, cached: bool) -> tuple[str, str] | None:
    """Those that accelerate and diffusers put around a module's forward, and what to do about them."""
    held: Any = getattr(module, "_hf_hook", None)
    if held is not None:
        kinds = ", ".join(type(hook).__name__ for hook in getattr(held, "hooks", [held]))
        return f"hooks of accelerate ({kinds})", _OFFLOADED
    registry: Any = getattr(module, "_diffusers_hook", None)
    hooks = list(getattr(registry, "hooks", {}))  # a pipeline that ran leaves empty registries
    if not hooks:
        return None
    return f"hooks of diffusers ({', '.join(hooks)})", "network.disable_cache()" if cached else _WITHOUT


def _weights(module: torch.nn.Module) -> tuple[str, str] | None:
    """What is no plain tensor of real numbers among a module's own weights, and what to do about it."""
    kind = type(module)
    if (
        kind.__name__ in _QUANTIZED
        or kind.__module__.partition(".")[0] in _QUANTIZERS
        or ".quantized" in kind.__module__
    ):
        return "a quantized layer", f"network.dequantize() where diffusers has that, or {_WITHOUT}"
    for name, weight in module.named_parameters(recurse=False):
        if weight.is_meta:
            return f"{name} without memory", _OFFLOADED
        if type(weight) not in (torch.nn.Parameter, torch.Tensor) or weight.dtype not in _PLAIN:
            described = f"{name} of {type(weight).__name__} in {weight.dtype}"
            return described, f"network.dequantize() where diffusers has that, or {_WITHOUT}"
    return None
