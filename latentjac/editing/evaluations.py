"""Evaluations of the network around a point, each of which serves everyone who needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from latentjac.diffusion import Point, predict
from latentjac.diffusion.denoise import MAX_BATCH
from latentjac.editing.questions import Answer, Asking, Question, answered
from latentjac.geometry.linearity import LENGTHS, Linearity, judge_quotients, probe_steps
from latentjac.models import Conditioning, ImageGuidance, Model
from latentjac.models.codec import decoder_map
from latentjac.models.feature_maps import as_features
from latentjac.models.layers import OUTPUTS, recorded
from latentjac.shaped import Shaped


@dataclass(frozen=True, repr=False)
class FirstLook(Shaped):
    """The noise predicted at a point and a little way off it.

    Attributes:
        base: At the point, ``[1, C, H, W]``.
        ahead: After each length along each direction, ``[q, sides, lengths, C, H, W]``.
        signs: Of the sides.
        linearity: One measurement a direction, the worse of its sides.
    """

    base: torch.Tensor
    ahead: torch.Tensor
    signs: tuple[float, ...]
    linearity: tuple[Linearity, ...]

    def after(self, row: int, sign: float, length: float) -> torch.Tensor:
        """The noise ``[C, H, W]`` after a length of ``LENGTHS``; without a sign, of a side that was looked to."""
        side = self.signs.index(sign) if sign else 0
        return self.ahead[row, side, LENGTHS.index(length)]


class Evaluations:
    """The network at the timestep of a point: noise of samples, and features from the same passes.

    Attributes:
        look: What was seen around the point; None where nobody looked.
    """

    def __init__(self, model: Model, point: Point, layer: str | None) -> None:
        """Prepare to evaluate.

        Args:
            model: The model.
            point: Where; its sample, timestep and conditioning.
            layer: Feature map to look at, or None where nobody asks for features.
        """
        self._model, self._point, self._layer = model, point, layer
        self.look: FirstLook | None = None
        # Samples whose features are known, and these.
        self._seen: tuple[torch.Tensor, torch.Tensor] | None = None

    def noise(self, x: torch.Tensor, ahead: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicted noise of samples x ``[n, C, H, W]`` and of samples ahead; features of x are kept meanwhile."""
        return answered([self.ask_noise(x, ahead)])[0]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Features of samples; from the pass that gave their noise, where that was the last, else from their own."""
        return answered([self.ask_features(x)])[0]

    def ask_noise(
        self, x: torch.Tensor, ahead: torch.Tensor | None = None
    ) -> Asking[tuple[torch.Tensor, torch.Tensor]]:
        """The same as :meth:`noise`, to be answered together with others."""
        eps, *values = yield self._question(self._passes, x if ahead is None else torch.cat([x, ahead]))
        if values:
            self._seen = x, self._features_of(values[0][: len(x)])
        return eps[: len(x)], eps[len(x) :]

    def ask_features(self, x: torch.Tensor) -> Asking[torch.Tensor]:
        """The same as :meth:`features`, to be answered together with others."""
        if self._seen is not None and self._seen[0] is x:
            return self._seen[1]
        assert self._layer is not None
        (values,) = yield self._question(self._features, x)
        return values

    def _question(self, answer: Callable[[torch.Tensor, Conditioning], Answer], x: torch.Tensor) -> Question:
        """What gives an answer at the timestep; who asks the same of the same layer is answered together."""
        name = answer.__name__
        return Question(answer, (name, self._point.timestep, self._layer), (x,), self._point.conditioning)

    def look_around(
        self, directions: torch.Tensor, signs: tuple[float, ...], sigma: float, tolerance: float
    ) -> Asking[FirstLook]:
        """Look along unit directions ``[q, C, H, W]`` from the point, to the sides of the signs."""
        steps = probe_steps(sigma, directions, signs)
        moved = self._point.sample + steps * directions[:, None, None]
        base, ahead = yield from self.ask_noise(self._point.sample, moved.flatten(0, 2))
        ahead = ahead.view(moved.shape)
        self.look = FirstLook(base, ahead, signs, judge_quotients(ahead, base, steps, tolerance))
        return self.look

    def _passes(self, x: torch.Tensor, under: Conditioning) -> Answer:
        """Noise of samples and their features; without these where they do not come by in whole passes."""
        model, timestep, layer = self._model, self._point.timestep, self._layer
        name = None if layer is None else model.resolve_layer(layer)
        if name is None or name in OUTPUTS:
            found = predict(model, x, timestep, under)
            return (found.eps,) if name is None else (found.eps, found.eps if name == "eps" else found.x0)
        with recorded(model.network, name, model.picture_in) as passes:
            eps = predict(model, x, timestep, under).eps
        values = _under_prompt(passes, [len(part) for part in x.split(MAX_BATCH)], under)
        return (eps,) if values is None else (eps, values)

    def _features_of(self, values: torch.Tensor) -> torch.Tensor:
        """Features, from what came by in passes."""
        name = self._model.resolve_layer(self._layer or "")
        if name == "image":  # of no more samples than are asked for: decoding takes long
            return decoder_map(self._model)(values)
        return values if name in OUTPUTS else as_features(self._model, name, values, len(values))

    def _features(self, x: torch.Tensor, under: Conditioning) -> Answer:
        """Features of samples from passes of their own."""
        assert self._layer is not None
        return (features(self._model, x, replace(self._point, sample=x, conditioning=under), self._layer),)


def _under_prompt(passes: list[torch.Tensor], counts: list[int], conditioning: Conditioning) -> torch.Tensor | None:
    """Features under the prompt, whose rows and passes come first, of predictions of so many samples each.

    None where passes are others: a call of one's own need not be one pass of the network.
    """
    guidance = conditioning.guidance
    several = 1 if guidance is None else 3 if isinstance(guidance, ImageGuidance) else 2
    lengths = [len(rows) for rows in passes]
    if lengths == [several * count for count in counts]:
        return torch.cat([rows[: len(rows) // several] for rows in passes])
    if lengths == [count for count in counts for _ in range(several)]:
        return torch.cat(passes[::several])
    return None


def features(model: Model, x: torch.Tensor, point: Point, layer: str) -> torch.Tensor:
    """Features of samples ``[B, C, H, W]`` at the timestep of a point, at most ``MAX_BATCH`` at a time."""
    t = torch.tensor(point.timestep, device=x.device)
    tap = model.feature_map(layer)
    rows = point.conditioning.split(MAX_BATCH, len(x))
    return torch.cat([tap(part, t, c) for part, c in zip(x.split(MAX_BATCH), rows, strict=True)])
