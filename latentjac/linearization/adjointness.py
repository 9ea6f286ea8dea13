"""Whether two products are each other's transpose, from one probe each way."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Tensor = torch.Tensor


def random_like(t: Tensor, generator: torch.Generator) -> Tensor:
    """A random tensor that lies in memory as another does; the generator is one of the CPU."""
    values = torch.randn(t.shape, generator=generator, dtype=t.dtype, device="cpu")
    return torch.empty_like(t).copy_(values)


def answer(jv: Tensor, generator: torch.Generator) -> Tensor:
    """A cotangent that shows what is wrong with a pair of passes, for their tangent ``Jv``.

    In the direction of Jv a wrong factor shows in full; the random part shows what should be zero.
    """
    return _unit(jv) + _unit(random_like(jv, generator))


def mismatch(
    u: Sequence[Tensor | None],
    jv: Sequence[Tensor | None],
    jtu: Sequence[Tensor | None],
    v: Sequence[Tensor | None],
    relative: float,
    absolute: float,
) -> float:
    """Difference of ``<u, Jv>`` and ``<J^T u, v>``, as a multiple of what rounding allows.

    Args:
        u: Cotangents; None is zero.
        jv: Tangents.
        jtu: Cotangents pulled back.
        v: Tangents that were pushed forward.
        relative: Allowed, of the lengths of the tangents and cotangents.
        absolute: Allowed besides, of the lengths of u and v: products may be all cancellation.
    """
    first, second = _dot(u, jv), _dot(jtu, v)
    sizes = [_dot(a, a) ** 0.5 for a in (u, jv, jtu, v)]
    allowed = relative * (sizes[0] * sizes[1] + sizes[2] * sizes[3]) + absolute * sizes[0] * sizes[3]
    difference = abs(first - second)
    # What is not finite at this point says nothing of the passes.
    return difference / allowed if difference == difference and allowed > 0 else 0.0


def spacing_of(dtype: torch.dtype, on_gpu: bool) -> float:
    """Relative rounding error, with tf32 for float32 on a GPU."""
    eps = torch.finfo(dtype).eps
    return max(eps, 2.0**-10) if on_gpu and dtype in (torch.float32, torch.complex64) else eps


def _unit(t: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(t, dtype=_wide(t))
    return (t / norm.clamp_min(torch.finfo(norm.dtype).tiny)).to(t.dtype)


def _wide(t: Tensor) -> torch.dtype:
    return torch.complex128 if t.is_complex() else torch.float64


def _dot(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> float:
    """``Re <a, b>``."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    return sum((x.to(_wide(x)).conj() * y.to(_wide(y))).sum().real.item() for x, y in pairs)
