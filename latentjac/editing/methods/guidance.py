"""x-space guidance: walking a noisy sample along a direction by differences of the predicted noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.arguments import check_int, check_kind, check_number, is_int
from latentjac.diffusion import Point, predict_noise
from latentjac.edit_options import MOST_STEPS, TOL, K
from latentjac.editing.arguments import set_checked
from latentjac.editing.methods.x_space import XSpaceMethod
from latentjac.editing.questions import Asking
from latentjac.editing.walk import StepRecord, Walks
from latentjac.editing.walk_bases import WalkBases, check_k
from latentjac.geometry.linearity import Linearity
from latentjac.models import Model


@dataclass(frozen=True)
class Reestimation:
    """Looking directions up in new local bases on the way.

    Attributes:
        every: Steps between two look-ups, at most 1000.
        k: Directions of every basis.
        tol: Largest relative residual of every basis, in (0, 1).

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    every: int
    k: int = K
    tol: float = TOL

    def __post_init__(self) -> None:
        name = "Reestimation"
        set_checked(
            self,
            every=check_int(name, "every", self.every, 1, MOST_STEPS),
            k=check_int(name, "k", self.k, 1),
            tol=check_number(name, "tol", self.tol, 0, 1),
        )


@dataclass(frozen=True, kw_only=True)
class Guidance(XSpaceMethod):
    """Steps ``x <- x + g [eps(x + p v) - eps(x)]``: differences of the predicted noise (Park et al. 2023, section 3.4).

    Further options are those of :class:`latentjac.editing.XSpaceMethod`. Two steps are put together to one of second
    order (docs/editing.md), unless directions are looked up on the way.

    Attributes:
        reestimate: Replace each direction by the nearest one of a new local basis of ``layer`` every so many steps: an
            int, or a :class:`Reestimation` that also has the size and tolerance of those bases. Never by default.

    Raises:
        TypeError: If an option has a wrong type.
        ValueError: If an option is out of range.
    """

    reestimate: Reestimation | int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.reestimate
        if is_int(given):
            given = Reestimation(check_int("Guidance", "reestimate", given, 1, MOST_STEPS))
        check_kind("Guidance", "reestimate", given, Reestimation, "an int, a Reestimation", optional=True)
        set_checked(self, reestimate=given)

    def check_size(self, values: int) -> None:
        """Raise if a basis cannot have as many directions."""
        if isinstance(self.reestimate, Reestimation):
            check_k("method.reestimate.k", self.reestimate.k, values)

    @property
    def order(self) -> int:
        """Two while directions stay; where they are looked up anew, what the steps before say is of other ways."""
        return 1 if self.reestimate else 2

    def steps(self, walks: Walks, layer: str, linearity: tuple[Linearity, ...] | None) -> GuidedSteps:
        """Steps with the original's probe of length 1 where the network is linear that far, else a shorter one."""
        lengths = (
            torch.ones(1 + int(walks.lines.rows.max()), device="cpu") if linearity is None else probe_lengths(linearity)
        )
        probes = lengths[walks.lines.rows]
        again = self.reestimate
        if not isinstance(again, Reestimation):
            return GuidedSteps(walks, probes)
        return GuidedSteps(walks, probes, WalkBases(walks.model, walks.point, again.k, layer, again.tol), again.every)


def probe_lengths(linearity: tuple[Linearity, ...]) -> torch.Tensor:
    """The longest probe up to 1 that was measured and is within the linear range of each direction, ``[q]``."""
    return torch.tensor(
        [max(length for length in entry.lengths if length <= min(1.0, entry.radius)) for entry in linearity],
        dtype=torch.float64,
        device="cpu",
    )


