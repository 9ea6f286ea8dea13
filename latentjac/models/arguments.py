"""Checks of what a network is called with.

Those of :func:`check_call` read no values: a function that makes them can be differentiated and traced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import FLOATING, check_choice, check_kind, check_tensor
from latentjac.kernels.guards import is_traced_here, refuse_differentiated
from latentjac.linearization import BACKENDS, PRECISIONS
from latentjac.linearization.interface import check_base
from latentjac.models.conditioning import Conditioning

if TYPE_CHECKING:
    from latentjac.models.model import Model

_TIMES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *FLOATING)


def check_fit(function: str, argument: str, x: torch.Tensor, model: Model) -> None:
    """Raise unless samples ``[B, ...]`` have the shape, type and device that a model's network takes."""
    if x.ndim == 0 or tuple(x.shape[1:]) != model.sample_shape or len(x) == 0:
        raise ValueError(
            f"{function}: {argument} must have shape [B, *{list(model.sample_shape)}], got {list(x.shape)}"
        )
    if x.dtype != model.dtype or x.device != model.device:
        raise ValueError(f"{function}: {argument} must be {model.dtype} on {model.device}, got {x.dtype} on {x.device}")


def check_call(function: str, model: Model, x: Any, t: Any, conditioning: Any, *, held: bool = False) -> None:
    """Raise unless a model's network takes these samples, timesteps and conditioning.

    With ``held`` the conditioning is no argument of the function: samples have to fit it.
    """
    _check_held(function, "x", x)
    check_fit(function, "x", x, model)
    _check_held(function, "t", t)
    if t.dtype not in _TIMES or t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
        raise ValueError(
            f"{function}: t must be a number or {len(x)}, one a sample, got {t.dtype} of shape {list(t.shape)}"
        )
    check_kind(function, "conditioning", conditioning, Conditioning, "a latentjac.Conditioning")
    if conditioning.num_rows not in (1, len(x)):
        if held:
            count = conditioning.num_rows
            raise ValueError(f"{function}: x must hold {count} samples, as conditioning has rows, got {len(x)}")
        rows = "1 row" if len(x) == 1 else f"1 or {len(x)} rows"
        raise ValueError(f"{function}: conditioning must have {rows}, got {conditioning.num_rows}")
    if model._names is not None and set(conditioning) != set(model._names):
        kind = type(model.network).__name__
        raise ValueError(
            f"{function}: conditioning must hold {list(model._names)} for a {kind}, got {list(conditioning)}"
        )
    check_labels(function, model, conditioning)


def check_labels(function: str, model: Model, conditioning: Conditioning) -> None:
    """Raise unless labels of classes are ones that the network takes; those of a trace have no values."""
    classes, guidance = model.classes, conditioning.guidance
    if classes is None or is_traced_here():
        return
    where = {"conditioning": conditioning} if guidance is None else {
        "conditioning": conditioning, "conditioning.guidance.negative": guidance.negative
    }  # fmt: skip
    for place, held in where.items():
        labels = held.get("class_label")
        if labels is None or labels.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(labels):
            continue
        argument = f"{place}['class_label']"
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"{function}: {argument} must be of whole numbers, got {labels.dtype}")
        outside = labels[(labels < 0) | (labels > classes.last)]
        if len(outside):
            raise ValueError(
                f"{function}: {argument} must be in [0, {classes.last}], as the network has classes, "
                f"got {outside[0].item()}"
            )


def check_linearized(
    x: torch.Tensor,
    t: torch.Tensor,
    conditioning: dict[str, torch.Tensor],
    mask: Any,
    backend: Any,
    precision: Any,
) -> tuple[torch.Tensor | None, str, str | None]:
    """Mask, backend and precision of a linearization, if one can be made of them at a point that can be evaluated."""
    name = "linearization"
    check_base(name, x)
    refuse_differentiated(name, t=t, **{f"conditioning[{key!r}]": c for key, c in conditioning.items()})
    if mask is not None:
        if isinstance(mask, torch.Tensor):
            refuse_differentiated(name, mask=mask)
        mask = check_tensor(name, "mask", mask)
        if mask.dtype != x.dtype or mask.device != x.device:
            raise ValueError(f"{name}: mask must be {x.dtype} on {x.device}, got {mask.dtype} on {mask.device}")
    backend = check_choice(name, "backend", backend, BACKENDS)
    return mask, backend, check_choice(name, "precision", precision, PRECISIONS, optional=True)


def check_factor(mask: torch.Tensor, features: torch.Tensor) -> None:
    """Raise unless features times the mask have the shape of the features."""
    sizes = zip(reversed(mask.shape), reversed(features.shape), strict=False)
    if mask.ndim > features.ndim or any(size not in (1, expected) for size, expected in sizes):
        shape = list(features.shape)
        raise ValueError(f"linearization: mask must broadcast to features {shape}, got {list(mask.shape)}")


def _check_held(function: str, argument: str, value: Any) -> None:
    """Raise unless it is a dense tensor that holds values."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{function}: {argument} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta:
        raise ValueError(f"{function}: {argument} must be a dense tensor that holds values")
