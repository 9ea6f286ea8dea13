"""The Jacobian of a feature map at a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from latentjac.diffusion.trajectory import Point
    from latentjac.linearize import Linearization
    from latentjac.models import Model


def linearization_at(model: Model, point: Point, layer: str, **options: Any) -> Linearization:
    """The linearization of a layer's map at the samples of a point; options are those of the model's method."""
    t = torch.tensor(point.timestep, device=point.sample.device)
    return model.linearization(layer, point.sample, t, *point.conditioning, **options)
