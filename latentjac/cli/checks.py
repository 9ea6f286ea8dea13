"""What is asked of a run before its expensive parts begin: whether they can do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

import latentjac
from latentjac import papers
from latentjac.arguments import check_left
from latentjac.cli.beside import Beside
from latentjac.cli.inversion import Inversion
from latentjac.cli.refusals import Refusal, refusing
from latentjac.cli.values import refusal
from latentjac.diffusion import Schedule
from latentjac.editing import Mask, Method
from latentjac.models import Model
from latentjac.models.prompted import any_conditioning
from latentjac.models.text import check_prompts as check_texts


@dataclass(frozen=True)
class Place:
    """Where a basis is to be computed.

    Attributes:
        layer: The feature map.
        features: Shape of its output for one sample.
        triplets: How many singular triplets it has there.
    """

    layer: str
    features: torch.Size
    triplets: int


def check_frames(gif: bool, frames: int) -> None:
    """Raise where there are too few pictures for a slider or an animation."""
    if frames == 1 or (gif and frames == 0):
        raise Refusal(f"--frames must be at least 2{'' if gif else ', or 0 for none'}, got {frames}")


def check_prompts(
    model: Model,
    prompt: str | None,
    edit_prompt: str | None = None,
    class_label: int | None = None,
    beside: Beside | None = None,
) -> latentjac.Conditioning:
    """What the photo is inverted under; raise where the model takes none such, or something is missing."""
    if beside is None:
        with refusing():
            return model.conditioning(prompt, class_label=class_label)
    if edit_prompt is not None:
        with refusing(prompt="--edit-prompt"):
            check_texts("conditioning", model, edit_prompt, "", 1.0)
    return beside.conditioning(model, prompt, class_label)


def check_steps(model: Model, how: Inversion, compat: str | None = None) -> Schedule:
    """The levels of an inversion; raise where the model has none such."""
    with refusing():
        if compat is None:
            options: dict[str, Any] = {"grid": how.grid, "solver": how.solver, "t": how.t}
            return Schedule.from_scheduler(model.scheduler, how.steps, **model.placing, **options)
        return getattr(papers, compat).schedule(model.scheduler, how.steps)


@torch.no_grad()
def check_place(
    model: Model, how: Inversion, t: float, layer: str, compat: str | None = None, *, option: str = "--layer"
) -> Place:
    """Raise where the network has no such layer, or what it gives does not depend on the picture.

    Costs one evaluation of the network.

    Args:
        model: The model.
        how: Whose levels.
        t: Fraction of T.
        layer: Feature map.
        compat: Whose levels, instead.
        option: Where the layer comes from.
    """
    schedule = check_steps(model, how, compat)
    with refusing(layer=option):
        timestep = schedule.timesteps[schedule.level(t=t)]
        features = model.feature_map(layer)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, *model.sample_shape, generator=generator).to(model.device, model.dtype)
        made = features(x, torch.tensor(timestep, device=model.device), any_conditioning(model))
    if len(made) != 2 or torch.equal(made[0], made[1]):
        raise refusal(option, "a feature map that depends on the picture", layer)
    return Place(layer, made.shape[1:], min(x[0].numel(), made[0].numel()))


def check_count(option: str, count: int, triplets: int) -> None:
    """Raise where more directions are asked for than there are."""
    if count > triplets:
        raise refusal(option, f"at most {triplets}, the number of singular triplets of --layer", count)


def check_fixed(compat: str | None, fixed: dict[str, tuple[Any, Any]]) -> None:
    """Raise where an option is given that ``--compat`` leaves no choice of.

    Args:
        compat: What was given for it.
        fixed: Options, each with what it got and its default.
    """
    if compat is not None:
        with refusing():
            for option, (value, usual) in fixed.items():
                check_left("edit", option, value, usual, f"with compat={compat!r}")


def at_layer(model: Model, method: Method, layer: str | None) -> Method:
    """A method with its layer, if one is given; raise where there is none such, or it cannot be added to."""
    with refusing():
        method = method if layer is None else replace(method, layer=layer)  # type: ignore[type-var]
        method.layer_in(model)
        return method


def check_mask(inside: torch.Tensor | None, null: dict[str, Any], channels: int, method: Method) -> Mask | None:
    """The mask of an edit.

    Args:
        inside: What is inside.
        null: Further options of :class:`latentjac.editing.Mask`.
        channels: Of a sample.
        method: How it is to be edited.

    Raises:
        Refusal: If the mask marks all or nothing, or less outside than there are directions that no step is to take.
    """
    if inside is None:
        return None
    if inside.all() or not inside.any():
        raise Refusal(f"--mask must mark a part of the photo, got {'all' if inside.all() else 'none'} of it")
    with refusing():
        mask = Mask(inside, **null)
    outside = channels * int((~inside).sum())
    if method.projects and mask.rank is not None and mask.rank > outside:
        raise refusal("--null-rank", f"at most {outside}, the number of values outside the mask", mask.rank)
    return mask


def check_directions(chosen: Sequence[int], count: int, whose: str) -> None:
    """Raise where a direction is asked for that is not there."""
    if max(chosen) >= count:
        raise refusal("--direction", f"numbers from 1 to {count}, {whose}", max(chosen) + 1)
