"""Directions that leave the rest of a picture alone."""

from __future__ import annotations

from dataclasses import replace

import torch

from latentjac import interrupts
from latentjac.arguments import check_int, check_number
from latentjac.diffusion import Point, linearization_at
from latentjac.edit.masks import MaskInput, as_mask, masked_basis
from latentjac.geometry.local_basis import check_model
from latentjac.models import Model
from latentjac.svd import LocalBasis, effective_rank
from latentjac.svd.building import calling

DEFAULT_RANK = 5  # of the original for faces
_LARGEST_RANK = 128
# A direction of which less is left lies in the span that was taken out; what is left of it is error.
_LEAST_LEFT = 1e-3


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
    _check(rank, energy)
    with calling("null_space"):
        if energy is None:
            return masked_basis(model, point, outside, rank or DEFAULT_RANK, tol=tol, progress=progress)
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
    """The part of vectors ``[..., C, H, W]`` that is orthogonal to directions ``[r, C, H, W]``."""
    rows, known = v.flatten(-3), directions.flatten(1).to(v)
    for _ in range(2):  # twice for rounding
        rows = rows - (rows @ known.mT) @ known
    return rows.reshape(v.shape)


def project_out(v: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The part of vectors that is orthogonal to directions, ``v - V̄ V̄^T v``, as unit vectors.

    Args:
        v: Vectors ``[..., C, H, W]``.
        directions: Orthonormal ``[r, C, H, W]``, such as ``null_space(...).v``.

    Raises:
        ValueError: If a vector lies in the span of the directions.
    """
    left = remove(v, directions)
    length, before = (x.flatten(-3).norm(dim=-1) for x in (left, v))
    if (length <= _LEAST_LEFT * before).any():
        raise ValueError(
            "edit: directions must have a part that leaves the rest of the picture alone, got one in the span of "
            f"the {len(directions)} directions taken out; lower null_rank or null_energy"
        )
    return left / length[..., None, None, None]


def _check(rank: object, energy: object) -> None:
    if rank is not None and energy is not None:
        raise TypeError("null_space: expected rank or energy, got both")
    check_int("null_space", "rank", rank, 1, optional=True)
    check_number("null_space", "energy", energy, 0, 1, optional=True)
