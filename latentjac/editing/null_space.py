"""Directions that leave the rest of a picture alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from latentjac import interrupts
from latentjac.arguments import check_bool, check_int, check_number, check_tensor
from latentjac.diffusion import Point, linearization_at
from latentjac.diffusion.arguments import check_model
from latentjac.edit_options import NULL_RANK
from latentjac.editing.masks import MaskInput, as_mask, check_rank, masked_basis
from latentjac.linear_algebra import orthogonal_part
from latentjac.models import Model
from latentjac.public import public
from latentjac.solvers import LocalBasis, effective_rank
from latentjac.solvers.building import calling
from latentjac.solvers.orthonormal import orthogonality

_LARGEST_RANK = 128
# A direction of which less is left lies in the span that was taken out; what is left of it is error.
_LEAST_LEFT = 1e-3
_NOT_ORTHONORMAL = 1e-3


@public
def null_space(
    model: Model,
    point: Point,
    mask: MaskInput,
    rank: int | None = None,
    energy: float | None = None,
    *,
    tol: float = 1e-3,
    progress: bool = False,
) -> LocalBasis:
    """The directions that the picture outside a mask listens to most; what is orthogonal to them leaves it alone.

    Their ``v`` are V̄ of the projection ``v - V̄ V̄^T v`` (Chen et al. 2024, section 3), see :func:`project_out`.

    Args:
        model: The model.
        point: Where; one sample.
        mask: What is to be edited; the basis is that of everything else.
        rank: Number of directions, 5 by default.
        energy: Instead of a rank: part of the squared Frobenius norm of the Jacobian outside the mask that the
            directions have to carry, in (0, 1). The norm is estimated by random probes (about 2 %).
        tol: Largest relative residual.
        progress: Show a progress bar.

    Returns:
        The basis; the best so far after Ctrl-C, as from :func:`latentjac.svd`, which may carry less than the energy.

    Raises:
        TypeError: If an argument has a wrong type, or both rank and energy are given.
        ValueError: If an argument is out of range, or the energy takes more than 128 directions.
    """
    check_model("null_space", model)
    outside = ~as_mask("null_space", mask, model)
    if rank is not None and energy is not None:
        raise TypeError("null_space: rank or energy must be given, not both, got both")
    rank = check_int("null_space", "rank", rank, 1, optional=True)
    check_rank("null_space", "rank", rank, outside, model)
    energy = check_number("null_space", "energy", energy, 0, 1, optional=True)
    tol = check_number("null_space", "tol", tol, 0, 1)
    progress = check_bool("null_space", "progress", progress)
    with calling("null_space"):
        if energy is None:
            return masked_basis(model, point, outside, rank or NULL_RANK, tol=tol, progress=progress)
        return _of_energy(model, point, outside, energy, tol, progress)


def _of_energy(
    model: Model, point: Point, outside: torch.Tensor, energy: float, tol: float, progress: bool
) -> LocalBasis:
    """As many directions as carry a part of the energy outside the mask."""
    limit = min(_LARGEST_RANK, model.sample_shape[0] * int(outside.sum()))
    k, total, basis = min(8, limit), 0.0, None
    while True:
        basis = masked_basis(model, point, outside, k, tol=tol, warm_start=basis, progress=progress)
        if interrupts.unseen(basis):
            return basis
        total = total or _energy(model, point, outside, basis)
        reached = (torch.cumsum(basis.s.double().square(), 0) >= energy * total).nonzero()
        if len(reached):
            return _first(basis, int(reached[0]) + 1)
        if k == limit:
            part = float(basis.s.double().square().sum()) / total
            raise ValueError(f"null_space: energy must be at most {part:.3g}, that of {k} directions, got {energy}")
        k = min(2 * k, limit)


def _energy(model: Model, point: Point, outside: torch.Tensor, basis: LocalBasis) -> float:
    """Squared Frobenius norm of the Jacobian outside the mask, exact in the span of a basis."""
    factor = outside.to(point.sample.dtype)[None, None]
    lin = linearization_at(model, point, "x0", mask=factor)
    # Another seed than the solver's: the start block of the basis would come again, and nothing of it lies outside.
    generator = torch.Generator().manual_seed(1)
    return effective_rank(lin, basis=basis, probes=16, steps=2, generator=generator).energy.value


def _first(basis: LocalBasis, count: int) -> LocalBasis:
    """The first triplets; the certificate spoke of all of them."""
    tensors = {name: getattr(basis, name)[:count] for name in ("s", "v", "u", "residuals")}
    return replace(basis, **tensors, certificate=None)


def remove(v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The part of vectors ``[..., C, H, W]`` that is orthogonal to directions ``[r, C, H, W]``, of any such shape."""
    rows, known = v.flatten(1 - directions.ndim), directions.flatten(1).to(v)
    for _ in range(2):  # twice for rounding
        rows = orthogonal_part(rows, known)
    return rows.reshape(v.shape)


@public
def project_out(v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The part of vectors that is orthogonal to directions, ``v - V̄ V̄^T v``, as unit vectors.

    Args:
        v: Vectors ``[..., C, H, W]``.
        directions: Orthonormal ``[r, C, H, W]``, such as ``null_space(...).v``; samples may have any shape.

    Raises:
        TypeError: If an argument is not a tensor.
        ValueError: If shapes do not fit, the directions are not orthonormal, or a vector lies in their span.
    """
    name = "project_out"
    v, directions = check_tensor(name, "v", v), check_tensor(name, "directions", directions)
    if directions.ndim < 2 or directions.numel() == 0:
        raise ValueError(f"{name}: directions must have shape [r, C, H, W], got {list(directions.shape)}")
    if v.numel() == 0 or v.shape[1 - directions.ndim :] != directions.shape[1:] or v.device != directions.device:
        expected = ", ".join(map(str, directions.shape[1:]))
        raise ValueError(f"{name}: v must have shape [..., {expected}] as directions have, got {list(v.shape)}")
    error = orthogonality(directions.flatten(1))
    if error > _NOT_ORTHONORMAL:
        raise ValueError(f"{name}: directions must be orthonormal, got |QQ^T - I| of {error:.1e}")
    rest = _left(v, directions)
    if rest is None:
        raise ValueError(f"{name}: v must have a part outside the span of directions, got none")
    return rest


def left_of(v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """:func:`project_out` of an edit's directions, whose message says what to change in the edit."""
    rest = _left(v, directions)
    if rest is None:
        raise ValueError(
            "edit: directions must have a part that leaves the rest of the picture alone, got one in the span of "
            f"the {len(directions)} directions taken out; lower null_rank or null_energy"
        )
    return rest


def _left(v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor | None:
    """What is left of vectors, as unit vectors; None if it is nothing of one of them."""
    first, column = 1 - directions.ndim, (..., *[None] * (directions.ndim - 1))
    largest = v.flatten(first).abs().amax(-1)[column]
    v = v / torch.where(largest > 0, largest, 1.0)  # squares of very small or large entries stay finite
    left = remove(v, directions)
    length, before = (x.flatten(first).norm(dim=-1) for x in (left, v))
    return None if (length <= _LEAST_LEFT * before).any() else left / length[column]
