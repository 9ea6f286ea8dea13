"""From an image to the noise that makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_choice, check_int, check_tensor
from latentjac.diffusion.arguments import check_model, conditioning_for
from latentjac.diffusion.denoise import denoise, predict
from latentjac.diffusion.loops import NoiseUp, up
from latentjac.diffusion.schedule import Schedule
from latentjac.diffusion.trajectory import Trajectory
from latentjac.interrupts import raise_unseen
from latentjac.models.arguments import check_fit
from latentjac.models.classes import Asked
from latentjac.models.codec import decoded, media_of
from latentjac.public import public

if TYPE_CHECKING:
    from latentjac.models import Conditioning, ImageInput, Model

INPUT_TYPES = ("image", "latent")
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
    class_label: int | list[int] | None = None,
    negative_class_label: int | None = None,
    conditioning: Conditioning | None = None,
    refinement: int = 1,
    input_type: str = "image",
    progress: bool = False,
) -> Trajectory:
    """Invert images by deterministic steps of first order (DDIM; Euler's for flows), and check it by going back.

    The step from level i - 1 to i uses the noise predicted at level i, as generation does on its way back.
    That prediction needs the sample that is looked for: the first guess takes the sample of level i - 1,
    and each refinement repeats the step with the sample just found (a fixed-point iteration).

    Args:
        model: The model.
        image: One or several pictures, or what else the codec of the model takes, such as videos; see
            :meth:`PixelCodec.encode`. With ``input_type="latent"`` clean samples ``[B, ...]``.
        num_inference_steps: Levels of the grid, at most T.
        prompt: Text, for models that take one, or one a picture; the empty text by default.
        negative_prompt: Text that guidance leads away from.
        guidance_scale: See :meth:`Model.conditioning`. Inversion under guidance finds its way back less well.
        class_label: Class, for models that take one, or one a picture; the null class by default.
        negative_class_label: Class that guidance leads away from; the null class by default.
        conditioning: A ready one instead of a prompt or a class.
        refinement: Fixed-point iterations a step, at most ``MOST_REFINEMENTS``; each costs one more network evaluation.
        input_type: ``"image"`` is encoded by the model's codec, ``"latent"`` are samples as
            ``sample(..., output_type="latent")`` gives them.
        progress: Show a progress bar.

    Returns:
        Samples at all levels, the reconstruction and its PSNR: of pictures and frames in [0, 1]; of sound and of
        samples without a codec, against the range of the values of each.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or the model takes no prompt or class and got one.
        KeyboardInterrupt: If Ctrl-C interrupted a basis before whose status was not read.
    """
    raise_unseen("invert")
    check_model("invert", model)
    refinement = check_int("invert", "refinement", refinement, 0, MOST_REFINEMENTS)
    progress = check_bool("invert", "progress", progress)
    schedule = Schedule.from_scheduler(model.scheduler, num_inference_steps, **model.placing)
    asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
    input_type = check_choice("invert", "input_type", input_type, INPUT_TYPES)
    clean, under = prepared("invert", model, image, asked, conditioning, input_type)
    with tqdm(total=2 * schedule.top, desc="inversion", unit="step", disable=not progress) as bar:
        noise = _refined(model, schedule, under, refinement)
        samples = [x for _, x in up(clean, schedule, noise, bar=bar)]
        back = denoise(model, samples[-1], schedule, schedule.top, under, bar)
    evaluations = sum(not schedule.same(i, i - 1) for i in range(1, schedule.top + 1)) * (1 + refinement)
    return Trajectory(torch.stack(samples), schedule, back, psnr(model, back, clean), evaluations, under)


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


def _refined(model: Model, schedule: Schedule, conditioning: Conditioning, refinement: int) -> NoiseUp:
    """Noise at the level a step leads to, by a fixed-point iteration that begins with the samples below."""

    def noise(x: torch.Tensor, level: int) -> torch.Tensor:
        eps = _noise_at(model, schedule, x, x, level, conditioning)
        for _ in range(refinement):
            above = schedule.step(x, eps, level - 1, level)
            eps = _noise_at(model, schedule, above, x, level, conditioning)
        return eps

    return noise


def _noise_at(
    model: Model,
    schedule: Schedule,
    above: torch.Tensor,
    below: torch.Tensor,
    level: int,
    conditioning: Conditioning,
) -> torch.Tensor:
    """Noise for the step up to a level, of a guess of the samples there.

    At a level without signal the prediction is the sample itself, whatever the network gives, and no iteration with it
    moves. There the part of the samples below that the prediction does not explain goes to both x0 and eps, so that
    Euler's step back would lead from the guess to them.
    """
    found = predict(model, above, schedule.timesteps[level], conditioning)
    if schedule.signals[level] > 0:
        return found.eps
    signal, noise = schedule.signals[level - 1], schedule.noises[level - 1]
    unexplained = below - (signal * found.x0 + noise * found.eps)
    share = 1 / schedule.noises[level]
    return found.eps + share * unexplained


def psnr(model: Model, samples: torch.Tensor, reference: torch.Tensor) -> tuple[float, ...]:
    """Peak signal-to-noise ratio in dB of decoded samples against decoded references, one a pair.

    The peak is 1 of pictures; of what is none it is the range of the reference.
    """
    found, wanted = (decoded(model, x).double().flatten(1) for x in (samples, reference))
    errors = (found - wanted).square().mean(1)
    if media_of(model) not in ("pictures", "videos"):
        errors = errors / (wanted.amax(1) - wanted.amin(1)).square().clamp_min(1e-20)
    return tuple((-10 * torch.log10(errors.clamp_min(1e-20))).tolist())
