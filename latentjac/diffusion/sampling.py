"""From noise to images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from latentjac.arguments import (
    check_bool,
    check_choice,
    check_generator,
    check_int,
    check_kind,
    check_left,
    check_tensor,
    check_text,
)
from latentjac.diffusion.arguments import check_conditioning, check_model, check_prompts, check_samples
from latentjac.diffusion.denoise import denoise
from latentjac.diffusion.schedule import Schedule, check_grid
from latentjac.diffusion.trajectory import Point
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models import Model

_GUIDANCE = 7.5  # the default of diffusers
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
MOST_IMAGES = 65_536  # of one call


@public
def noise_point(
    model: Model,
    num_images: int = 1,
    *,
    num_inference_steps: int = 50,
    generator: torch.Generator | None = None,
    prompt: str | list[str] | None = None,
    negative_prompt: str = "",
    guidance_scale: float | None = None,
) -> Point:
    """Pure noise at the noisiest level of a grid.

    Args:
        model: The model.
        num_images: How many samples, at most ``MOST_IMAGES``.
        num_inference_steps: Levels of the grid.
        generator: Source of the noise; a CPU generator gives the same noise for every device.
        prompt: Text, for models that take one, or one an image.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.encode_prompt`; 7.5 with a prompt and 1 without by default.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range.
    """
    from diffusers.utils.torch_utils import randn_tensor

    name = "noise_point"
    num_inference_steps, _ = check_grid(name, model, num_inference_steps)
    num_images = check_int(name, "num_images", num_images, 1, MOST_IMAGES)
    check_generator(name, generator)
    guided = guidance_scale is not None
    prompt, negative_prompt, scale = check_prompts(
        name, model, prompt, negative_prompt, guidance_scale if guided else 1.0
    )
    if isinstance(prompt, list) and len(prompt) != num_images:
        raise ValueError(f"{name}: prompt must be one text or {num_images} (num_images), got {len(prompt)}")
    schedule = Schedule(model, num_inference_steps)
    shape = (num_images, *model.sample_shape)
    noise = randn_tensor(shape, generator=generator, device=model.device, dtype=model.dtype)
    conditioning = model.encode_prompt(prompt, negative_prompt, _GUIDANCE if prompt and not guided else scale)
    return Point(noise, schedule.timesteps[-1], num_inference_steps, schedule.num_train_timesteps, conditioning)


@public
@torch.no_grad()
def sample(
    model: Model,
    point: Point | None = None,
    *,
    num_images: int = 1,
    num_inference_steps: int = 50,
    generator: torch.Generator | None = None,
    prompt: str | list[str] | None = None,
    negative_prompt: str = "",
    guidance_scale: float | None = None,
    output_type: str = "pil",
    progress: bool = False,
) -> Any:
    """Make images by deterministic DDIM, from noise or from a point.

    Args:
        model: The model.
        point: Where to start; fresh noise by default, which the next six arguments describe. They are refused with a
            point, which has its own; :meth:`Point.with_prompt` puts it under another prompt.
        num_images: How many images, at most ``MOST_IMAGES``.
        num_inference_steps: Steps from noise to image.
        generator: Source of the noise.
        prompt: Text, for models that take one, or one an image.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.encode_prompt`; 7.5 with a prompt and 1 without by default.
        output_type: ``"pil"`` (list of PIL images), ``"np"`` (float ``[B, H, W, C]`` in [0, 1]), ``"pt"`` (tensor
            ``[B, C, H, W]`` in [0, 1]) or ``"latent"`` (the samples themselves).
        progress: Show a progress bar.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the point does not lie on its grid.
    """
    output_type = check_choice("sample", "output_type", output_type, OUTPUT_TYPES)
    progress = check_bool("sample", "progress", progress)
    if point is None:
        point = noise_point(
            model,
            num_images,
            num_inference_steps=num_inference_steps,
            generator=generator,
            prompt=prompt,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
        )
    else:
        of_noise = {
            "num_images": (num_images, 1),
            "num_inference_steps": (num_inference_steps, 50),
            "generator": (generator, None),
            "prompt": (prompt, None),
            "negative_prompt": (negative_prompt, ""),
            "guidance_scale": (guidance_scale, None),
        }
        for name, (value, usual) in of_noise.items():
            check_left("sample", name, value, usual, "with a point")
    schedule, level = place("sample", model, point)
    with tqdm(total=level, desc="sampling", unit="step", disable=not progress) as bar:
        samples = denoise(model, point.sample, schedule, level, point.conditioning, bar)
    return render(model, samples, output_type)


@public
def render(model: Model, samples: torch.Tensor, output_type: str) -> Any:
    """Samples in one of the output types of :func:`sample`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If samples do not fit the model, or there is no such type.
    """
    from latentjac.models import to_pil

    check_model("render", model)
    samples = check_tensor("render", "samples", check_samples("render", "samples", samples, model))
    output_type = check_choice("render", "output_type", output_type, OUTPUT_TYPES)
    if output_type == "latent":
        return samples
    pictures = model.codec.decode(samples)
    if output_type == "pt":
        return pictures
    return to_pil(pictures) if output_type == "pil" else pictures.permute(0, 2, 3, 1).numpy()


def place(name: str, model: Model, point: Point) -> tuple[Schedule, int]:
    """Schedule and level of a point, after checking that the point fits the model.

    Raises:
        TypeError: If point is not a :class:`Point`.
        ValueError: If its sample does not fit the model or its timestep is not on its grid.
    """
    check_text("place", "name", name)
    check_model(name, model)
    check_kind(name, "point", point, Point, "a latentjac.Point (from invert(...).at(t))")
    x = check_tensor(name, "point.sample", check_samples(name, "point.sample", point.sample, model))
    check_conditioning(name, "point.conditioning", point.conditioning, len(x))
    if point.num_train_timesteps != model.num_train_timesteps:
        expected, got = model.num_train_timesteps, point.num_train_timesteps
        raise ValueError(f"{name}: point.num_train_timesteps must be {expected} as the model has, got {got}")
    check_grid(name, model, point.num_inference_steps, point.grid)
    schedule = Schedule(model, point.num_inference_steps, point.grid)
    if point.timestep not in schedule.timesteps:
        nearest = schedule.timesteps[schedule.level(t=point.timestep / model.num_train_timesteps) - 1]
        raise ValueError(
            f"{name}: point.timestep must lie on the grid of {point.num_inference_steps} steps "
            f"(nearest {nearest}), got {point.timestep}"
        )
    return schedule, schedule.timesteps.index(point.timestep) + 1
