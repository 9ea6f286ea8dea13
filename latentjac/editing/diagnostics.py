"""What is measured along a walk: how far it leads, and how straight the network is on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.diffusion import Point
from latentjac.diffusion.denoise import MAX_BATCH
from latentjac.geometry.linearity import LENGTHS, compare
from latentjac.models import Model
from latentjac.shaped import Shaped

_MOST_MEASURED = 5


@dataclass(frozen=True, repr=False)
class Along(Shaped):
    """Measurements along walks; tensors ``[directions, distances]`` or with the measured steps in front.

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
    """Follows walks and measures them; every step costs one pass through the feature map, measured ones two."""

    def __init__(self, model: Model, point: Point, layer: str, sigma: float, walks: int, num_steps: int) -> None:
        """Prepare to observe walks.

        Args:
            model: The model.
            point: Where they begin; one sample.
            layer: Feature map.
            sigma: Standard deviation of the noise there.
            walks: How many.
            num_steps: Steps of every walk.
        """
        self._model, self._point, self._layer, self._sigma = model, point, layer, sigma
        count = min(num_steps, _MOST_MEASURED)
        self.steps = tuple(sorted({round(i * (num_steps - 1) / max(1, count - 1)) for i in range(count)}))
        self._here: torch.Tensor | None = None
        # Lengths after 0, 1, ... steps, [w] each.
        self.paths = [torch.zeros(walks, dtype=torch.float64, device="cpu")]
        self.feature_paths = [torch.zeros(walks, dtype=torch.float64, device="cpu")]
        self.norm_ratio: list[torch.Tensor] = []
        self.cosine: list[torch.Tensor] = []

    def see(self, number: int, x: torch.Tensor, change: torch.Tensor) -> None:
        """A step ``change`` is taken from x, both ``[w, ...]``."""
        here = self._features(x) if self._here is None else self._here
        there = self._features(x + change)
        length = change.flatten(1).double().norm(dim=1)
        self.paths.append(self.paths[-1] + (length / self._sigma).cpu())
        secant = (there - here).flatten(1).double()
        self.feature_paths.append(self.feature_paths[-1] + secant.norm(dim=1).cpu())
        if number in self.steps:
            # J s by a difference as short as the reference of the linearity at the point.
            part = (LENGTHS[0] * self._sigma / length.clamp_min(1e-300)).clamp_max(1.0)
            short = x + part.view(-1, *[1] * (x.ndim - 1)).to(x) * change
            tangent = (self._features(short) - here).flatten(1).double() / part[:, None]
            found = compare(secant, tangent)
            self.norm_ratio.append(found.norm_ratio.cpu())
            self.cosine.append(found.cosine.cpu())
        self._here = there

    def along(self, layout: tuple[int, int]) -> Along:
        """What was measured, with the walks laid out as directions and distances."""
        ratio, cosine = (torch.stack(rows).view(-1, *layout) for rows in (self.norm_ratio, self.cosine))
        return Along(self.paths[-1].view(layout), self.feature_paths[-1].view(layout), self.steps, ratio, cosine)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        return features(self._model, x, self._point, self._layer)


def features(model: Model, x: torch.Tensor, point: Point, layer: str) -> torch.Tensor:
    """Features of samples ``[B, ...]`` at the timestep of a point, at most ``MAX_BATCH`` at a time."""
    t = torch.tensor(point.timestep, device=x.device)
    tap = model.feature_map(layer)
    rows = point.conditioning.split(MAX_BATCH, len(x))
    return torch.cat([tap(part, t, c) for part, c in zip(x.split(MAX_BATCH), rows, strict=True)])


def leakage(pictures: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How much of a change lies outside a mask: its RMS outside over its RMS inside.

    Args:
        pictures: Edited pictures ``[w, C, H, W]``, or videos ``[w, C, F, H, W]``, or others.
        reference: The one without edit, ``[C, H, W]``.
        mask: Bool ``[h, w]`` or ``[f, h, w]``, enlarged to the pictures where they are larger.

    Returns:
        ``[w]``; 0 where nothing changed, infinite where nothing changed inside.
    """
    if mask.ndim == 3:
        mask = mask.cpu()[latent_frames(pictures.shape[2], len(mask))]
    inside = torch.nn.functional.interpolate(mask[None, None].float().cpu(), pictures.shape[2:])[0, 0] > 0
    change = (pictures - reference).double().square().mean(1)
    within, beyond = change[:, inside].mean(1).sqrt(), change[:, ~inside].mean(1).sqrt()
    return torch.where(beyond == 0, 0.0, beyond / within)


def latent_frames(frames: int, latents: int) -> torch.Tensor:
    """The latent that each frame of a video is in, ``[frames]``: the first for itself, then as many frames in each."""
    each = max(1, (frames - 1) // max(1, latents - 1))
    return torch.arange(frames, device="cpu").add(each - 1) // each
