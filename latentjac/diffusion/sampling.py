"""From noise to images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

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
from latentjac.diffusion.arguments import check_model, check_samples, conditioning_for
from latentjac.diffusion.as_diffusers import Diffusers, sampled
from latentjac.diffusion.denoise import denoise
from latentjac.diffusion.grids import Grid, Own, check_grid
from latentjac.diffusion.ode_solvers import DDIM, Solver, check_solver
from latentjac.diffusion.schedule import Schedule
from latentjac.diffusion.trajectory import Point
from latentjac.models.classes import Asked
from latentjac.models.codec import media_of, to_frames, to_pil
from latentjac.models.placing import steps_as_diffusers
from latentjac.public import public
from latentjac.stopping import Bar

if TYPE_CHECKING:
    from latentjac.models import Conditioning, Model

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
MOST_IMAGES = 65_536  # of one call
_OWN, _DDIM, _DIFFUSERS = Own(), DDIM(), Diffusers()
_SAME = 1e-6  # by how much signal and noise of a schedule may differ from those of the model


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
    class_label: int | list[int] | None = None,
    negative_class_label: int | None = None,
    conditioning: Conditioning | None = None,
    grid: Grid = _OWN,
    solver: Solver = _DDIM,
) -> Point:
    """Pure noise at the noisiest level of a grid.

    Args:
        model: The model.
        num_images: How many samples, at most ``MOST_IMAGES``.
        num_inference_steps: Levels of the grid.
        generator: Source of the noise; a CPU generator gives the same noise for every device.
        prompt: Text, for models that take one, or one an image.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.conditioning`; by default that of diffusers (``model.guidance_scale``, mostly
            7.5) with a prompt, or with a class where there is one to lead away from, and 1 without.
        class_label: Class, for models that take one, or one an image; the null class by default.
        negative_class_label: Class that guidance leads away from; the null class by default.
        conditioning: A ready one instead of a prompt or a class.
        grid: Where the levels lie, as of :func:`invert`.
        solver: How samples go down from it, as of :func:`invert`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range.

    Example:
        >>> start = latentjac.noise_point(model, 3, generator=torch.Generator().manual_seed(0))
        >>> len(start.sample)
        3
    """
    from diffusers.utils.torch_utils import randn_tensor

    name = "noise_point"
    check_model(name, model)
    schedule = Schedule.from_scheduler(model.scheduler, num_inference_steps, **model.placing, grid=grid, solver=solver)
    num_images = check_int(name, "num_images", num_images, 1, MOST_IMAGES)
    check_generator(name, generator)
    asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label).with_usual_scale(model)
    under = conditioning_for(name, model, asked, conditioning, num_images, "num_images")
    shape = (num_images, *model.sample_shape)
    noise = randn_tensor(shape, generator=generator, device=model.device, dtype=model.dtype)
    spread = model.levels.spread(schedule.noises[schedule.top])
    return Point(noise * spread, schedule.top, schedule, under())


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
    class_label: int | list[int] | None = None,
    negative_class_label: int | None = None,
    conditioning: Conditioning | None = None,
    grid: Grid = _OWN,
    solver: Solver | Diffusers | None = None,
    output_type: str = "pil",
    progress: bool = False,
) -> Any:
    """Make images of noise, as the pipeline of diffusers does, or of a point, along the probability flow.

    The same seed gives the picture of the pipeline with its own scheduler. From a point samples go down the levels by
    the solver of its schedule, which an inversion went up.

    Args:
        model: The model.
        point: Where to start; fresh noise by default, which the next eleven arguments describe. They are refused with a
            point, which has its own; :meth:`Point.with_prompt` puts it under another prompt or class. Only ``solver``
            may be a :class:`latentjac.diffusion.Diffusers`, with a ``generator``, for a point of pure noise.
        num_images: How many images, at most ``MOST_IMAGES``.
        num_inference_steps: Steps from noise to image.
        generator: Source of the noise, and of that of stochastic steps.
        prompt: Text, for models that take one, or one an image.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.conditioning`; by default that of diffusers (``model.guidance_scale``, mostly
            7.5) with a prompt, or with a class where there is one to lead away from, and 1 without.
        class_label: Class, for models that take one, or one an image; the null class by default.
        negative_class_label: Class that guidance leads away from; the null class by default.
        conditioning: A ready one instead of a prompt or a class.
        grid: Where the levels lie: the scheduler's, :class:`latentjac.diffusion.Own`, or another.
        solver: How samples go down: by default the scheduler's own steps, :class:`latentjac.diffusion.Diffusers`, and
            on another grid, or where the scheduler leads elsewhere, :class:`~latentjac.diffusion.DDIM` (Euler for
            flows). :class:`~latentjac.diffusion.Multistep` needs fewer steps, best with ``grid=Rho()``.
        output_type: ``"pil"`` (list of PIL images; for models of videos a list of frames for each), ``"np"`` (float
            ``[B, H, W, C]`` in [0, 1]; of videos ``[B, F, H, W, C]``), ``"pt"`` (tensor ``[B, C, H, W]`` in [0, 1]; of
            videos ``[B, C, F, H, W]``) or ``"latent"`` (the samples themselves). Sound is ``[B, C, L]`` in [-1, 1] as
            ``"np"`` and ``"pt"``, and has no ``"pil"``.
        progress: Show a progress bar.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the point does not fit the model.

    Example:
        >>> images = latentjac.sample(model, num_images=2, num_inference_steps=5)
        >>> len(images)
        2
    """
    check_model("sample", model)
    output_type = _check_output("sample", output_type, model)
    progress = check_bool("sample", "progress", progress)
    solver = _solver_for(model, point, grid, solver)
    stepped, fresh = isinstance(solver, Diffusers), point is None
    if point is None:
        point = noise_point(
            model,
            num_images,
            num_inference_steps=num_inference_steps,
            generator=generator,
            prompt=prompt,
            negative_prompt=negative_prompt,
            guidance_scale=guidance_scale,
            class_label=class_label,
            negative_class_label=negative_class_label,
            conditioning=conditioning,
            grid=grid,
            solver=_DDIM if isinstance(solver, Diffusers) else solver,
        )
    else:
        of_noise = {
            "num_images": (num_images, 1),
            "num_inference_steps": (num_inference_steps, 50),
            "generator": (None if stepped else generator, None),
            "conditioning": (conditioning, None),
            "grid": (grid, _OWN),
            "solver": (None if stepped else solver, None if stepped else _DDIM),
        }
        for name, (value, usual) in of_noise.items():
            check_left("sample", name, value, usual, "with a point")
        asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
        asked.check_left("sample", "with a point", usual_scale=None)
    schedule, level = place("sample", model, point)
    if isinstance(solver, Diffusers):
        if not fresh:
            check_generator("sample", generator)
            _check_pure_noise(model, point)
        noise = point.sample / model.levels.spread(point.noise)  # of deviation 1
        steps = schedule.num_inference_steps
        samples = sampled("sample", model, noise, steps, point.conditioning, solver, generator, shown=progress)
    else:
        with Bar("sampling", level, shown=progress) as bar:
            samples = denoise(model, point.sample, schedule, level, point.conditioning, bar)
    return render(model, samples, output_type)


def _solver_for(model: Model, point: Point | None, grid: Grid, solver: Any) -> Solver | Diffusers:
    """The solver that is asked for, or the one by default."""
    if solver is None:
        own = point is None and isinstance(grid, Own) and steps_as_diffusers(model.scheduler)
        return _DIFFUSERS if own else _DDIM
    if isinstance(solver, Diffusers) and not isinstance(check_grid("sample", grid), Own):
        raise ValueError(f"sample: grid must be Own() with solver=Diffusers(), got {grid!r}")
    return solver if isinstance(solver, Diffusers) else check_solver("sample", solver)


def _check_pure_noise(model: Model, point: Point) -> None:
    """Raise unless a point is at the noisiest level of the model's scheduler."""
    schedule = point.schedule
    steps = schedule.num_inference_steps
    own = Schedule.from_scheduler(model.scheduler, steps, **model.placing, solver=schedule.solver)
    if point.level != schedule.top or schedule != own:
        raise ValueError(
            f"sample: point must be pure noise at the noisiest of the scheduler's {steps} levels (noise_point) with "
            f"solver=Diffusers(), got level {point.level} of {schedule!r}"
        )


