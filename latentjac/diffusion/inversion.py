"""From an image to the noise that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_int
from latentjac.compat import find_preset
from latentjac.diffusion.arguments import check_prompts
from latentjac.diffusion.denoise import denoise, descend, predict_noise
from latentjac.diffusion.schedule import Schedule, check_grid
from latentjac.diffusion.trajectory import Trajectory
from latentjac.interrupts import raise_unseen
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models import ImageInput, Model

MOST_REFINEMENTS = 1000  # the iteration has long converged, or never will


@public
@torch.no_grad()
def invert(
    model: Model,
    image: ImageInput | list[ImageInput],
    num_inference_steps: int = 100,
    prompt: str | list[str] | None = None,
    *,
    negative_prompt: str = "",
    guidance_scale: float = 1.0,
    refinement: int = 1,
    compat: str | None = None,
    progress: bool = False,
) -> Trajectory:
    """Invert images by deterministic DDIM, and check it by going back.

    The step from level i - 1 to i uses the noise predicted at level i, as generation does on its way back.
    That prediction needs the sample that is looked for: the first guess takes the sample of level i - 1,
    and each refinement repeats the step with the sample just found (a fixed-point iteration).

    Args:
        model: The model.
        image: One or several pictures; see :meth:`PixelCodec.encode` for what is taken.
        num_inference_steps: Levels of the grid, at most T.
        prompt: Text, for models that take one, or one a picture; the empty text by default.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.encode_prompt`. Inversion under guidance finds its way back less well.
        refinement: Fixed-point iterations a step, at most ``MOST_REFINEMENTS``; each costs one more network evaluation.
        compat: ``"pullback"`` inverts and goes back as the published code of Park et al. (2023) does: on its grid, with
            the noise predicted where a step begins and without the last step up, from whose end the way back begins
            nevertheless. See docs/pullback.md.
        progress: Show a progress bar.

    Returns:
        Samples at all levels, the reconstruction and its PSNR.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the model takes no prompt and got one.
        KeyboardInterrupt: If Ctrl-C interrupted a basis before whose status was not read.
    """
    raise_unseen("invert")
    refinement = check_int("invert", "refinement", refinement, 0, MOST_REFINEMENTS)
    progress = check_bool("invert", "progress", progress)
    preset = find_preset("invert", compat, {"refinement": (refinement, 1)})
    num_inference_steps, grid = check_grid("invert", model, num_inference_steps, preset.grid if preset else "scheduler")
    prompt, negative_prompt, guidance_scale = check_prompts("invert", model, prompt, negative_prompt, guidance_scale)
    clean = model.codec.encode(image, subject="invert: image").to(model.device, model.dtype)
    if isinstance(prompt, list) and len(prompt) not in (1, len(clean)):
        raise ValueError(f"invert: prompt must be one text or {len(clean)} (as many as pictures), got {len(prompt)}")
    schedule = Schedule(model, num_inference_steps, grid)
    conditioning = model.encode_prompt(prompt, negative_prompt, guidance_scale)
    if preset:
        return _as_published(model, clean, schedule, conditioning, progress)

    samples = [clean]
    levels = len(schedule.timesteps)
    with tqdm(total=2 * levels, desc="inversion", unit="step", disable=not progress) as bar:
        for i in range(1, levels + 1):
            samples.append(_step_up(model, samples[-1], schedule, i, conditioning, refinement))
            bar.update()
        back = denoise(model, samples[-1], schedule, levels, conditioning, bar)
    moved = sum(a != b for a, b in zip(schedule.alphas, schedule.alphas[1:], strict=False))
    return Trajectory(
        torch.stack(samples), schedule, back, psnr(model, back, clean), moved * (1 + refinement), conditioning
    )


def _as_published(
    model: Model, clean: torch.Tensor, schedule: Schedule, conditioning: tuple[torch.Tensor, ...], progress: bool
) -> Trajectory:
    """Up to the last level but one; from there down as if it were the last."""
    top = len(schedule.timesteps)
    x = clean
    with tqdm(total=2 * top - 1, desc="inversion", unit="step", disable=not progress) as bar:
        for i, timestep in enumerate((schedule.clean_timestep, *schedule.timesteps[: top - 2])):
            x = schedule.step(x, predict_noise(model, x, timestep, conditioning), i, i + 1)
            bar.update()
        samples = [down for _, down in descend(model, x, schedule, top, conditioning, bar)]
    back = samples[-1]
    return Trajectory(torch.stack(samples[::-1]), schedule, back, psnr(model, back, clean), top - 1, conditioning)


def _step_up(
    model: Model,
    x: torch.Tensor,
    schedule: Schedule,
    level: int,
    conditioning: tuple[torch.Tensor, ...],
    refinement: int,
) -> torch.Tensor:
    if schedule.alphas[level] == schedule.alphas[level - 1]:
        return x
    timestep = schedule.timesteps[level - 1]
    above = x
    for _ in range(1 + refinement):
        eps = predict_noise(model, above, timestep, conditioning)
        above = schedule.step(x, eps, level - 1, level)
    return above


def psnr(model: Model, samples: torch.Tensor, reference: torch.Tensor) -> tuple[float, ...]:
    """Peak signal-to-noise ratio in dB of decoded samples against decoded references, one a pair."""
    difference = model.codec.decode(samples).double() - model.codec.decode(reference).double()
    errors = difference.square().flatten(1).mean(1)
    return tuple((-10 * torch.log10(errors.clamp_min(1e-20))).tolist())
