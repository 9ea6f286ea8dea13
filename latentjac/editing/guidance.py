"""x-space guidance: walking a noisy sample along a direction by differences of the predicted noise."""

from __future__ import annotations

import torch

from latentjac.diffusion import predict_noise
from latentjac.editing.nearby import NearbyBases
from latentjac.editing.walk import Walks


class Guidance:
    """Steps ``x <- x + g [eps(x + p v) - eps(x)]`` (Park et al. 2023, section 3.4).

    g is chosen anew at every step such that x moves by ``|distance| sigma / num_steps``: the original's
    constant g makes the way travelled depend on the image, the timestep and the direction. v is fixed, as in the
    original, or looked up in a new local basis every few steps.

    Attributes:
        gains: g of every step so far, ``[w, c]`` each.
        overlaps: ``|<v, v'>|`` of each direction with the one that followed it, ``[w, c]`` a look-up.
    """

    def __init__(
        self, walks: Walks, probe_lengths: torch.Tensor, bases: NearbyBases | None = None, reestimate: int | None = None
    ) -> None:
        """Prepare walks.

        Args:
            walks: What to do.
            probe_lengths: p of each direction in noise standard deviations, ``[w, c]``.
            bases: Where to look directions up.
            reestimate: Steps between two look-ups; None keeps the directions.
        """
        self._walks, self._bases, self._every = walks, bases, reestimate
        self._v = walks.directions
        self._lengths = (probe_lengths * walks.sigma * walks.distances.sign())[..., None, None, None]
        self.gains: list[torch.Tensor] = []
        self.overlaps: list[torch.Tensor] = []

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The difference of the predicted noise, as long as a step has to be."""
        walks = self._walks
        if self._every and number and number % self._every == 0:
            self._follow(x)
        rows = x[:, None] + self._lengths * self._v
        point = walks.point
        eps = predict_noise(walks.model, torch.cat([rows.flatten(0, 1), x]), point.timestep, point.conditioning)
        ahead, here = eps[: -len(x)].view(rows.shape), eps[-len(x) :]
        change = walks.allowed(ahead - here[:, None])
        size = change.flatten(2).norm(dim=2).clamp_min(torch.finfo(x.dtype).tiny)[..., None, None, None]
        gains = walks.steps.abs() / size
        self.gains.append(gains.flatten(1))
        return (gains * change).sum(1)

    def _follow(self, x: torch.Tensor) -> None:
        """Replace each direction by the one of the basis where its walk is that overlaps it most."""
        assert self._bases is not None
        directions, overlaps = [], []
        for i, old in enumerate(self._v):
            new = self._bases.at(i, x[i : i + 1]).v.to(old)
            cosines = old.flatten(1) @ new.flatten(1).mT
            best = cosines.abs().argmax(1, keepdim=True)
            cosine = cosines.gather(1, best)
            directions.append(new[best[:, 0]] * cosine.sign()[..., None, None])
            overlaps.append(cosine.abs()[:, 0])
        self._v = self._walks.unit_allowed(torch.stack(directions))
        self.overlaps.append(torch.stack(overlaps))
