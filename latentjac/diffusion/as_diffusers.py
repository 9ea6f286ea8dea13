"""From noise to samples by the steps of diffusers' own scheduler, as a pipeline takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_number
from latentjac.diffusion.denoise import predict
from latentjac.models import Conditioning
from latentjac.models.placing import stepping
from latentjac.stopping import Bar

if TYPE_CHECKING:
    from latentjac.models import Model

Tensor = torch.Tensor
# What the network returns for samples and a timestep as the scheduler has them.
_Network = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Diffusers:
    """Steps of the model's own scheduler: those of its pipeline in diffusers, for pictures of pure noise.

    A copy of the scheduler takes them, with its order, clipping, thresholding and noise, so that equal noise gives the
    picture of the pipeline. They cannot be undone, and lead from nowhere but the noisiest level: inversion, points and
    edits go by :class:`DDIM`, :class:`Implicit` or :class:`Multistep`.

    Attributes:
        eta: Share of the noise of stochastic steps, of schedulers that take one (``DDIMScheduler``, ``TCDScheduler``),
            as their pipelines do; 0 is none.

    Raises:
        TypeError: If eta is no number.
        ValueError: If it is out of range.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "eta", check_number("Diffusers", "eta", self.eta, 0, 1, least=True, most=True))


@torch.no_grad()
def sampled(
    function: str,
    model: Model,
    noise: Tensor,
    num_inference_steps: int,
    conditioning: Conditioning,
    solver: Diffusers,
    generator: torch.Generator | None,
    shown: bool = False,
) -> Tensor:
    """Clean samples ``[B, C, H, W]`` of standard normal noise.

    Args:
        function: For messages.
        model: The model.
        noise: Of the shape of the samples.
        num_inference_steps: As the pipeline takes it.
        conditioning: With one row, or one a sample.
        solver: With its options.
        generator: Source of the noise of stochastic steps.
        shown: Whether there is a progress bar.

    Raises:
        ValueError: If the scheduler has no such steps.
        ImportError: If it needs a package that is missing.
    """
    scheduler = stepping(function, model.scheduler, num_inference_steps, **model.placing, device=noise.device)
    learned = str(scheduler.config.get("variance_type")).startswith("learned")
    plain = model._as_given(learned)

    def network(x: Tensor, timestep: Any) -> Tensor:
        given = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        out = predict(
            plain, given.to(noise.dtype), timestep.item() if isinstance(timestep, Tensor) else timestep, conditioning
        ).x0
        if learned and out.shape[1] != 2 * x.shape[1]:
            raise ValueError(
                f"{function}: model.scheduler must have a variance_type of fixed ones for a network that predicts no "
                f"variance, got {scheduler.config.variance_type!r}"
            )
        return out

    options = {
        name: value for name, value in (("eta", solver.eta), ("generator", generator)) if name in _taken(scheduler)
    }
    way = _way_of(scheduler)
    x = noise * getattr(scheduler, "init_noise_sigma", 1.0)
    try:
        with Bar("sampling", len(scheduler.timesteps), shown=shown) as bar:
            return way(scheduler, x, network, options, bar)
    except NotImplementedError as error:
        kind = type(scheduler).__name__
        raise ValueError(
            f"{function}: model.scheduler must have steps for its network, got {kind}: {error}; give solver=DDIM()"
        ) from error


def _taken(scheduler: Any) -> set[str]:
    """What a step takes."""
    return set(inspect.signature(scheduler.step if hasattr(scheduler, "step") else scheduler.step_pred).parameters)


def _way_of(scheduler: Any) -> Callable[..., Tensor]:
    """How pipelines call a scheduler."""
    if hasattr(scheduler, "step_correct"):
        return _corrected
    if scheduler.config.get("prediction_type") == "trigflow":
        return _by_angles
    taken = _taken(scheduler)
    return _with_former if "old_pred_original_sample" in taken else _to_named if "prev_timestep" in taken else _plain


def _plain(scheduler: Any, x: Tensor, network: _Network, options: dict[str, Any], bar: Bar) -> Tensor:
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, **options, return_dict=False)[0].to(x.dtype)
        bar.update()
    return x


def _to_named(scheduler: Any, x: Tensor, network: _Network, options: dict[str, Any], bar: Bar) -> Tensor:
    """Of schedulers that are told where each step ends (unCLIP)."""
    for t, after in zip(scheduler.timesteps, [*scheduler.timesteps[1:], None], strict=True):
        x = scheduler.step(network(x, t), t, x, **options, prev_timestep=after, return_dict=False)[0].to(x.dtype)
        bar.update()
    return x


def _with_former(scheduler: Any, x: Tensor, network: _Network, options: dict[str, Any], bar: Bar) -> Tensor:
    """Of schedulers that are given the clean sample of the step before (CogVideoX)."""
    clean, before, kind = None, None, x.dtype
    for t in scheduler.timesteps:
        x, clean = scheduler.step(network(x, t), clean, t, before, x, **options, return_dict=False)
        x, before = x.to(kind), t
        bar.update()
    return x


def _corrected(scheduler: Any, x: Tensor, network: _Network, options: dict[str, Any], bar: Bar) -> Tensor:
    """Predictor and corrector of variance exploding schedules (Song et al. 2021); the last step gives the mean."""
    mean = x
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=True):
        for _ in range(scheduler.config.correct_steps):
            x = scheduler.step_correct(network(x, sigma), x, **options, return_dict=False)[0]
        x, mean = scheduler.step_pred(network(x, sigma), t, x, **options, return_dict=False)
        bar.update()
    return mean


def _by_angles(scheduler: Any, x: Tensor, network: _Network, options: dict[str, Any], bar: Bar) -> Tensor:
    """Of schedulers that count angles, for a network that sees samples of a flow (Sana Sprint)."""
    data = scheduler.config.sigma_data
    x = clean = x * data
    for angle in scheduler.timesteps[:-1]:
        noise = angle.sin() / (angle.cos() + angle.sin())
        total = (noise**2 + (1 - noise) ** 2).sqrt()
        seen = x / data * total
        out = ((1 - 2 * noise) * seen + total**2 * network(seen, noise)) / total
        x, clean = scheduler.step(data * out.float(), angle, x, **options, return_dict=False)
        bar.update()
    return clean / data
