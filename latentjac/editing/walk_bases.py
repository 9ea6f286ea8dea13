"""Local bases along walks, each started from the one before, from one trace."""

from __future__ import annotations

from dataclasses import replace

import torch

from latentjac.arguments import check_int
from latentjac.diffusion import Point
from latentjac.geometry.local_basis import local_basis
from latentjac.models import Model
from latentjac.solvers import Krylov, LocalBasis


class WalkBases:
    """Local bases where walks are; the first is that of the point they all begin at.

    Attributes:
        first: The basis at the point.
    """

    def __init__(self, model: Model, point: Point, k: int, layer: str, tol: float) -> None:
        """Compute the basis at a point.

        Args:
            model: The model.
            point: Where the walks begin; one sample.
            k: Directions of every basis.
            layer: Feature map.
            tol: Largest relative residual.
        """
        self._model, self._point, self._layer, self._tol = model, point, layer, tol
        self.first = local_basis(model, point, k, layer, tol=tol)
        self._last: dict[int, LocalBasis] = {}

    def at(self, walk: int, x: torch.Tensor) -> LocalBasis:
        """The basis at the sample ``[1, C, H, W]`` that a walk has reached."""
        start = self._last.get(walk, self.first)
        point = replace(self._point, sample=x)
        # Steps are short against the range in which the network is linear, so a warm start needs no confirmation.
        basis = local_basis(
            self._model, point, self.first.k, self._layer, tol=self._tol, solver=Krylov(confirm=0), warm_start=start
        )
        self._last[walk] = basis
        return basis


def check_k(argument: str, k: int, values: int) -> None:
    """Raise if the Jacobian at samples of so many values has fewer than k singular triplets."""
    check_int("edit", argument, k, 1, values)
