"""The maps of a model that a Jacobian can be taken of: features of a layer, and what is predicted. Without checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from latentjac.models.codec import decoder_map
from latentjac.models.conditioning import Conditioning
from latentjac.models.layers import Tap

if TYPE_CHECKING:
    from latentjac.models.model import Model

_NONE = Conditioning()


def prediction_map(model: Model, name: str) -> Callable[..., torch.Tensor]:
    """The noise, clean sample or picture that a model predicts, from ``(x, t, conditioning)``."""
    decode = decoder_map(model) if name == "image" else None

    def prediction(x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning = _NONE) -> torch.Tensor:
        predicted = model.denoiser(conditioning)._predict(x, t)
        if decode is not None:
            return decode(predicted.x0)
        return predicted.eps if name == "eps" else predicted.x0

    return prediction


def layer_map(model: Model, name: str) -> Callable[..., torch.Tensor]:
    """The features of a layer, of a full module name, from ``(x, t, conditioning)``."""
    tap = Tap(model.network, name, model.levels.called(model.call), model.picture_in)

    def features(x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning = _NONE) -> torch.Tensor:
        # ClassifierFree is of the prediction alone: features are those under the prompt.
        returned = tap(model.network, x, t, conditioning.unguided()._expanded(len(x)))
        return as_features(model, name, returned, len(x))

    return features


def as_features(model: Model, name: str, returned: torch.Tensor, count: int) -> torch.Tensor:
    """What modules of a full name returned for so many pictures, as features of a layer."""
    grid = model._own_family.grid
    if grid is None or not grid.is_of(name):
        return returned
    return grid.unpacked(returned, grid.sizes(model.network, model.sample_shape), count)


def as_returned(model: Model, name: str, features: torch.Tensor) -> torch.Tensor:
    """Features of a layer, or what is to be added to them, as the module itself returns them."""
    grid = model._own_family.grid
    if grid is None or not grid.is_of(name):
        return features
    return grid.packed(features, grid.sizes(model.network, model.sample_shape))
