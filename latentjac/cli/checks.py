"""What is asked of a run before its expensive parts begin: whether they can do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.cli.options import FRAMES
from latentjac.cli.refusals import Refusal, refusing
from latentjac.cli.values import refusal
from latentjac.compat import find_preset
from latentjac.diffusion import Schedule, park2023_schedule
from latentjac.editing.arguments import Options, check_options, choose_layer
from latentjac.editing.null_space import DEFAULT_RANK
from latentjac.models import Model
from latentjac.models.layers import OUTPUTS


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
    """Raise where pictures of an animation are asked for without one."""
    if not gif and frames != FRAMES:
        raise Refusal(f"--frames must be left at {FRAMES} without --gif, got {frames}")


def check_prompts(model: Model, prompt: str | None, edit_prompt: str | None = None) -> None:
    """Raise where a text is given to a model that takes none."""
    with refusing():
        model.conditioning(prompt)
    if edit_prompt is not None:
        with refusing(prompt="--edit-prompt"):
            model.conditioning(edit_prompt)


def check_steps(model: Model, steps: int, compat: str | None = None) -> Schedule:
    """The levels of so many steps; raise where the model has none such."""
    with refusing():
        return (park2023_schedule if compat else Schedule.from_scheduler)(model.scheduler, steps)


@torch.no_grad()
def check_place(
    model: Model, steps: int, t: float, layer: str, compat: str | None = None, *, option: str = "--layer"
) -> Place:
    """Raise where the network has no such layer, or what it gives does not depend on the picture.

    Costs one evaluation of the network.

    Args:
        model: The model.
        steps: Of the grid.
        t: Fraction of T.
        layer: Feature map.
        compat: Whose levels.
        option: Where the layer comes from.
    """
    schedule = check_steps(model, steps, compat)
    with refusing(layer=option):
        timestep = schedule.timesteps[schedule.level(t=t)]
        features = model.feature_map(layer)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, *model.sample_shape, generator=generator).to(model.device, model.dtype)
        made = features(x, torch.tensor(timestep, device=model.device), model.conditioning())
    if len(made) != 2 or torch.equal(made[0], made[1]):
        raise refusal(option, "a feature map that depends on the picture", layer)
    return Place(layer, made.shape[1:], min(x[0].numel(), made[0].numel()))


def check_count(option: str, count: int, triplets: int) -> None:
    """Raise where more directions are asked for than there are."""
    if count > triplets:
        raise refusal(option, f"at most {triplets}, the number of singular triplets of --layer", count)


def check_edit(options: dict[str, Any], num_steps: int, fixed: dict[str, tuple[Any, Any]], *, masked: bool) -> None:
    """Raise where the options of an edit do not go together.

    Args:
        options: Arguments of :func:`latentjac.edit`.
        num_steps: Another one.
        fixed: Options that ``--compat`` leaves no choice of, each with what it got and its default.
        masked: Whether there is a mask.
    """
    with refusing(prompt="--edit-prompt"):
        find_preset("edit", options["compat"], fixed)
        check_options(Options(num_steps=num_steps, masked=masked, **options))


def chosen_layer(model: Model, layer: str | None, method: str) -> str:
    """The layer of an edit; raise where there is none such, or it cannot be added to."""
    with refusing():
        return choose_layer(model, layer, method)


def check_mask(
    inside: torch.Tensor | None, place: Place, channels: int, options: dict[str, Any]
) -> torch.Tensor | None:
    """The part of the layer's output that directions are to be those of: the mask, where the output is a picture.

    Raises:
        Refusal: If the mask marks all or nothing, or less outside than there are directions that no step is to take.
    """
    if inside is None:
        return None
    if inside.all() or not inside.any():
        raise Refusal(f"--mask must mark a part of the photo, got {'all' if inside.all() else 'none'} of it")
    outside, kept = channels * int((~inside).sum()), options["null_rank"]
    if kept is None and options["null_energy"] is None and options["method"] != "h-space":
        kept = DEFAULT_RANK
    if kept is not None and kept > outside:
        raise refusal("--null-rank", f"at most {outside}, the number of values outside the mask", kept)
    return inside if place.layer in OUTPUTS else None


def check_directions(chosen: Sequence[int], count: int, whose: str) -> None:
    """Raise where a direction is asked for that is not there."""
    if max(chosen) >= count:
        raise refusal("--direction", f"numbers from 1 to {count}, {whose}", max(chosen) + 1)
