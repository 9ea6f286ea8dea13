"""The Jacobian of a feature map at a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from latentjac.diffusion.sampling import place
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.diffusion.trajectory import Point
    from latentjac.linearization import Linearization
    from latentjac.models import Model


@public
def linearization_at(model: Model, point: Point, layer: str, **options: Any) -> Linearization:
    """The linearization of a layer's map at the samples of a point; options are those of the model's method.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the point does not fit the model or the layer is unknown.
    """
    place("linearization_at", model, point)
    t = torch.tensor(point.timestep, device=point.sample.device)
    return model.linearization(layer, point.sample, t, point.conditioning, **options)
