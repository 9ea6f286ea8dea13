"""What a model is made of by hand: checks, and what stands for parts that are left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.arguments import check_int, check_kind, check_sequence, is_int, shown
from latentjac.models.codec import NoCodec, PixelCodec
from latentjac.models.configs import LARGEST_SIDE, LONGEST
from latentjac.models.layers import OUTPUTS
from latentjac.models.video import VideoCodec


def unwrapped(part: Any) -> Any:
    """The network itself of one that ``torch.compile`` or data parallelism wraps; anything else as it is."""
    while True:
        if isinstance(part, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            part = part.module
        elif isinstance(part, torch.nn.Module) and hasattr(part, "_orig_mod"):
            part = part._orig_mod
        else:
            return part


def check_has(argument: str, value: object, methods: tuple[str, ...]) -> None:
    """Raise unless a part has these methods, or is None."""
    if value is not None and not all(callable(getattr(value, method, None)) for method in methods):
        raise TypeError(f"Model: {argument} must have {' and '.join(methods)} or be None, got {type(value).__name__}")


def names_of(network: torch.nn.Module, layers: Any) -> dict[str, str]:
    """Names of the modules that other names stand for."""
    check_kind("Model", "layers", layers, Mapping, "a mapping from names to modules", optional=True)
    names = {id(module): name for name, module in network.named_modules() if name}
    found: dict[str, str] = {}
    for alias, module in (layers or {}).items():
        name: Any = names.get(id(module)) if isinstance(module, torch.nn.Module) else module
        if not isinstance(alias, str) or alias in OUTPUTS or name not in names.values():
            raise ValueError(
                f"Model: layers must give names other than {list(OUTPUTS)} to modules inside the network, "
                f"got {shown(alias)} for {shown(name) if isinstance(name, str) else f'a {type(module).__name__}'}"
            )
        found[alias] = name
    return found


def check_shape(shape: Any) -> tuple[int, ...]:
    """The shape of one sample, if it is one."""
    sizes = check_sequence("Model", "sample_shape", shape, "ints")
    if not all(map(is_int, sizes)):
        raise ValueError(f"Model: sample_shape must be ints such as (C, H, W), got {shown(shape)}")
    most = LARGEST_SIDE if len(sizes) > 2 else LONGEST  # sound is longer than pictures are wide
    return tuple(check_int("Model", "sample_shape", size, 1, most) for size in sizes)


def codec_of_pixels(shape: tuple[int, ...]) -> PixelCodec | VideoCodec | NoCodec:
    """The codec of samples that are pictures or videos themselves."""
    channels, *size = shape
    if channels not in (1, 3) or len(size) not in (2, 3):
        return NoCodec()
    return PixelCodec((size[0], size[1]), channels) if len(size) == 2 else VideoCodec(tuple(size), channels)
