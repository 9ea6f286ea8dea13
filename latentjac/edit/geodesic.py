"""Geodesic shooting: walking straight ahead in the geometry of a feature map."""

from __future__ import annotations

import torch

from latentjac.edit.nearby import NearbyBases
from latentjac.edit.walk import Walks


class Geodesic:
    """Steps along v; after each, v is carried to the new point through h-space (Park et al. 2023, first version).

    With the local basis (U, V) of a feature map at a point, ``v = V c`` in x-space corresponds to ``u = U c`` in
    h-space. At the next point, with the basis (U', V'), the direction goes on as ``v' = V' U'^T u``, normalised.
    What the new tangent space does not hold of u is lost; the part kept is the retained energy ``|U'^T u|^2``.

    Attributes:
        retained: Retained energies of every step so far, ``[w, c]`` each. The first says how much of the given
            directions lies in the basis at the point.
    """

    def __init__(self, walks: Walks, bases: NearbyBases) -> None:
        """Prepare walks.

        Raises:
            ValueError: If a direction has no part in the basis at the point.
        """
        self._walks, self._bases = walks, bases
        first = bases.first
        coordinates = walks.directions.flatten(2) @ first.v.flatten(1).mT.to(walks.directions)
        energy = coordinates.square().sum(-1)
        if (energy < 1e-6).any():
            raise ValueError(
                f"edit: directions must have a part in the top {first.k} directions of the layer at the point, "
                f"got {float(energy.min()):.1e} of the energy of one; raise k"
            )
        self.retained = [energy]
        self._v, self._u = self._turn(coordinates, first.v, first.u)

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """A step along the directions carried to x."""
        if number:
            self._carry(x)
        return (self._walks.steps * self._v).sum(1)

    def _carry(self, x: torch.Tensor) -> None:
        carried, energies = [], []
        for i, u in enumerate(self._u):
            basis = self._bases.at(i, x[i : i + 1])
            coordinates = u.flatten(1) @ basis.u.flatten(1).mT
            energies.append(coordinates.square().sum(-1))
            carried.append(self._turn(coordinates, basis.v, basis.u))
        self._v, self._u = (torch.stack(parts) for parts in zip(*carried, strict=True))
        self.retained.append(torch.stack(energies))

    def _turn(self, coordinates: torch.Tensor, v: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit directions in x-space and h-space with the same coordinates ``[..., k]`` in a basis."""
        unit = coordinates / coordinates.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        in_x, in_h = ((unit @ b.flatten(1)).reshape(*unit.shape[:-1], *b.shape[1:]) for b in (v, u))
        return self._walks.unit_allowed(in_x.to(self._walks.directions)), in_h
