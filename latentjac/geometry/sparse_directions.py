"""Other orthonormal directions of a tangent space: turned so that each changes a part of the picture of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_int, shown
from latentjac.public import public
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis

_STARTS, _MOST_TURNS, _LEAST_GAIN = 4, 2000, 1e-12


@dataclass(frozen=True, repr=False)
class SparseDirections(Shaped):
    """Orthonormal directions of the span of a basis; of several points with B in front everywhere.

    Attributes:
        v: ``[k, *x.shape[1:]]``, the one with the largest effect first; the entry of largest size of each is positive.
        rotation: ``v`` is this times the singular vectors; orthogonal, float64 ``[k, k]``.
        effects: ``|J v|`` of each, float64 ``[k]``, descending; their squares sum to those of the singular values.
        concentration: The criterion, float64 ``[]``: 1 where each direction changes one place alone, small where every
            direction changes all of them.
        before: The same of the singular vectors.
        orthogonality: Largest entry of ``|v v^T - I|``.
    """

    v: torch.Tensor
    rotation: torch.Tensor
    effects: torch.Tensor
    concentration: torch.Tensor
    before: torch.Tensor
    orthogonality: float


@public
@torch.no_grad()
def sparse_directions(basis: LocalBasis, channels: int = 0) -> SparseDirections:
    """Turn a local basis inside its span so that the changes that its directions make overlap as little as they can.

    Singular vectors are one orthonormal basis of the tangent space among all others. This one maximizes the fourth
    powers of what the directions change (quartimax, as in factor analysis): ``sum |Y_ip|^4`` over all rotations R, with
    ``Y = R J V`` and the length ``|Y_ip|`` over the channels of place p. The network is not evaluated: J V is ``s u``.

    With the posterior mean (layer ``"x0"``) places are pixels, and directions come out that mean more than the singular
    vectors (docs/factors.md).

    Args:
        basis: Of one point or several; its singular values must be positive.
        channels: Which dimension of ``y.shape[1:]`` holds the channels; a colour is one place with all of them.

    Returns:
        The directions; best of four starts, the same each time.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a singular value is zero, or there is no such dimension.

    Example:
        >>> basis = latentjac.local_basis(model, point, k=5, layer="x0")
        >>> sparse = latentjac.geometry.sparse_directions(basis)
        >>> edit = latentjac.edit(model, point, sparse.v[0], [-3.0, 3.0])
    """
    if not isinstance(basis, LocalBasis):
        raise TypeError(f"sparse_directions: basis must be a LocalBasis, got {type(basis).__name__}")
    several = basis.s.ndim == 2
    u, s, v = (value if several else value[None] for value in (basis.u, basis.s, basis.v))
    channels = check_int("sparse_directions", "channels", channels, 0)
    if channels >= u.ndim - 2:
        shape = list(u.shape[2:])
        raise ValueError(
            f"sparse_directions: channels must be a dimension of y.shape[1:] = {shape}, got {shown(channels)}"
        )
    if not (s > 0).all():
        raise ValueError(f"sparse_directions: singular values of basis must be positive, got {s.min().item():g}")
    found = [_of_point(*each, channels) for each in zip(u, s, v, strict=True)]
    tensors = (torch.stack(values) if several else values[0] for values in zip(*found, strict=True))
    directions, rotation, effects, concentration, before = tensors
    rows = directions.flatten(-(v.ndim - 2)).double()
    gaps = rows @ rows.mT - torch.eye(rows.shape[-2], device=rows.device, dtype=rows.dtype)
    return SparseDirections(directions, rotation, effects, concentration, before, float(gaps.abs().max()))


def _of_point(u: torch.Tensor, s: torch.Tensor, v: torch.Tensor, channels: int) -> tuple[torch.Tensor, ...]:
    """Directions, rotation, effects and both values of the criterion, of one point."""
    images = (u.double() * s.double().reshape(-1, *[1] * (u.ndim - 1))).movedim(1 + channels, -1)
    images = images.reshape(len(images), -1, u.shape[1 + channels])
    images = images / images.norm()
    one = torch.eye(len(s), dtype=torch.float64, device=u.device)
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(_STARTS - 1, len(s), len(s), generator=generator, dtype=torch.float64, device="cpu")
    turned = [_turned(images, start) for start in (one, *(torch.linalg.qr(d)[0].to(one) for d in draws))]
    rotation = max(turned, key=lambda r: float(_fourth_powers(r, images)))
    effects = torch.einsum("ij,jpc->ipc", rotation, images).flatten(1).norm(dim=1) * s.double().norm()
    order = effects.argsort(descending=True)
    rotation, effects = rotation[order], effects[order]
    rows = rotation @ v.flatten(1).double()
    signs = rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()
    return (
        (rows * signs).to(v.dtype).reshape(v.shape),
        rotation * signs,
        effects,
        _concentration(rotation, images),
        _concentration(one, images),
    )


def _turned(images: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """A rotation where the criterion grows no more; it grows at every turn, since it is convex (polar factors)."""
    best = _fourth_powers(rotation, images)
    for _ in range(_MOST_TURNS):
        turned = torch.einsum("ij,jpc->ipc", rotation, images)
        gradient = torch.einsum("ipc,jpc->ij", turned * turned.square().sum(2, keepdim=True), images)
        left, _, right = torch.linalg.svd(gradient)
        rotation, before = left @ right, best
        best = _fourth_powers(rotation, images)
        if best - before <= _LEAST_GAIN * best:
            break
    return rotation


def _fourth_powers(rotation: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,jpc->ipc", rotation, images).square().sum(2).square().sum()


def _concentration(rotation: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The criterion over what it would be if each place were changed by one direction alone."""
    return _fourth_powers(rotation, images) / images.square().sum((0, 2)).square().sum()
