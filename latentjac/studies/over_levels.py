"""One sample at two levels: how far apart its tangent spaces are, and how much of one Jacobian the other captures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from latentjac.diffusion import linearization_at
from latentjac.geometry import subspace_distance
from latentjac.models import Model
from latentjac.shaped import Shaped
from latentjac.stopping import Bar
from latentjac.studies.points import one_sample
from latentjac.studies.settings import Settings
from latentjac.studies.tangent_spaces import SPACES, BySpace, TangentSpaces


@dataclass(frozen=True, repr=False)
class OverLevels(Shaped):
    """Every sample compared with itself at all pairs of L levels.

    Attributes:
        levels: Fractions of T, from noise to image.
        distances: For each space, geodesic distances relative to the largest possible, ``[N, L, L]``.
        captured: ``|J_b V_a^T|^2 / |J_b V_b^T|^2`` ``[N, L, L]`` for a in dimension 1 and b in dimension 2: the energy
            of the Jacobian at level b in the tangent space of level a, relative to its own. Unlike a distance it does
            not change when vectors of almost equal singular values are cut at k in another way.
        captured_by_chance: The same for a random subspace of x-space, ``[N, L]``.
    """

    levels: list[float]
    distances: BySpace
    captured: torch.Tensor
    captured_by_chance: torch.Tensor

    def rows(self) -> list[dict[str, Any]]:
        """One row a sample and ordered pair of different levels."""
        return [
            {"sample": i, "t": s, "t_other": t, "apart": abs(s - t)}
            | {f"distance_{space}": float(self.distances[space][i, a, b]) for space in SPACES}
            | {"captured": float(self.captured[i, a, b]), "captured_by_chance": float(self.captured_by_chance[i, b])}
            for i in range(len(self.captured))
            for a, s in enumerate(self.levels)
            for b, t in enumerate(self.levels)
            if a != b
        ]


def compare_levels(model: Model, spaces: TangentSpaces, settings: Settings, progress: bool = False) -> OverLevels:
    """Compare the tangent spaces of each sample at all pairs of levels.

    Costs one pass over ``(L + 1) k`` probes for each sample and level.

    Args:
        model: The model of the spaces.
        spaces: From :func:`tangent_spaces`.
        settings: Whose seed the random subspace has.
        progress: Show a progress bar.
    """
    count, n = len(spaces.levels), spaces.samples
    distances = BySpace.of(lambda space: torch.zeros(n, count, count, dtype=torch.float64, device="cpu"))
    for i in range(n):
        for a in range(count):
            for b in range(a):
                for space in SPACES:
                    distance = subspace_distance(spaces.bases[a][i], spaces.bases[b][i], space)
                    distances[space][i, [a, b], [b, a]] = distance.relative
    energies = _energies(model, spaces, settings, progress)
    own = energies.diagonal(dim1=1, dim2=2)
    captured = energies / own[:, None]
    return OverLevels(spaces.levels, distances, captured[:, :-1], captured[:, -1])


def _energies(model: Model, spaces: TangentSpaces, settings: Settings, progress: bool) -> torch.Tensor:
    """``|J_b V_a^T|^2`` for every level a and, last, a random subspace: ``[N, L + 1, L]``."""
    v = spaces.bases[0][0].v
    generator = torch.Generator().manual_seed(settings.seed)
    random = torch.linalg.qr(torch.randn(v[0].numel(), len(v), generator=generator, dtype=torch.float64, device="cpu"))[
        0
    ]
    chance = random.T.reshape(v.shape).to(v)
    energies = torch.zeros(
        spaces.samples, len(spaces.levels) + 1, len(spaces.levels), dtype=torch.float64, device="cpu"
    )
    total = spaces.samples * len(spaces.levels)
    with Bar("energies", total, "point", shown=progress) as bar:
        for i in range(spaces.samples):
            probes = torch.cat([*(bases[i].v for bases in spaces.bases), chance])[:, None].contiguous()
            for b, point in enumerate(spaces.points):
                images = linearization_at(model, one_sample(point, i), "mid").jvp(probes)
                energies[i, :, b] = images.double().square().flatten(1).sum(1).reshape(-1, len(v)).sum(1).cpu()
                bar.update()
    return energies
