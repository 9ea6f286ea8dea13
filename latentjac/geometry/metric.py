"""Inner products and norms in the pullback metric ``G = J^T J``, without a matrix."""

from __future__ import annotations

from typing import Any

import torch

from latentjac.arguments import check_overflow
from latentjac.geometry.rows import directions_at
from latentjac.public import public
from latentjac.solvers import LinearOperator, LocalBasis
from latentjac.solvers.arguments import check_operator


@public
def pullback_inner(source: LinearOperator | LocalBasis, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Inner products ``a^T G b = <J a, J b>`` of pairs of directions (Park et al. 2023).

    Args:
        source: A linearization, which gives them exactly, or a basis, which knows J on its span only: what a
            direction has outside counts as nothing.
        a: Directions ``[q, *x.shape[1:]]``, or ``[B, q, *x.shape[1:]]`` for B points.
        b: The same shape.

    Returns:
        float64 ``[q]``, or ``[B, q]`` for B > 1 points; in units of the features squared.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a shape does not fit.
    """
    images = [_images("pullback_inner", name, source, v) for name, v in (("a", a), ("b", b))]
    if images[0].shape != images[1].shape:
        raise ValueError(f"pullback_inner: b must have the shape of a, {list(a.shape)}, got {list(b.shape)}")
    products = (images[0] * images[1]).sum(2)
    check_overflow("pullback_inner", "a and b", products)
    return _for_points(products)


@public
def pullback_norm(source: LinearOperator | LocalBasis, v: torch.Tensor) -> torch.Tensor:
    """Lengths ``|J v|`` of directions in the pullback metric.

    Args:
        source: A linearization or a basis, as for :func:`pullback_inner`; from a basis a lower bound.
        v: Directions ``[q, *x.shape[1:]]``, or ``[B, q, *x.shape[1:]]`` for B points.

    Returns:
        float64 ``[q]``, or ``[B, q]`` for B > 1 points: how far the features move for each direction. ``basis.v``
        gives ``basis.s``.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a shape does not fit.
    """
    lengths = _images("pullback_norm", "v", source, v).norm(dim=2)
    check_overflow("pullback_norm", "v", lengths)
    return _for_points(lengths)


def _images(name: str, argument: str, source: Any, directions: Any) -> torch.Tensor:
    """``J v`` of every direction in float64, ``[B, q, m]``; for a basis in the coordinates of its u."""
    if isinstance(source, LocalBasis):
        v = source.v.reshape(source.points, source.k, *source.v.shape[source.s.ndim :])
        rows = directions_at(name, argument, directions, v[:, 0], of="source").double().flatten(2)
        return (rows @ v.double().flatten(2).mT) * source.s.double().reshape(source.points, 1, source.k)
    check_operator(name, "source", source)
    probes = directions_at(name, argument, directions, source.x, of="source").transpose(0, 1).contiguous()
    return source.jvp(probes).transpose(0, 1).double().flatten(2)


def _for_points(values: torch.Tensor) -> torch.Tensor:
    return values[0] if len(values) == 1 else values
