"""Denoisers: a network under a conditioning, plain or guided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from latentjac.models.arguments import check_call
from latentjac.models.conditioning import Conditioning
from latentjac.models.predictions import Prediction
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models.model import Model


class Denoiser:
    """A network under a conditioning: what it predicts for noisy samples.

    Attributes:
        model: The model.
        conditioning: With one row, or one a sample.
    """

    def __init__(self, model: Model, conditioning: Conditioning) -> None:
        self.model, self.conditioning = model, conditioning

    @public
    def output(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network returns, of the kind that it predicts, ``[B, C, H, W]``; arguments as of :meth:`predict`."""
        check_call("output", self.model, x, t, self.conditioning, held=True)
        return self._output(x, t)

    @public
    def predict(self, x: torch.Tensor, t: torch.Tensor) -> Prediction:
        """Clean sample and noise, ``[B, C, H, W]`` each, from one evaluation.

        Args:
            x: Noisy samples ``[B, C, H, W]``.
            t: Timestep of the training schedule, tensor ``[]`` or ``[B]``.

        Raises:
            TypeError: If an argument is no tensor.
            ValueError: If one has another shape or type than the network takes.
        """
        check_call("predict", self.model, x, t, self.conditioning, held=True)
        return self._predict(x, t)

    @public
    def eps(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Predicted noise, ``[B, C, H, W]``; arguments are those of :meth:`predict`."""
        check_call("eps", self.model, x, t, self.conditioning, held=True)
        return self._predict(x, t).eps

    @public
    def x0(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Posterior mean of the clean sample, ``[B, C, H, W]`` (Tweedie's formula)."""
        check_call("x0", self.model, x, t, self.conditioning, held=True)
        return self._predict(x, t).x0

    # Without checks, for traces.
    def _output(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.model._output(x, t, self.conditioning._expanded(len(x)))

    def _predict(self, x: torch.Tensor, t: torch.Tensor) -> Prediction:
        return self.model.levels.predicted(self._output(x, t), x, t)


class Guided(Denoiser):
    """A denoiser with classifier-free guidance (Ho & Salimans 2022): ``away + scale (towards - away)``.

    Both predictions come from one evaluation of twice as many rows: those under the denoiser's own conditioning, then
    the same samples under the negative one; where these have another form, such as other numbers of tokens, from one
    each. All kinds of prediction are guided alike, since one follows from the other by the same affine map on both
    sides. Pipelines of some families rescale what the network returns then.

    Args:
        denoiser: Plain one, whose prediction is led to.
        negative: Conditioning that is led away from, of the same names.
        scale: A number, or a tensor ``[1]`` or ``[B]``.
        rescale: See :class:`latentjac.models.RescaledGuidance`; None for none.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        negative: Conditioning,
        scale: float | torch.Tensor,
        rescale: torch.Tensor | None = None,
    ) -> None:
        super().__init__(denoiser.model, denoiser.conditioning)
        self.negative, self.rescale = negative, rescale
        self.scale = scale if isinstance(scale, torch.Tensor) else torch.tensor([float(scale)])

    def _output(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        towards, away = self._both(x, t)
        out = away + _broadcast(self.scale, x) * (towards - away)
        if self.rescale is not None:
            part = _broadcast(self.rescale, x)
            out = out * (1 - part + part * _deviation(towards, x) / _deviation(out, x))
        if out.shape[1] > x.shape[1]:  # a learned variance is that under the denoiser's own conditioning
            out = torch.cat([out[:, : x.shape[1]], towards[:, x.shape[1] :]], 1)
        family = self.model._family
        return out if family is None or family.rescaled is None else family.rescaled(out, towards)

    def _both(self, x: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        own, negative = self.conditioning._expanded(len(x)), self.negative._expanded(len(x))
        if any(tensor.shape != negative[name].shape for name, tensor in own.items()):
            return self.model._output(x, t, own), self.model._output(x, t, negative)
        times = t if t.ndim == 0 else torch.cat([t, t])
        towards, away = self.model._output(torch.cat([x, x]), times, own._followed_by(negative)).chunk(2)
        return towards, away


class GuidedByImage(Guided):
    """A denoiser guided by a text and by a picture, a scale each; see :class:`ImageGuidance`.

    All three predictions come from one evaluation of three times as many rows.

    Args:
        denoiser: Plain one, under the text and the picture.
        negative: Conditioning without the text.
        without: Conditioning without both.
        scale: Of the text; a number, or a tensor ``[1]`` or ``[B]``.
        image_scale: Of the picture; the same.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        negative: Conditioning,
        without: Conditioning,
        scale: float | torch.Tensor,
        image_scale: float | torch.Tensor,
    ) -> None:
        super().__init__(denoiser, negative, scale)
        self.without = without
        self.image_scale = image_scale if isinstance(image_scale, torch.Tensor) else torch.tensor([float(image_scale)])

    def _output(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        others = (self.negative._expanded(len(x)), self.without._expanded(len(x)))
        rows = self.conditioning._expanded(len(x))._followed_by(*others)
        times = t if t.ndim == 0 else torch.cat([t, t, t])
        full, picture, nothing = self.model._output(torch.cat([x, x, x]), times, rows).chunk(3)
        guided = nothing + _broadcast(self.image_scale, x) * (picture - nothing)
        return guided + _broadcast(self.scale, x) * (full - picture)


def _deviation(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Standard deviation of the prediction in what a network returns for each sample, without a learned variance."""
    prediction = out[:, : x.shape[1]]
    return prediction.std(dim=list(range(1, x.ndim)), keepdim=True)


def _broadcast(scale: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return scale.to(x).reshape(-1, *[1] * (x.ndim - 1))
