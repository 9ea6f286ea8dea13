"""Whether a model can do what a spec asks for, seen before anything is computed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from latentjac.batch.edit_spec import EditOf
from latentjac.batch.items import Items
from latentjac.batch.masks import mask_for_all
from latentjac.batch.slider_spec import SliderOf
from latentjac.batch.spec import Spec, built
from latentjac.batch.spec_values import placed
from latentjac.diffusion import Multistep, Rho, Schedule
from latentjac.diffusion.inversion import NUM_INFERENCE_STEPS
from latentjac.editing import FromWords, Slider, Transported
from latentjac.editing.applying import grid_of
from latentjac.editing.masks import as_mask, check_rank, mask_for
from latentjac.models import LoadError, Model, builtin_models, load
from latentjac.models.codec import NoCodec
from latentjac.models.identity import network_identity
from latentjac.models.prompted import any_conditioning
from latentjac.public import warn
from latentjac.solvers import LocalBasis

_STEPS = {"invert": NUM_INFERENCE_STEPS, "sample": 50}  # defaults of the functions
_INVERTED = {"grid": Rho(), "solver": Multistep()}


@dataclass(frozen=True)
class Sizes:
    """Numbers of values that results have.

    Attributes:
        sample: Of a noisy sample.
        features: Of each layer's output, by layer.
    """

    sample: int
    features: dict[str, int]


def load_named(spec: Spec, device: str) -> Model:
    """The model that a spec names.

    Args:
        spec: The spec.
        device: Where it computes; ``"auto"`` is a GPU where torch sees one: under torchrun and srun that of the number
            that the process has on its machine.
    """
    if device == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        rank = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID", "0")
        device = "cpu" if count == 0 else f"cuda:{int(rank) % count if rank.isdecimal() else 0}"
    source = spec.model if spec.model in builtin_models() else placed(spec.model, spec.root)
    dtype = None if spec.dtype is None else getattr(torch, spec.dtype)
    try:
        return load(source, device=device, dtype=dtype, **spec.load)
    except (LoadError, TypeError, ValueError) as error:
        argument, _, rest = str(error).removeprefix("load: ").partition(" ")
        if argument not in spec.load:
            raise
        raise type(error)(f"spec: 'load.{argument}' {rest}") from error


def check_fits(model: Model, spec: Spec, items: Items) -> Sizes:
    """Raise where the model cannot do what is asked for. It costs one evaluation of the network a layer.

    Raises:
        ValueError: If something does not fit; the message names the key of the spec.
    """
    if isinstance(model.codec, NoCodec):
        raise ValueError(f"spec: 'model' must be one of pictures, got {model.name!r}, which has no codec")
    photo, seed = (items.first(name) is not None for name in ("photo", "seed"))
    schedules = []
    for part, needed in (("invert", photo), ("sample", seed)):
        if not needed:
            continue
        options = getattr(spec, part)
        with _fitting(f"{part}.num_inference_steps"):
            steps = options.get("num_inference_steps", _STEPS[part])
            chosen = {**_INVERTED, **built(options)} if part == "invert" else {}
            levels = {name: chosen[name] for name in ("grid", "solver", "t") if name in chosen}
            schedules.append(Schedule.from_scheduler(model.scheduler, steps, **model.placing, **levels))
        with _fitting(part):
            prompt = items.first("prompt") or options.get("prompt")
            label = items.first("class") if items.first("class") is not None else options.get("class_label")
            model.conditioning(
                prompt,
                options.get("negative_prompt", ""),
                options.get("guidance_scale", 1.0),
                class_label=label,
            )
    for schedule in schedules:
        _check_levels(schedule, spec)
    layers = {entry.layer for entry in spec.edits} | set(() if spec.bases is None else spec.bases.layer)
    with _fitting("layer"):
        features = {layer: _features(model, schedules[0], layer) for layer in sorted(layers)}
    sample = math.prod(model.sample_shape)
    if spec.bases is not None:
        for layer in spec.bases.layer:
            most = min(sample, features[layer].numel())
            if spec.bases.k > most:
                raise ValueError(f"spec: 'bases.k' must be at most {most} at layer {layer!r}, got {spec.bases.k}")
        if spec.bases.mask is not None and spec.bases.mask.file is not None:
            with _fitting("bases"):
                inside = as_mask("bases", mask_for_all(spec.bases.mask, model), model)
                check_rank("bases", "k", spec.bases.k, inside, model)
    for i, entry in enumerate(spec.edits):
        with _fitting(f"edits[{i}]"):
            _check_edit(model, entry, features)
    for i, slider in enumerate(spec.sliders):
        with _fitting(f"sliders[{i}]"):
            _check_slider(model, slider, inverted=photo)
    return Sizes(sample, {layer: shape.numel() for layer, shape in features.items()})


@contextmanager
def _fitting(key: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ValueError(f"spec: {key!r} must fit the model: {error}") from error


def _check_levels(schedule: Schedule, spec: Spec) -> None:
    """Raise where a step is above the levels that items have; warn where two of a sweep are one."""
    bases = () if spec.bases is None else spec.bases.t
    for key, t in (*(("bases.t", t) for t in bases), *((f"edits[{i}].t", e.t) for i, e in enumerate(spec.edits))):
        with _fitting(key):
            schedule.level(t=t)
    at: dict[int, float] = {}
    for t in bases:
        first = at.setdefault(schedule.level(t=t), t)
        if first != t:
            warn(
                f"run: 'bases.t' must be different levels of {schedule.num_inference_steps} steps, got {first:g} and "
                f"{t:g}, whose nearest one is the same; more num_inference_steps tell them apart"
            )


@torch.no_grad()
def _features(model: Model, schedule: Schedule, layer: str) -> torch.Size:
    """Shape of a layer's output for one sample."""
    timestep = torch.tensor(schedule.timesteps[schedule.top], device=model.device)
    x = torch.zeros(1, *model.sample_shape, device=model.device, dtype=model.dtype)
    return model.feature_map(layer)(x, timestep, any_conditioning(model)).shape[1:]


