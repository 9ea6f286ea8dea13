"""Directions of one tangent space carried into another: between samples, timesteps and prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from latentjac.arguments import check_choice, check_left, check_number
from latentjac.geometry.rows import check_basis, directions_at, tangent_rows
from latentjac.public import public
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis

METHODS = ("park2023", "pseudoinverse")
LARGEST_REGULARIZATION = 1e6
_NOISE = 100  # in rounding units: what of a unit vector is less lies outside a span


@dataclass(frozen=True, repr=False)
class Transport(Shaped):
    """Directions carried into another tangent space; shapes have a leading B for B > 1 points.

    Attributes:
        v: The directions in the target's x-space, unit, ``[q, *x.shape[1:]]``.
        u: The h-directions that were carried, unit, ``[q, *y.shape[1:]]``.
        arrived: What of each u lies in the target's tangent space, unit: what is carried on from there.
        retained: ``|U2 u|^2``, the part of each u's energy inside the target's tangent space, float64 ``[q]``; 1 is
            all. What is not retained is lost.
        lengths: Length of each v before it was normalised, float64 ``[q]``. With ``"pseudoinverse"`` and no
            regularization: walking so far along v moves the features by what was retained of u. With ``"park2023"`` it
            is the root of retained.
    """

    v: torch.Tensor
    u: torch.Tensor
    arrived: torch.Tensor
    retained: torch.Tensor
    lengths: torch.Tensor


@public
def parallel_transport(
    direction: torch.Tensor | LocalBasis,
    source: LocalBasis,
    target: LocalBasis,
    method: str = "park2023",
    regularization: float = 0.0,
) -> Transport:
    """Carry x-directions from one local basis to another by way of h-space (Park et al. 2023).

    A direction is pushed forward with the source's Jacobian on its span, ``u = U1^T S1 V1 d / |.|``, and pulled back
    by the target's, as :func:`pull_back` does. A row of ``source.v`` becomes the row of ``source.u``. It is the same
    function between samples, timesteps and prompts; the features must be those of one layer.

    Args:
        direction: ``[q, *x.shape[1:]]`` (``[B, q, ...]`` for B points), such as ``source.v[:1]``, or a basis, whose v
            is carried.
        source: Basis where the direction belongs.
        target: Basis to carry it to; one of the two may hold one point and the other several.
        method: ``"park2023"`` or ``"pseudoinverse"``; see :func:`pull_back`.
        regularization: See :func:`pull_back`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If bases do not fit, or a direction has no part in the source's span.
    """
    name = "parallel_transport"
    check_basis(name, "source", source)
    regularization = _check_options(name, target, method, regularization)
    shape, got = (basis.u.shape[basis.s.ndim :] for basis in (source, target))
    if shape != got:
        raise ValueError(f"{name}: target must have features of shape {list(shape)} as source has, got {list(got)}")
    if 1 not in (source.points, target.points) and source.points != target.points:
        raise ValueError(f"{name}: target must hold 1 or {source.points} points as source does, got {target.points}")
    given = direction.v if isinstance(direction, LocalBasis) else direction
    v = source.v.reshape(source.points, source.k, *source.v.shape[source.s.ndim :])
    # In float64 from here: a direction may be almost outside the span.
    rows = directions_at(name, "direction", given, v[:, 0].double(), unit=True, of="source").flatten(2)
    coordinates = (rows @ tangent_rows(name, "source", source, "x").mT) * source.s.double().reshape(len(v), 1, -1)
    sizes = coordinates.norm(dim=2)
    if not (sizes > _NOISE * torch.finfo(source.s.dtype).eps * source.s.max()).all():
        where = _least(sizes)
        raise ValueError(f"{name}: direction must have a part in the span of source.v, got none at index {where}")
    u = (coordinates / sizes[:, :, None]) @ tangent_rows(name, "source", source, "h")
    return _pulled(name, u, target, method, regularization)


@public
def pull_back(u: torch.Tensor, target: LocalBasis, method: str = "park2023", regularization: float = 0.0) -> Transport:
    """x-directions of h-directions in a tangent space.

    Args:
        u: h-directions ``[q, *y.shape[1:]]``, or ``[B, q, *y.shape[1:]]``, of any length; used as unit directions.
        target: Basis of the tangent space.
        method: ``"park2023"``: ``V2^T U2 u``, as published, without the singular values. ``"pseudoinverse"``:
            ``V2^T S2^-1 U2 u``, the shortest step that moves the features by the part of u in the tangent space; it
            leans to directions that the network hardly listens to.
        regularization: Tikhonov's, for ``"pseudoinverse"``, relative to the largest singular value: ``1 / s`` becomes
            ``s / (s^2 + (regularization s[0])^2)``. In [0, ``LARGEST_REGULARIZATION``).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If u does not fit the basis or has no part in its span, or an option is out of range.
    """
    name = "pull_back"
    regularization = _check_options(name, target, method, regularization)
    shape = target.u.shape[target.s.ndim :]
    several = isinstance(u, torch.Tensor) and u.ndim == len(shape) + 2
    points = len(u) if several else 1
    if 1 not in (points, target.points) and points != target.points:
        raise ValueError(f"{name}: u must be for 1 or {target.points} points as target is, got {points}")
    like = torch.empty(max(points, 1), *shape, dtype=torch.float64, device=target.u.device)
    return _pulled(
        name, directions_at(name, "u", u, like, unit=True, of="target").flatten(2), target, method, regularization
    )


def _check_options(name: str, target: Any, method: Any, regularization: Any) -> float:
    check_basis(name, "target", target)
    check_choice(name, "method", method, METHODS)
    checked: float = check_number(name, "regularization", regularization, 0, LARGEST_REGULARIZATION, least=True)
    if method == "park2023":
        check_left(name, "regularization", regularization, 0.0, "with method='park2023'")
    return checked


def _pulled(name: str, u: torch.Tensor, target: LocalBasis, method: str, regularization: float) -> Transport:
    """Unit rows ``[B, q, m]`` pulled back at every point of the target."""
    features = tangent_rows(name, "target", target, "h")
    # Null vectors are in nobody's tangent space; they fill up the rows.
    coordinates = (u @ features.mT) * (target.s > 0).reshape(target.points, 1, -1)
    retained = coordinates.square().sum(2)
    arrived = (coordinates / retained.sqrt()[:, :, None].clamp_min(torch.finfo(u.dtype).tiny)) @ features
    if method == "pseudoinverse":
        coordinates = coordinates * _inverse(target.s.double().reshape(target.points, 1, -1), regularization)
    lengths = coordinates.norm(dim=2)
    # Without the second, zeros would remain where the target responds to no direction with a part in u.
    if not ((retained > (_NOISE * torch.finfo(target.u.dtype).eps) ** 2) & (lengths > 0)).all():
        raise ValueError(f"{name}: u must have a part in the span of target.u, got none at index {_least(lengths)}")
    v = (coordinates / lengths[:, :, None]) @ tangent_rows(name, "target", target, "x")
    shapes = [vectors.shape[target.s.ndim :] for vectors in (target.v, target.u)]
    tensors = (
        v.reshape(*v.shape[:2], *shapes[0]).to(target.v.dtype),
        u.expand(len(v), *u.shape[1:]).reshape(*v.shape[:2], *shapes[1]).to(target.u.dtype),
        arrived.reshape(*v.shape[:2], *shapes[1]).to(target.u.dtype),
        retained.clamp(max=1.0),
        lengths,
    )
    return Transport(*(t[0] if len(v) == 1 else t for t in tensors))


def _inverse(s: torch.Tensor, regularization: float) -> torch.Tensor:
    """Regularised inverses of singular values; 0 for those that are zero to rounding."""
    largest = s.amax(dim=-1, keepdim=True)
    inverse = s / (s.square() + (regularization * largest).square()).clamp_min(torch.finfo(s.dtype).tiny)
    return inverse * (s > torch.finfo(s.dtype).eps * largest)


def _least(values: torch.Tensor) -> int:
    return int(values.argmin()) % values.shape[-1]
