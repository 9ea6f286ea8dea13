"""What a row of ``families.py`` is: a small pipeline of a family, how it is loaded, and how diffusers is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from networks import build_scheduler

import latentjac

SIDE, STEPS, SCALE = 16, 4, 3.0

Called = Callable[[latentjac.Model, torch.Tensor], dict[str, Any]]


def nothing(model: latentjac.Model, noise: torch.Tensor) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Small:
    """A small pipeline of random weights.

    Attributes:
        family: Its family, by the name that ``latentjac.models.adapters`` has for it.
        build: Makes it, in a folder for files of tokenizers. A module is a network without a pipeline in diffusers.
        given: For :meth:`latentjac.Model.conditioning`, beside a prompt.
        called: With what the pipeline is called beside prompts, steps, scale and noise, of the model and the noise.
        size: For :func:`latentjac.load`.
        frames: The same, of videos.
        prompt: None for families without text.
        scale: Of guidance; 1 is none.
        tol: Of bases that are compared; more for networks that compute a part in float32, whatever the type is.
        steps: Of the way down that is compared; 1 where the pipeline adds noise anew at each step.
        begin: Name of the method of the pipeline that makes what it begins with, of those that are given no noise.
        opened: How a page opens it where neither a folder nor a pipeline of the hub holds all of it.
    """

    family: str
    build: Callable[[Path], Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    called: Called = nothing
    size: int | tuple[int, int] | None = None
    frames: int | None = None
    prompt: str | None = "a red cat"
    scale: float = SCALE
    tol: float = 1e-7
    steps: int = STEPS
    begin: str | None = None
    opened: str | None = None

    def source(self, folder: Path) -> Any:
        """The pipeline, or the network."""
        folder.mkdir(parents=True, exist_ok=True)
        made = self.build(folder)
        if hasattr(made, "set_progress_bar_config"):
            made.set_progress_bar_config(disable=True)
        return made

    def load(self, source: Any, **options: Any) -> latentjac.Model:
        """The model of what :meth:`source` gives."""
        return self.load_from(source, isinstance(source, torch.nn.Module), **options)

    def load_from(self, source: Any, alone: bool, **options: Any) -> latentjac.Model:
        """The same of its folder; ``alone`` is a network without a pipeline."""
        scheduler = (build_scheduler(),) if alone else ()
        return latentjac.load(source, *scheduler, size=self.size, frames=self.frames, **options)

    def conditioning(self, model: latentjac.Model, scale: float = 1.0) -> latentjac.Conditioning:
        """Under the prompt and what else there is."""
        return model.conditioning(self.prompt, guidance_scale=scale, **self.given)

    def reference(self, source: Any, model: latentjac.Model, noise: torch.Tensor) -> torch.Tensor:
        """What diffusers makes of the noise, ``[1, H, W, 3]``, ``[1, F, H, W, 3]`` or ``[1, C, L]``, by the pipeline.

        It gets those of the arguments below that it takes.
        """
        if isinstance(source, torch.nn.Module):
            return self._by_scheduler(model, noise)
        height, width = getattr(model.codec, "size", (None, None))
        offered = {
            "prompt": self.prompt,
            "latents": noise,
            "generator": torch.Generator().manual_seed(1),
            "guidance_scale": self.scale,
            "num_inference_steps": self.steps,
            "height": height,
            "width": width,
            "num_frames": self.frames,
            "output_type": "np",
            **self.called(model, noise),
        }
        taken = inspect.signature(source.__call__).parameters
        options = {name: value for name, value in offered.items() if name in taken}
        if self.begin is None:
            return torch.as_tensor(source(**options)[0])
        with mock.patch.object(source, self.begin, return_value=noise):
            return torch.as_tensor(source(**options)[0])

    def _by_scheduler(self, model: latentjac.Model, noise: torch.Tensor) -> torch.Tensor:
        """For networks that no pipeline of diffusers gives all that they take: its scheduler, guided by hand."""
        scheduler, x = model.scheduler, noise
        scheduler.set_timesteps(self.steps)
        plain = self.conditioning(model)
        away = self.conditioning(model, 2.0).guidance.negative
        for t in scheduler.timesteps:
            under, not_under = (model.call(model.network, x, t, c) for c in (plain, away))
            x = scheduler.step(not_under + self.scale * (under - not_under), t, x).prev_sample
        return (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def by_chance(
    model: latentjac.Model, point: latentjac.Point, k: int, layer: str = "mid", tol: float = 0.1
) -> SimpleNamespace:
    """Directions in place of a basis, once its layer has been looked at: nothing is traced."""
    features = model.feature_map(layer)(point.sample, torch.tensor(point.timestep), point.conditioning)
    assert features.isfinite().all()
    return SimpleNamespace(v=torch.randn(k, *point.sample.shape, generator=torch.Generator().manual_seed(0)))


class Pretrained:
    """What ``from_pretrained`` gives on pages: a hub id, whose place that of an IP-Adapter takes."""

    def __init__(self, source: str) -> None:
        self.source = source

    def load_ip_adapter(self, source: str, **given: Any) -> None:
        self.source = source

    def set_ip_adapter_scale(self, scale: float) -> None:
        assert scale > 0
