"""Functions with a base point and two sets of constants each, which touch what passes keep and prepare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from networks import build_text_unet, build_tiny_unet, rand, randomize

from latentjac.models.layers import Tap

Tensor = torch.Tensor
Case = tuple[Callable, Tensor, list[tuple[Any, ...]]]
TIMES = [torch.tensor(500), torch.tensor(20)]


def unet(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    net = randomize(build_tiny_unet()).to(device, dtype)
    return Tap(net, "mid_block"), rand(2, 3, 16, 16).to(device, dtype), [(t.to(device),) for t in TIMES]


def conditional_unet(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    net = randomize(build_text_unet(attention_head_dim=8)).to(device, dtype)
    constants = [
        (t.to(device), rand(1, 7, 6, seed=seed).to(device, dtype)) for t, seed in zip(TIMES, (3, 4), strict=True)
    ]
    return lambda x, t, text: net(x, t, text).sample, rand(1, 4, 8, 8).to(device, dtype), constants


def weights_as_constants(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    """What passes prepare of weights has to follow weights that are constants, and may change."""

    def f(x: Tensor, w: Tensor, a: Tensor, scale: Tensor) -> Tensor:
        h = F.silu(F.conv2d(x, w, padding=1)) / scale
        return torch.sinc(F.linear(h.flatten(1), a)) + 0.5 * h.mean((1, 2, 3), keepdim=True)[:, :, 0, 0]

    constants = [(rand(4, 3, 3, 3, seed=s), rand(5, 64, seed=s), rand(4, 4, seed=s).exp()) for s in (5, 6)]
    return f, rand(2, 3, 4, 4).to(device, dtype), [tuple(t.to(device, dtype) for t in given) for given in constants]


def elementwise(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    """Rules that keep values of the base point."""

    def f(x: Tensor, c: Tensor) -> Tensor:
        h = F.softmax(x * x, -1) / (1 + x.square()) + torch.where(x > c, x, torch.tanh(x))
        h = F.max_pool1d(h, 2)
        h = h @ torch.exp(h.mT)[..., :3]
        return (h / torch.linalg.vector_norm(h, dim=-1, keepdim=True)).flip(-1) + F.glu(torch.cat([h, h], -1), -1)

    return f, rand(2, 4, 6).to(device, dtype), [(rand(6, seed=s).to(device, dtype),) for s in (7, 8)]


def attention(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    """Queries, keys and values of x, and no other product."""

    def f(x: Tensor, t: Tensor) -> Tensor:
        q, k, v = (x * t).unflatten(-1, (3, 2, 20)).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v)

    return f, rand(2, 33, 120).to(device, dtype), [(rand(1, seed=s).exp().to(device, dtype),) for s in (5, 6)]


def block(dtype: torch.dtype = torch.float64, device: str = "cpu") -> Case:
    """A residual block with attention; what tests of the bookkeeping take, since it is traced fast."""
    w, qkv = rand(8, 8, 3, 3).to(device, dtype) / 8, rand(24, 8).to(device, dtype) / 3

    def f(x: Tensor, t: Tensor) -> Tensor:
        h = x + F.conv2d(F.silu(F.group_norm(x, 2) * t), w, padding=1)
        q, k, v = F.linear(h.flatten(2).mT, qkv).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        return h + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2).mT.reshape(h.shape)

    return f, rand(2, 8, 4, 4).to(device, dtype), [(rand(1, seed=s).exp().to(device, dtype),) for s in (5, 6)]