@public
def render(model: Model, samples: torch.Tensor, output_type: str) -> Any:
    """Samples in one of the output types of :func:`sample`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If samples do not fit the model, or there is no such type.
    """
    check_model("render", model)
    samples = check_tensor("render", "samples", check_samples("render", "samples", samples, model))
    output_type = _check_output("render", output_type, model)
    if output_type == "latent":
        return samples
    made = model.codec.decode(samples)
    if output_type == "pt":
        return made
    if output_type == "np":
        return (made if media_of(model) == "sound" else made.movedim(1, -1)).numpy()
    return to_frames(made) if media_of(model) == "videos" else to_pil(made)


def _check_output(function: str, output_type: Any, model: Model) -> str:
    """One of the output types, which samples of the model can have."""
    kind = check_choice(function, "output_type", output_type, OUTPUT_TYPES)
    if kind == "pil" and media_of(model) == "sound":
        raise ValueError(f"{function}: output_type must be 'np', 'pt' or 'latent' for a model of sound, got 'pil'")
    return kind


def place(name: str, model: Model, point: Point) -> tuple[Schedule, int]:
    """Schedule and level of a point that fits the model.

    Raises:
        TypeError: If point is not a :class:`Point`.
        ValueError: If its sample or its schedule does not fit the model.
    """
    check_text("place", "name", name)
    check_model(name, model)
    check_kind(name, "point", point, Point, "a latentjac.Point (from invert(...).at(t))")
    check_tensor(name, "point.sample", check_samples(name, "point.sample", point.sample, model))
    if point.schedule.num_train_timesteps != model.num_train_timesteps:
        expected, got = model.num_train_timesteps, point.schedule.num_train_timesteps
        raise ValueError(f"{name}: point.schedule must have T = {expected} as the model has, got {got}")
    if not model.levels.holds(point.timestep):
        raise ValueError(f"{name}: point.timestep must be in {model.levels.span}, got {point.timestep}")
    timestep = torch.tensor(point.timestep, dtype=torch.float64, device="cpu")
    levels = [float(v) for v in model.levels.at(timestep, torch.zeros((), dtype=torch.float64, device="cpu"))]
    pairs = zip(levels, (point.signal, point.noise), strict=True)
    if any(abs(known - own) > _SAME * max(1.0, known) for known, own in pairs):
        numbers = ", ".join(f"{value:.6f}" for value in levels)
        raise ValueError(
            f"{name}: point.schedule must have signal and noise {numbers} at timestep {point.timestep} as the model "
            f"has, got {point.signal:.6f}, {point.noise:.6f}"
        )
    return point.schedule, point.level