class GuidedSteps:
    """Steps ``x <- x + g [eps(x + p v) - eps(x)]`` (Park et al. 2023, section 3.4).

    g is chosen anew at every step such that x moves by ``|distance| sigma / num_steps``: the original's
    constant g makes the way travelled depend on the image, the timestep and the direction. v is fixed, as in the
    original, or looked up in a new local basis every few steps.
    """

    def __init__(
        self, walks: Walks, probes: torch.Tensor, bases: WalkBases | None = None, reestimate: int | None = None
    ) -> None:
        """Prepare walks.

        Args:
            walks: What to do.
            probes: p of each direction in noise standard deviations, float64 ``[w, c]``, on the CPU.
            bases: Where to look directions up.
            reestimate: Steps between two look-ups; None keeps the directions.
        """
        self._walks, self._probes, self._bases, self._every = walks, probes, bases, reestimate
        self._v = walks.directions
        self._lengths = walks.broadcast(probes.to(walks.distances) * walks.sigma * walks.distances.sign())
        self._gains: list[torch.Tensor] = []
        self._overlaps: list[torch.Tensor] = []

    def step(self, number: int, x: torch.Tensor) -> Asking[torch.Tensor]:
        """The difference of the predicted noise, as long as a step has to be."""
        walks = self._walks
        if self._every and number and number % self._every == 0:
            self._follow(x)
        here, ahead = yield from (self._noise(x) if number else self._first_noise())
        change = walks.allowed(ahead - here[:, None])
        size = change.flatten(2).norm(dim=2).clamp_min(torch.finfo(x.dtype).tiny)
        gains = walks.steps.abs() / walks.broadcast(size)
        self._gains.append(gains.flatten(1))
        return (gains * change).sum(1)

    def _noise(self, x: torch.Tensor) -> Asking[tuple[torch.Tensor, torch.Tensor]]:
        """The noise at samples ``[n, C, H, W]``, and ahead of all walks, ``[w, c, C, H, W]``."""
        rows = x[:, None] + self._lengths * self._v
        here, ahead = yield from self._walks.evaluations.ask_noise(x, rows.flatten(0, 1))
        return here, ahead.view(rows.shape)

    def _first_noise(self) -> Asking[tuple[torch.Tensor, torch.Tensor]]:
        """The same at the point, where all walks begin: seen before, where somebody looked around it."""
        walks, look = self._walks, self._walks.evaluations.look
        if look is None:
            return (yield from self._noise(walks.point.sample))
        signs, rows = walks.distances.sign(), walks.lines.rows.tolist()
        ahead = [
            torch.stack([look.after(*which) for which in zip(*each, strict=True)])
            for each in zip(rows, signs.tolist(), self._probes.tolist(), strict=True)
        ]
        return look.base, torch.stack(ahead)

    def record(self) -> StepRecord:
        """G of every step so far, and the overlaps of every look-up."""
        overlaps = torch.stack(self._overlaps) if self._overlaps else None
        return StepRecord(gains=torch.stack(self._gains), overlaps=overlaps)

    def _follow(self, x: torch.Tensor) -> None:
        """Replace each direction by the one of the basis where its walk is that overlaps it most."""
        assert self._bases is not None
        directions, overlaps = [], []
        for i, old in enumerate(self._v):
            new = self._bases.at(i, x[i : i + 1]).v.to(old)
            cosines = old.flatten(1) @ new.flatten(1).mT
            best = cosines.abs().argmax(1, keepdim=True)
            cosine = cosines.gather(1, best)
            directions.append(new[best[:, 0]] * cosine.sign().view(-1, *[1] * (x.ndim - 1)))
            overlaps.append(cosine.abs()[:, 0])
        self._v = self._walks.unit_allowed(torch.stack(directions))
        self._overlaps.append(torch.stack(overlaps))


class ConstantGain:
    """Steps ``x <- x + gain [eps(x + v) - eps(x)]`` along directions v ``[w, C, H, W]`` of any length.

    The gain is one for all, or ``[w, 1, 1, 1]``; how far a step leads depends on the image, the timestep and v.
    """

    def __init__(self, model: Model, point: Point, directions: torch.Tensor, gain: float | torch.Tensor) -> None:
        self._model, self._point, self._probes, self._gain = model, point, directions, gain

    def step(self, number: int, x: torch.Tensor) -> torch.Tensor:
        """The difference of the predicted noise, as long as it comes out."""
        both = torch.cat([x + self._probes, x])
        ahead, here = predict_noise(self._model, both, self._point.timestep, self._point.conditioning).chunk(2)
        return self._gain * (ahead - here)

    def record(self) -> StepRecord:
        """Nothing: the gain is known before."""
        return StepRecord()
