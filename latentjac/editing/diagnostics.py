"""What is measured along a walk: how far it leads, and how straight the network is on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.diffusion import Point
from latentjac.editing.evaluations import Evaluations
from latentjac.editing.lines import Lines
from latentjac.editing.questions import Asking
from latentjac.geometry.linearity import LENGTHS, compare
from latentjac.shaped import Shaped

_MOST_MEASURED = 2  # the first step and the last


@dataclass(frozen=True, repr=False)
class Along(Shaped):
    """Measurements along walks; tensors ``[directions, distances]`` or with the measured steps in front.

    Distances on one side of a direction lie on one walk, which its steps are measured on.

    Attributes:
        path: Length of the way of the noisy sample, in noise standard deviations.
        feature_path: Length of the way of its features, ``sum |f(x_(i+1)) - f(x_i)|``: to first order the length
            in the pullback metric.
        steps: Numbers of the steps at which the next two were measured.
        norm_ratio: ``|f(x + s) - f(x)| / |J s|`` of the step s taken there; 1 where the network is linear.
        cosine: Cosine between the two; 1 where the network is linear.
    """

    path: torch.Tensor
    feature_path: torch.Tensor
    steps: tuple[int, ...]
    norm_ratio: torch.Tensor
    cosine: torch.Tensor


class Observer:
    """Follows walks and measures them.

    Features where a step begins come from the pass that decides on it, where there is one; where linearity is measured
    and at the end they take a pass of their own.
    """

    def __init__(self, evaluations: Evaluations, point: Point, sigma: float, walks: int, num_steps: int) -> None:
        """Prepare to observe walks.

        Args:
            evaluations: The network at the point's timestep.
            point: Where they begin; one sample.
            sigma: Standard deviation of the noise there.
            walks: How many.
            num_steps: Steps of every walk.
        """
        self._evaluations, self._point, self._sigma = evaluations, point, sigma
        count = min(num_steps, _MOST_MEASURED)
        self.steps = tuple(sorted({round(i * (num_steps - 1) / max(1, count - 1)) for i in range(count)}))
        self._here: torch.Tensor | None = None
        self._tangent: torch.Tensor | None = None  # J s of the step under way, where it is measured
        # Lengths after 0, 1, ... steps, [w] each.
        self.paths = [torch.zeros(walks, dtype=torch.float64, device="cpu")]
        self.feature_paths = [torch.zeros(walks, dtype=torch.float64, device="cpu")]
        self.norm_ratio: list[torch.Tensor] = []
        self.cosine: list[torch.Tensor] = []

    def see(self, number: int, x: torch.Tensor, change: torch.Tensor, length: torch.Tensor) -> Asking[None]:
        """A step ``change`` leads on from x, both ``[w, ...]``, after what decides on it was evaluated.

        Its length on the way can be another one, ``[w, 1, 1, 1]``: x was found before the step to it was corrected.
        """
        if number:
            yield from self._arrive(x)
            here = self._here
        else:
            here = yield from self._evaluations.ask_features(self._point.sample)
            here = self._here = here.expand(len(x), *here.shape[1:])
        assert here is not None
        self.paths.append(self.paths[-1] + (length.flatten().double() / self._sigma).cpu())
        if number in self.steps:
            # J s by a difference as short as the reference of the linearity at the point.
            length = change.flatten(1).double().norm(dim=1)
            part = (LENGTHS[0] * self._sigma / length.clamp_min(1e-300)).clamp_max(1.0)
            short = x + part.view(-1, *[1] * (x.ndim - 1)).to(x) * change
            ahead = yield from self._evaluations.ask_features(short)
            self._tangent = (ahead - here).flatten(1).double() / part[:, None]

    def end(self, x: torch.Tensor) -> Asking[None]:
        """The last step led to x."""
        yield from self._arrive(x)

    def _arrive(self, x: torch.Tensor) -> Asking[None]:
        """The step led to x."""
        assert self._here is not None
        there = yield from self._evaluations.ask_features(x)
        secant = (there - self._here).flatten(1).double()
        self.feature_paths.append(self.feature_paths[-1] + secant.norm(dim=1).cpu())
        if self._tangent is not None:
            found = compare(secant, self._tangent)
            self.norm_ratio.append(found.norm_ratio.cpu())
            self.cosine.append(found.cosine.cpu())
        self._here, self._tangent = there, None

    def along(self, lines: Lines) -> Along:
        """What was measured, up to the distances on the walks."""
        paths, feature_paths = (torch.stack(lengths) for lengths in (self.paths, self.feature_paths))
        ratio, cosine = (lines.read(torch.stack(rows)) for rows in (self.norm_ratio, self.cosine))
        return Along(lines.read_parts(paths), lines.read_parts(feature_paths), self.steps, ratio, cosine)


def leakage(pictures: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How much of a change lies outside a mask: its RMS outside over its RMS inside.

    Args:
        pictures: Edited pictures ``[w, C, H, W]``, or videos ``[w, C, F, H, W]``, or others.
        reference: The one without edit, ``[C, H, W]``.
        mask: Bool ``[h, w]`` or ``[f, h, w]``, enlarged to the pictures where they are larger.

    Returns:
        ``[w]``; 0 where nothing changed, infinite where nothing changed inside.
    """
    inside = _enlarged(mask, pictures)
    within, beyond = (rms_change(pictures, reference, part) for part in (inside, ~inside))
    return torch.where(beyond == 0, 0.0, beyond / within)


def change_inside(pictures: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """RMS change of pictures inside a mask, or of the whole without one, ``[w]``; arguments are those of leakage."""
    inside = None if mask is None else _enlarged(mask, pictures)
    return rms_change(pictures, reference, inside)


def rms_change(pictures: torch.Tensor, reference: torch.Tensor, part: torch.Tensor | None) -> torch.Tensor:
    """Root of the mean square by which pictures ``[w, C, ...]`` differ from one, over a part of their pixels."""
    change = (pictures - reference).double().square().mean(1)
    return (change.flatten(1) if part is None else change[:, part]).mean(1).sqrt()


def _enlarged(mask: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """A mask at sample size at the size of pictures ``[w, C, ...]``."""
    if mask.ndim == 3:
        mask = mask.cpu()[latent_frames(pictures.shape[2], len(mask))]
    return torch.nn.functional.interpolate(mask[None, None].float().cpu(), pictures.shape[2:])[0, 0] > 0


def latent_frames(frames: int, latents: int) -> torch.Tensor:
    """The latent that each frame of a video is in, ``[frames]``: the first for itself, then as many frames in each."""
    each = max(1, (frames - 1) // max(1, latents - 1))
    return torch.arange(frames, device="cpu").add(each - 1) // each