def _check_edit(model: Model, entry: EditOf, features: dict[str, torch.Size]) -> None:
    method = entry.built()
    method.layer_in(model)
    if entry.mask is not None and entry.mask.file is not None:
        mask_for("edit", entry.masked(mask_for_all(entry.mask, model)), model)
    if entry.basis is None:
        return
    basis = LocalBasis.load(entry.basis, model)
    rows, expected = (basis.u, features[entry.layer]) if method.in_features else (basis.v, model.sample_shape)
    if tuple(rows.shape[1:]) != tuple(expected):
        raise ValueError(f"its basis must have directions of shape {list(expected)}, got {list(rows.shape[1:])}")


def _check_slider(model: Model, entry: SliderOf, *, inverted: bool) -> None:
    slider, carry = Slider.load(entry.slider, model), entry.built()
    slider.method.layer_in(model)
    if entry.mask is not None and entry.mask.file is not None:
        mask_for("apply", mask_for_all(entry.mask, model), model)
    if inverted:
        grid_of(model, slider.schedule)
    for chosen in (slider.carry, carry):
        if isinstance(chosen, FromWords):
            model.conditioning(chosen.prompt)
            model.conditioning(chosen.away)
    if isinstance(carry, Transported):
        most = math.prod(model.sample_shape)
        if carry.k > most:
            raise ValueError(f"apply: carry.k must be at most {most}, got {carry.k}")


def identity_of(model: Model) -> dict[str, str]:
    """What tells a model from others: its networks, their types, and its schedule."""
    networks = {
        "network": model.network,
        "autoencoder": getattr(model.codec, "autoencoder", None),
        "text": getattr(model.text, "encoder", None),
    }
    found = {name: network_identity(n) for name, n in networks.items() if isinstance(n, torch.nn.Module)}
    config = dict(getattr(model.scheduler, "config", {}))
    plain = sorted((key, repr(value)) for key, value in config.items() if not key.startswith("_"))
    schedule = ", ".join(f"{key}={value}" for key, value in plain)
    return {
        **found,
        "dtype": str(model.dtype).removeprefix("torch."),
        "scheduler": f"{type(model.scheduler).__name__}({schedule})",
    }
