"""What holds for every family, measured on a small pipeline of it: see ``families.py``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
from families import SMALL
from small_pipeline import Small
from sound_pipelines import CosineDPMSolverMultistepScheduler
from truth import dense_jacobian, fallbacks, relative

import latentjac
from latentjac.diffusion import DDIM, Own
from latentjac.editing import Geodesic, Guidance, HSpace, Linear
from latentjac.linearization.autodiff import AutodiffLinearization
from latentjac.models import adapters
from latentjac.models.codec import media_of

METHODS = (Linear(), Guidance(num_steps=2), Geodesic(num_steps=2, k=2, tol=1e-3), HSpace())
_K, _LARGEST_DENSE = 3, 1024  # values compared, and entries of a sample whose Jacobian is written out
_INVERTED, _REFINED = 20, 8


def measured(name: str, folder: Path) -> dict[str, Any]:
    """A row of docs/families.md, of a row of ``SMALL``.

    Args:
        name: Of the row.
        folder: For files of tokenizers, and for the pipeline itself.
    """
    row = SMALL[name]
    source = row.source(folder / "parts")
    model = row.load(source)
    family = getattr(adapters, row.family)
    assert family.is_of(model.network)
    found = {
        "pipeline": name,
        "family": row.family,
        "network": family.network,
        "folder": _folder(row, source, folder / "saved"),
        "sample": sample_error(row, source, model),
    }
    model = row.load(row.source(folder / "exact"), dtype=torch.float64)
    path = inverted(row, model)
    point = replace(path.at(0.6), conditioning=row.conditioning(model, row.scale))
    return found | {
        "round trip dB": path.psnr[0],
        "mid": model.layers["mid"],
        "basis of mid": basis_error(model, point, "mid", row.tol),
        "basis of eps": basis_error(model, point, "eps", row.tol),
        "edits": edits(model, point),
        "torch.func": ", ".join(sorted(slow(model, point, "mid") | slow(model, point, "eps"))) or "nothing",
    }


def sample_error(row: Small, source: Any, model: latentjac.Model) -> float:
    """Relative distance of our picture from that of diffusers, from the same noise."""
    conditioning = row.conditioning(model, row.scale)
    generator = torch.Generator().manual_seed(1)
    point = latentjac.noise_point(model, num_inference_steps=row.steps, generator=generator, conditioning=conditioning)
    ours = latentjac.sample(model, point, output_type="np")
    return relative(torch.as_tensor(ours), row.reference(source, model, point.sample))


def default_error(row: Small, source: Any, model: latentjac.Model) -> float:
    """The same of what a seed alone gives: by the scheduler's own steps."""
    options: dict[str, Any] = {"num_inference_steps": row.steps, "conditioning": row.conditioning(model, row.scale)}
    point = latentjac.noise_point(model, generator=torch.Generator().manual_seed(1), **options)
    ours = latentjac.sample(model, generator=torch.Generator().manual_seed(1), output_type="np", **options)
    return relative(torch.as_tensor(ours), row.reference(source, model, point.sample))


def _folder(row: Small, source: Any, folder: Path) -> str:
    """``"loads"`` where a folder gives the same model, of a network alone its own; else why not, in short."""
    source.save_pretrained(folder)
    noiseless = CosineDPMSolverMultistepScheduler
    try:
        with mock.patch.object(diffusers, noiseless.__name__, noiseless):
            read = row.load_from(folder, isinstance(source, torch.nn.Module))
    except latentjac.LoadError as error:
        return f"refused: {_short(str(error), folder)}"
    model = row.load(source)
    same = read.identity() == model.identity() and row.conditioning(read) == row.conditioning(model)
    return "loads" if same else "another model"


def _short(refusal: str, folder: Path) -> str:
    """A refusal without what comes before and behind its first sentence, and without the place of the folder."""
    return refusal.removeprefix("load: ").replace(f"{folder}/", "").split(" (")[0][:150]


def inverted(row: Small, model: latentjac.Model) -> latentjac.Trajectory:
    """The way of a picture, a video or sound to noise, without guidance."""
    codec: Any = model.codec
    if media_of(model) == "sound":
        shape, low = (1, codec.channels, codec.length), -1.0
    else:
        shape, low = (1, 3, *([codec.frames] if media_of(model) == "videos" else []), *codec.size), 0.0
    whole = low + (1 - low) * torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return latentjac.invert(
        model, whole, _INVERTED, conditioning=row.conditioning(model), grid=Own(), solver=DDIM(_REFINED)
    )


def basis_error(model: latentjac.Model, point: latentjac.Point, layer: str, tol: float) -> float:
    """Largest relative error of singular values and directions, in float64.

    Beside the dense Jacobian; of samples with many entries beside products of torch.func, ``|J v - s u| / s``.
    """
    basis = latentjac.local_basis(model, point, _K, layer, tol=tol)
    features, t, x = model.feature_map(layer), torch.tensor(point.timestep), point.sample

    def f(z: torch.Tensor) -> torch.Tensor:
        return features(z, t, point.conditioning)

    if x.numel() > _LARGEST_DENSE:
        pushed = AutodiffLinearization(f, x).jvp(basis.v.reshape(-1, *x.shape)).flatten(1)
        away = (pushed - basis.s.reshape(-1, 1) * basis.u.reshape(len(pushed), -1)).norm(dim=1)
        return float((away / basis.s.flatten()).max())
    _, s, vt = torch.linalg.svd(dense_jacobian(f, x), full_matrices=False)
    values = float(((basis.s.flatten() - s[:_K]) / s[:_K]).abs().max())
    outside = 1 - torch.linalg.svdvals(basis.v.reshape(_K, -1) @ vt[:_K].T).min()
    return max(values, float(outside))


def edits(model: latentjac.Model, point: latentjac.Point) -> str:
    """Methods that begin at the picture of the point and change it; those that fail with the reason."""
    basis = latentjac.local_basis(model, point, 2, tol=1e-3)
    start = latentjac.sample(model, point, output_type="latent")
    failed = {}
    for method in METHODS:
        name = type(method).__name__
        directions = basis.u if method.in_features else basis.v
        try:
            edit = latentjac.edit(model, point, directions[0], [0.0, 1.0], method=method)
        except Exception as error:  # a row says what is wrong, and the others go on
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        if relative(edit.samples[0, :1], start) > 1e-6 or relative(edit.samples[0, 1], edit.samples[0, 0]) < 1e-6:
            failed[name] = "it does not begin at the picture of the point, or does not change it"
    return "; ".join(f"{name} fails: {why}" for name, why in failed.items()) or f"all {len(METHODS)}"


def slow(model: latentjac.Model, point: latentjac.Point, layer: str) -> set[str]:
    """Operators that torch.func computes, for want of a rule; all of them where nothing could be traced."""
    lin = model.linearization(layer, point.sample, torch.tensor(point.timestep), point.conditioning)
    return set(fallbacks(lin)) if lin.backend == "program" else {"all"}
