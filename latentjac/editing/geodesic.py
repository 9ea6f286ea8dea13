"""Geodesic shooting: walking straight ahead in the geometry of a feature map."""

from __future__ import annotations

import torch

from latentjac.editing.nearby import NearbyBases
from latentjac.editing.walk import Walks
from latentjac.geometry.transport import pull_back


class Geodesic:
    """Steps along v; after each, v is carried to the new point through h-space (Park et al. 2023, first version).

    With the local basis ``J = U^T S V`` of a feature map at a point, ``v = V^T c`` in x-space corresponds to a
    direction u in h-space: ``U^T c`` with the paper's transport, the image ``U^T S c`` of v with the pseudoinverse. At
    the next point :func:`latentjac.geometry.pull_back` makes the new v of it, and what the tangent space there holds of
    u is carried on. The rest is lost; the part kept is the retained energy.

    Attributes:
        retained: Retained energies of every step so far, ``[w, c]`` each. The first says how much of the given
            directions lies in the basis at the point.
    """

    def __init__(self, walks: Walks, bases: NearbyBases, transport: str) -> None:
        """Prepare walks.

        Args:
            walks: What to do.
            bases: The bases on the way.
            transport: ``"paper"`` or ``"pseudoinverse"``.

        Raises:
            ValueError: If a direction has no part in the basis at the point.
        """
        self._walks, self._bases, self._transport = walks, bases, transport
        first = bases.first
        coordinates = walks.directions.flatten(2) @ first.v.flatten(1).mT.to(walks.directions)
        energy = coordinates.square().sum(-1)
        if (energy < 1e-6).any():
            raise ValueError(
                f"edit: directions must have a part in the top {first.k} directions of the layer at the point, "
                f"got {float(energy.min()):.1e} of the energy of one; raise k"
            )
        self.retained = [energy]
        images = coordinates if transport == "paper" else coordinates * first.s
        self._v = walks.unit_allowed(_unit(coordinates, first.v))
        self._u = _unit(images, first.u)

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """A step along the directions carried to x."""
        if number:
            self._carry(x)
        return (self._walks.steps * self._v).sum(1)

    def _carry(self, x: torch.Tensor) -> None:
        carried = [pull_back(u, self._bases.at(i, x[i : i + 1]), self._transport) for i, u in enumerate(self._u)]
        self._v = self._walks.unit_allowed(torch.stack([each.v for each in carried]).to(self._walks.directions))
        self._u = torch.stack([each.arrived for each in carried])
        self.retained.append(torch.stack([each.retained for each in carried]).to(self.retained[0]))


def _unit(coordinates: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Unit combinations ``[..., *shape]`` of basis vectors ``[k, *shape]`` with coordinates ``[..., k]``."""
    unit = coordinates / coordinates.norm(dim=-1, keepdim=True)
    return (unit @ vectors.flatten(1)).reshape(*unit.shape[:-1], *vectors.shape[1:])
