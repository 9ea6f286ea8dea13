"""From an image to the noise that makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from latentjac.arguments import check_bool, check_choice, check_tensor
from latentjac.diffusion.arguments import check_model, conditioning_for
from latentjac.diffusion.denoise import denoise, predictor
from latentjac.diffusion.grids import Grid, Rho
from latentjac.diffusion.loops import up
from latentjac.diffusion.ode_solvers import Multistep, Solver
from latentjac.diffusion.schedule import Schedule
from latentjac.diffusion.trajectory import LEAST_PSNR, InversionStatus, Trajectory
from latentjac.interrupts import raise_unseen
from latentjac.models.arguments import check_fit
from latentjac.models.classes import Asked
from latentjac.models.codec import decoded, media_of
from latentjac.public import public, warn
from latentjac.stopping import Bar

if TYPE_CHECKING:
    from latentjac.models import Conditioning, ImageInput, Model, Prediction

INPUT_TYPES = ("image", "latent")
NUM_INFERENCE_STEPS = 16
_RHO, _MULTISTEP = Rho(), Multistep()
_MOST_NAMED = 5  # pictures in a warning


@public
@torch.no_grad()
def invert(
    model: Model,
    image: ImageInput | list[ImageInput],
    num_inference_steps: int = NUM_INFERENCE_STEPS,
    prompt: str | list[str] | None = None,
    *,
    negative_prompt: str = "",
    guidance_scale: float = 1.0,
    class_label: int | list[int] | None = None,
    negative_class_label: int | None = None,
    conditioning: Conditioning | None = None,
    t: float = 1.0,
    grid: Grid = _RHO,
    solver: Solver = _MULTISTEP,
    estimate_error: bool = False,
    input_type: str = "image",
    progress: bool = False,
) -> Trajectory:
    """Invert images along the probability flow, and check it by going back.

    Args:
        model: The model.
        image: One or several pictures, or what else the codec of the model takes, such as videos; see
            :meth:`PixelCodec.encode`. With ``input_type="latent"`` clean samples ``[B, ...]``.
        num_inference_steps: Levels of the grid above the picture, at most T; with ``Multistep`` each costs one
            evaluation of the network.
        prompt: Text, for models that take one, or one a picture; the empty text by default.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.conditioning`. Inversion under guidance finds its way back less well.
        class_label: Class, for models that take one, or one a picture; the null class by default.
        negative_class_label: Class that guidance leads away from; the null class by default.
        conditioning: A ready one instead of a prompt or a class.
        t: Fraction of T where to stop: the point is there exactly, and all levels lie below it.
        grid: Where the levels lie: :class:`latentjac.diffusion.Rho`, :class:`~latentjac.diffusion.Uniform` or
            :class:`~latentjac.diffusion.Own`, the scheduler's.
        solver: How samples go up and down: :class:`latentjac.diffusion.Multistep`, of second order,
            :class:`~latentjac.diffusion.DDIM` or :class:`~latentjac.diffusion.Implicit`, which comes back most exactly.
        estimate_error: Estimate the error of the noisy samples, too, by another way up with twice as many steps.
        input_type: ``"image"`` is encoded by the model's codec, ``"latent"`` are samples as
            ``sample(..., output_type="latent")`` gives them.
        progress: Show a progress bar.

    Returns:
        Samples at all levels, the reconstruction and its PSNR, and how the way of each picture ended. The PSNR is of
        pictures and frames in [0, 1]; of sound and of samples without a codec, against the range of the values of each.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the model takes no prompt or class and got one.
        KeyboardInterrupt: If Ctrl-C interrupted a basis before whose status was not read.

    Example:
        >>> path = latentjac.invert(model, "photo.jpg", num_inference_steps=12, t=0.7)
        >>> point = path.at(t=0.7)
    """
    raise_unseen("invert")
    check_model("invert", model)
    progress = check_bool("invert", "progress", progress)
    estimate_error = check_bool("invert", "estimate_error", estimate_error)

    def levels(steps: int) -> Schedule:
        return Schedule.from_scheduler(model.scheduler, steps, **model.placing, grid=grid, solver=solver, t=t)

    schedule = levels(num_inference_steps)
    finer = levels(2 * schedule.num_inference_steps) if estimate_error else None
    asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
    input_type = check_choice("invert", "input_type", input_type, INPUT_TYPES)
    clean, under = prepared("invert", model, image, asked, conditioning, input_type)
    way = _way_up(model, clean, schedule, under, progress)
    samples = way.samples
    with Bar("the way back", schedule.top, shown=progress) as bar:
        back = denoise(model, samples[-1], schedule, schedule.top, under, bar)
    error: tuple[float, ...] = ()
    if finer is not None:
        better = _way_up(model, clean, finer, under, progress).samples[-1]
        error = tuple(_relative(samples[-1], better).tolist())
    found = psnr(model, back, clean)
    status = tuple(map(_status, found, [None] * len(clean) if way.solved is None else way.solved.tolist()))
    _warn_of(status, found)
    return Trajectory(torch.stack(samples), schedule, back, found, way.evaluations, under, status, error)


class _Way(NamedTuple):
    """What a way up gives: samples at every level, what it cost, and whether its equations were solved."""

    samples: list[torch.Tensor]
    evaluations: int
    solved: torch.Tensor | None


def _way_up(model: Model, clean: torch.Tensor, schedule: Schedule, under: Conditioning, progress: bool) -> _Way:
    evaluate, evaluations = predictor(model, schedule, under), 0

    def counted(x: torch.Tensor, level: int) -> Prediction:
        nonlocal evaluations
        evaluations += 1
        return evaluate(x, level)

    step = schedule.solver.up(schedule, counted)
    with Bar("inversion", schedule.top, shown=progress) as bar:
        samples = [x for _, x in up(clean, schedule, step, bar=bar)]
    return _Way(samples, evaluations, step.solved)


def _relative(samples: torch.Tensor, better: torch.Tensor) -> torch.Tensor:
    """Length of the difference of samples from better ones, over that of these, one a pair."""
    return (samples - better).flatten(1).double().norm(dim=1) / better.flatten(1).double().norm(dim=1)


def _status(psnr: float, solved: bool | None) -> InversionStatus:
    """How the way of one picture ended."""
    if psnr < LEAST_PSNR:
        return InversionStatus.LOST
    if solved is None:
        return InversionStatus.EXPLICIT
    return InversionStatus.CONVERGED if solved else InversionStatus.OUT_OF_EVALUATIONS


def _warn_of(status: Sequence[InversionStatus], found: Sequence[float]) -> None:
    """Warn of pictures that were not found again, or whose equations were not solved."""
    bad = [i for i, entry in enumerate(status) if not entry.fine]
    if bad:
        said = "; ".join(f"picture {i}: {status[i].value}, {found[i]:.1f} dB" for i in bad[:_MOST_NAMED])
        more = f"; and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
        warn(f"invert: {said}{more} (more num_inference_steps, another solver, or less guidance may help)")


def prepared(
    function: str,
    model: Model,
    image: ImageInput | list[ImageInput],
    asked: Asked,
    conditioning: Conditioning | None,
    input_type: str = "image",
) -> tuple[torch.Tensor, Conditioning]:
    """Clean samples ``[B, C, H, W]`` of pictures, and what the network gets beside them.

    What is asked for is checked before the pictures are encoded. Arguments are those of :func:`invert`, errors name a
    function.
    """
    conditioning_for(function, model, asked, conditioning, None, "")
    if input_type == "latent":
        clean = check_tensor(function, "image", image).to(model.device, model.dtype)
        check_fit(function, "image", clean, model)
    else:
        clean = model.codec.encode(image, subject=f"{function}: image").to(model.device, model.dtype)
    return clean, conditioning_for(function, model, asked, conditioning, len(clean), "as many as pictures")()


def psnr(model: Model, samples: torch.Tensor, reference: torch.Tensor) -> tuple[float, ...]:
    """Peak signal-to-noise ratio in dB of decoded samples against decoded references, one a pair.

    The peak is 1 of pictures; of what is none it is the range of the reference.
    """
    found, wanted = (decoded(model, x).double().flatten(1) for x in (samples, reference))
    errors = (found - wanted).square().mean(1)
    if media_of(model) not in ("pictures", "videos"):
        errors = errors / (wanted.amax(1) - wanted.amin(1)).square().clamp_min(1e-20)
    return tuple((-10 * torch.log10(errors.clamp_min(1e-20))).tolist())
