"""Geodesic shooting: walking straight ahead in the geometry of a feature map."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_choice, check_int, check_number
from latentjac.edit_options import TOL, K
from latentjac.editing.arguments import set_checked
from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.walk import StepRecord, Walks
from latentjac.editing.walk_bases import WalkBases, check_k
from latentjac.geometry.linearity import Linearity
from latentjac.geometry.transport import METHODS as TRANSPORTS
from latentjac.geometry.transport import pull_back


@dataclass(frozen=True, kw_only=True)
class Geodesic(XSpaceMethod):
    """Steps along v, which is carried on after each: straight on in the geometry of ``layer`` (Park et al. 2023).

    Further options are those of :class:`latentjac.editing.XSpaceMethod`. Ways and transport are of second order
    (docs/editing.md).

    Attributes:
        transport: How directions are carried, ``"park2023"`` or ``"pseudoinverse"``; see
            :func:`latentjac.geometry.pull_back`.
        k: Directions of the local bases on the way.
        tol: Largest relative residual of those bases, in (0, 1).

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    transport: str = "park2023"
    k: int = K
    tol: float = TOL

    def __post_init__(self) -> None:
        super().__post_init__()
        name = "Geodesic"
        set_checked(
            self,
            transport=check_choice(name, "transport", self.transport, TRANSPORTS),
            k=check_int(name, "k", self.k, 1),
            tol=check_number(name, "tol", self.tol, 0, 1),
        )

    def check_size(self, values: int) -> None:
        """Raise if a basis cannot have as many directions."""
        check_k("method.k", self.k, values)

    @property
    def order(self) -> int:
        """Two: ways and transport both are."""
        return 2

    def steps(self, walks: Walks, layer: str, linearity: tuple[Linearity, ...] | None) -> GeodesicSteps:
        """Steps along directions that are carried from basis to basis."""
        bases = WalkBases(walks.model, walks.point, self.k, layer, self.tol)
        return GeodesicSteps(walks, bases, self.transport)


class GeodesicSteps:
    """Steps along v; after each, v is carried to the new point through h-space (Park et al. 2023, first version).

    With the local basis ``J = U^T S V`` of a feature map at a point, ``v = V^T c`` in x-space corresponds to a
    direction u in h-space: ``U^T c`` with ``"park2023"``, the image ``U^T S c`` of v with the pseudoinverse. At
    the next point :func:`latentjac.geometry.pull_back` makes the new v of it, and what the tangent space there holds of
    u is carried on. The rest is lost; the part kept is the retained energy.

    A projection onto the next tangent space turns a direction, too: by half the square of the change of the spaces. So
    ``(3 u - P P' u) / 2`` is projected, with the projections P and P' onto the old space and the new one, one step of
    Newton and Schulz towards the nearest isometry of the two: parallel transport to second order.
    """

    def __init__(self, walks: Walks, bases: WalkBases, transport: str) -> None:
        """Prepare walks.

        Args:
            walks: What to do.
            bases: The bases on the way.
            transport: ``"park2023"`` or ``"pseudoinverse"``.

        Raises:
            ValueError: If a direction has no part in the basis at the point.
        """
        self._walks, self._bases, self._transport = walks, bases, transport
        first = bases.first
        # In the type of bases, which have more digits than samples where weights are in 16 bits.
        coordinates = walks.directions.flatten(2).to(first.v) @ first.v.flatten(1).mT
        energy = coordinates.square().sum(-1)
        if (energy < 1e-6).any():
            raise ValueError(
                f"edit: directions must have a part in the top {first.k} directions of the layer at the point, "
                f"got {float(energy.min()):.1e} of the energy of one; raise k"
            )
        self._retained = [energy]
        images = coordinates if transport == "park2023" else coordinates * first.s
        self._spaces = [first.u] * len(walks.directions)
        self._v = walks.unit_allowed(_unit(coordinates, first.v).to(walks.directions))
        self._u = _unit(images, first.u)

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """A step along the directions carried to x."""
        if number:
            self._carry(x)
        return (self._walks.steps * self._v).sum(1)

    def record(self) -> StepRecord:
        """Retained energies of every step; the first says how much of the directions lies in the basis at the point."""
        return StepRecord(retained=torch.stack(self._retained))

    def _carry(self, x: torch.Tensor) -> None:
        carried, retained = [], []
        for i, u in enumerate(self._u):
            basis = self._bases.at(i, x[i : i + 1])
            there = _projected(u, basis.u)
            carried.append(pull_back(1.5 * u - 0.5 * _projected(there, self._spaces[i]), basis, self._transport))
            retained.append(there.flatten(1).double().square().sum(1).clamp_max(1.0))
            self._spaces[i] = basis.u
        self._v = self._walks.unit_allowed(torch.stack([each.v for each in carried]).to(self._walks.directions))
        self._u = torch.stack([each.arrived for each in carried])
        self._retained.append(torch.stack(retained).to(self._retained[0]))


def _projected(u: torch.Tensor, space: torch.Tensor) -> torch.Tensor:
    """The part of vectors ``[c, *shape]`` in the span of orthonormal ones ``[k, *shape]``."""
    rows = space.flatten(1).to(u)
    return (u.flatten(1) @ rows.mT @ rows).view(u.shape)


def _unit(coordinates: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Unit combinations ``[..., *shape]`` of basis vectors ``[k, *shape]`` with coordinates ``[..., k]``."""
    unit = coordinates / coordinates.norm(dim=-1, keepdim=True)
    return (unit @ vectors.flatten(1)).reshape(*unit.shape[:-1], *vectors.shape[1:])
