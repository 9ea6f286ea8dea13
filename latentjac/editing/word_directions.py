"""Directions from words: where the picture at a point would go under another prompt."""

from __future__ import annotations

import torch

from latentjac.arguments import check_choice, check_text
from latentjac.diffusion import Point, linearization_at, place, predict
from latentjac.diffusion.arguments import check_model
from latentjac.editing.masks import Mask, MaskInput, mask_for
from latentjac.editing.null_space import null_space, project_out
from latentjac.models import Model
from latentjac.public import public
from latentjac.solvers.building import calling

WORDS_KINDS = ("transposed", "difference")


@public
@torch.no_grad()
def word_direction(
    model: Model,
    point: Point,
    prompt: str,
    away: str | None = None,
    *,
    kind: str = "transposed",
    mask: MaskInput | Mask | None = None,
) -> torch.Tensor:
    """The direction at a point that leads from one prompt to another.

    With ``d = x0_hat(x | prompt) - x0_hat(x | away)``, the difference of the two predicted pictures inside the mask,
    ``"transposed"`` is ``J^T d`` with the Jacobian of the masked prediction under ``prompt``: of all directions of one
    length the one that moves the predicted picture furthest along d (Chen et al. 2024, "LOCO Edit", with text).
    ``"difference"`` is d itself.

    With a mask what the picture outside listens to most is taken out, as :func:`latentjac.edit` takes it out of steps;
    ``Mask(..., null_rank=0)`` leaves it.

    Args:
        model: One that takes prompts.
        point: Where, from ``invert(...).at(t)``; one sample.
        prompt: Where to go.
        away: Where from; by default what the point is under.
        kind: ``"transposed"``, one pass of the network more, or ``"difference"``.
        mask: Where the words are to act, as of :func:`latentjac.edit`.

    Returns:
        Unit vector ``[C, H, W]``.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, the model takes no prompts, or both prompts predict the same.

    Example:
        ``v = latentjac.editing.word_direction(model, point, "a smiling face", "a face")``
    """
    name = "word_direction"
    check_model(name, model)
    if model.text is None:
        raise ValueError(f"{name}: model must take prompts, got {model.name!r}, which does not")
    place(name, model, point)
    if len(point.sample) != 1:
        raise ValueError(f"{name}: point must hold one sample, got {len(point.sample)}")
    check_text(name, "prompt", prompt)
    check_text(name, "away", away, optional=True)
    kind = check_choice(name, "kind", kind, WORDS_KINDS)
    area = mask_for(name, mask, model)
    there = point.with_prompt(model, prompt)
    here = point if away is None else point.with_prompt(model, away)
    found = [predict(model, at.sample, at.timestep, at.conditioning).x0 for at in (there, here)]
    factor = None if area is None else area.pixels.to(point.sample.dtype)[None, None]
    difference = found[0] - found[1] if factor is None else (found[0] - found[1]) * factor
    if not bool(difference.any()):
        raise ValueError(f"{name}: prompt must predict another picture than away, got the same of {prompt!r}")
    if kind == "transposed":
        options = {} if factor is None else {"mask": factor}
        difference = linearization_at(model, there, "x0", **options).vjp(difference[None])[0]
    return _within(model, there, difference[0], area)


def _within(model: Model, point: Point, v: torch.Tensor, area: Mask | None) -> torch.Tensor:
    """A direction as a unit vector, without what the picture outside a mask listens to most."""
    if area is None or area.rank == 0:
        return (v / v.double().norm()).to(v.dtype)
    with calling("word_direction"):
        outside = null_space(model, point, area.pixels, area.null_rank, area.null_energy, tol=area.tol)
    return project_out(v, outside.v)
