"""Reference implementations of the kernels: the oracle of the tests, and what runs where the native module does not.

Shapes and formulas are those of `latentjac.kernels.norm_act`, `gated`, `rows` and `jacobi`; arguments come already
checked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CHUNK_BYTES = 1 << 26  # most memory for a float64 copy of part of many long rows


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type of xhat and a, and of all arithmetic, for inputs of `dtype`."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def activate(z: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """act(z) and act'(z)."""
    if activation == "identity":
        return z, torch.ones_like(z)
    if activation == "silu":
        s = torch.sigmoid(z)
        return z * s, s * (1 + z * (1 - s))
    if activation == "relu":
        # `where` keeps a NaN in z as a NaN in the value; its slope is 0 and meets a NaN rstd.
        return torch.where(z <= 0, torch.zeros_like(z), z), torch.where(z <= 0, 0.0, 1.0).to(z.dtype)
    if activation == "gelu":
        cdf = 0.5 * (1 + torch.erf(z * math.sqrt(0.5)))
        return z * cdf, cdf + z * torch.exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))
    k, cubic = math.sqrt(2 / math.pi), 0.044715
    t = torch.tanh(k * (z + cubic * z**3))
    return 0.5 * z * (1 + t), 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * k * (1 + 3 * cubic * z * z)


def grouped(x: Tensor, groups: int) -> Tensor:
    """[..., S, C] as [..., S, G, C/G]."""
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def group_mean(x: Tensor, groups: int) -> Tensor:
    """Mean over the positions and channels of a group, broadcast back: [..., S, C] -> [..., 1 or S, C]."""
    mean = grouped(x, groups).mean(dim=(-3, -1), keepdim=True)
    return mean.expand(*mean.shape[:-1], x.shape[-1] // groups).flatten(-2)


def norm_act_primal(
    x: Tensor, gamma: Tensor | None, beta: Tensor | None, groups: int, eps: float, activation: str, rms: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """y, xhat and a of x [N, S, C]; gamma and beta are [C], [N, C] or None."""
    kind = statistics_dtype(x.dtype)
    value = x.to(kind)
    centered = value if rms else value - group_mean(value, groups)
    rstd = torch.rsqrt(group_mean(centered * centered, groups) + eps)
    xhat = centered * rstd
    z, scale = xhat, rstd
    if gamma is not None:
        per_sample = gamma.to(kind).reshape(-1, 1, x.shape[-1])
        z, scale = z * per_sample, scale * per_sample
    if beta is not None:
        z = z + beta.to(kind).reshape(-1, 1, x.shape[-1])
    y, slope = activate(z, activation)
    return y.to(x.dtype), xhat, scale * slope


def norm_act_linear(t: Tensor, a: Tensor, xhat: Tensor, groups: int, rms: bool, transpose: bool) -> Tensor:
    """Tangent or (transpose) cotangent of t [P, N, S, C]."""
    w = t.to(a.dtype)
    if transpose:
        w = a * w
    out = w - xhat * group_mean(xhat * w, groups)
    if not rms:
        out = out - group_mean(w, groups)
    return (out if transpose else a * out).to(t.dtype)


def gated_tangent(value: Tensor, gate: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * value and b * gate, for tangents [P, R, C]."""
    return (a * value.to(a.dtype) + b * gate.to(a.dtype)).to(value.dtype)


def gated_cotangent(u: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Products a * u and b * u, for cotangents [P, R, C]."""
    wide = u.to(a.dtype)
    return (a * wide).to(u.dtype), (b * wide).to(u.dtype)


def gram(a: Tensor, b: Tensor | None) -> Tensor:
    """Inner products of rows [B, p, n] with rows [B, q, n] or, without those, with themselves."""
    wide = a.double()
    return wide @ (wide if b is None else b.double()).mT


def combine_rows(weights: Tensor, rows: Tensor, more: Tensor | None, others: Tensor | None, wide: bool) -> Tensor:
    """Sums of rows [B, p, n] with weights [B, r, p], and of others [B, q, n] with more [B, r, q], piece by piece."""
    if wide:
        out = weights @ rows.double()
        return out if more is None or others is None else out + more @ others.double()
    points, count, width = len(rows), weights.shape[1], rows.shape[2]
    out = rows.new_empty(points, count, width)
    step = max(1, _CHUNK_BYTES // max(1, 8 * points * (count + rows.shape[1])))
    for a in range(0, width, step):
        part = weights @ rows[:, :, a : a + step].double()
        if more is not None and others is not None:
            part += more @ others[:, :, a : a + step].double()
        out[:, :, a : a + step] = part
    return out


def small_svd(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Vectors and values of matrices [B, p, q], and zeros for what only rotations have."""
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    return u, s, vh, s.new_zeros(len(s))


def small_eigh(matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values and vectors of symmetric matrices [B, p, p], largest first, and zeros."""
    values, vectors = torch.linalg.eigh(matrices)
    return values.flip(1), vectors.flip(2), values.new_zeros(len(values))
