"""Where directions come from: the arms of the study of docs/factors.md, at one noisy sample of one avatar."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from avatars import BY_NAME, Factors, draw
from torch import Tensor

import latentjac
from factors.reader_training import drawings
from latentjac.diffusion import DDIM, Own, linearization_at
from latentjac.geometry import ascent_directions
from latentjac.papers import park2023
from latentjac.solvers import Subspace

# Park et al.'s code: two directions, its tolerance and its own stopping rule.
PARK2023 = {"k": park2023.K, "tol": park2023.TOL, "solver": Subspace(stop="park2023")}
TOLERANCE = 1e-2
SINGULAR, SPARSE, ROTATED = "singular vectors", "sparse directions", "rotated at random"


@dataclass(frozen=True)
class Bank:
    """What many other avatars at one timestep have in common; it serves every sample.

    Attributes:
        pictures: Principal components of the posterior means ``[k, C, H, W]``, directions of pictures.
        features: Principal components of the features of layer mid ``[k, *h]``.
        shared: Directions that the local bases have in common.
    """

    pictures: Tensor
    features: Tensor
    shared: latentjac.geometry.GlobalDirections


def bank_at(model: latentjac.Model, point: latentjac.Point, n: int, bases: int, k: int, seed: int) -> Bank:
    """Noise n drawings as training does to the timestep of a point, and look for what they have in common.

    Args:
        model: The model.
        point: Gives the timestep.
        n: Avatars of the principal components.
        bases: How many of them get a local basis.
        k: Directions of each kind.
        seed: Of drawings and noise.
    """
    clean = model.codec.encode(list(drawings(n, seed, model.codec.size[0])[1])).to(point.sample)
    power = model.scheduler.alphas_cumprod[point.timestep].double()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed), dtype=clean.dtype)
    noisy = float(power.sqrt()) * clean + float((1 - power).sqrt()) * noise
    maps = {layer: latentjac.geometry.FeatureMap.at(model, point, layer) for layer in ("mid", "x0")}
    found = [
        latentjac.local_basis(model, replace(point, sample=x[None]), k, "mid", tol=TOLERANCE) for x in noisy[:bases]
    ]
    return Bank(
        latentjac.geometry.principal_components(maps["x0"].values(noisy), k).directions,
        latentjac.geometry.principal_components(maps["mid"].values(noisy), k).directions,
        latentjac.geometry.global_directions(found),
    )


def rotated(directions: Tensor, generator: torch.Generator) -> Tensor:
    """Orthonormal directions ``[k, ...]`` turned at random inside their span, evenly over all rotations."""
    q, r = torch.linalg.qr(torch.randn(len(directions), len(directions), generator=generator, dtype=torch.float64))
    turn = (q * r.diagonal().sign()).to(directions)
    return (turn @ directions.flatten(1)).view_as(directions)


def span_arms(basis: latentjac.LocalBasis, generator: torch.Generator) -> dict[str, Tensor]:
    """Three bases of the span of a local basis: its singular vectors, the sparse directions, and a random turn."""
    return {
        SINGULAR: basis.v,
        SPARSE: latentjac.geometry.sparse_directions(basis).v,
        ROTATED: rotated(basis.v, generator),
    }


def basis_arms(mid: latentjac.LocalBasis, generator: torch.Generator) -> dict[str, Tensor]:
    """The local basis of layer mid, and the control that only its orientation sets apart from it."""
    return {"local basis, mid": mid.v, "rotated basis, mid": rotated(mid.v, generator)}


def other_arms(
    model: latentjac.Model, point: latentjac.Point, mid: latentjac.LocalBasis, bank: Bank, generator: torch.Generator
) -> dict[str, Tensor]:
    """Directions of other kinds at one point, as many as its basis of layer mid has; random ones are new everywhere."""
    k = mid.k
    mean = latentjac.local_basis(model, point, k, "x0", tol=TOLERANCE).v
    features = latentjac.geometry.FeatureMap.at(model, point, "mid")
    return {
        "local basis, x0": mean,
        "rotated basis, x0": rotated(mean, generator),
        "PCA of x0": bank.pictures,
        "PCA of h": ascent_directions(features, point.sample, bank.features),
        "shared, mid": bank.shared.at(mid).v,
        "random": torch.randn(k, *point.sample.shape[1:], generator=generator).to(point.sample),
    }


def park2023_arms(
    model: latentjac.Model, point: latentjac.Point, iterations: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The two directions of the paper's scripts by the paper's iteration, and their span turned at random."""
    lin = linearization_at(model, point, "mid")
    with warnings.catch_warnings():
        # Ending without convergence is part of the settings.
        warnings.simplefilter("ignore", UserWarning)
        v = latentjac.svd(lin, max_passes=2 * iterations, **PARK2023).v
    return {"paper": v, "rotated paper": rotated(v, generator)}


def moved_factor(factors: Factors, name: str, part: float) -> Factors:
    """Factors with a continuous one moved by a part of its range, as far as the range goes."""
    factor = BY_NAME[name]
    values = (factors[name] + part * (factor.high - factor.low)).clamp(factor.low, factor.high)
    return factors | {name: values}


def pair_directions(
    model: latentjac.Model, factors: Factors, names: list[str], part: float, t: float, num_inference_steps: int
) -> Tensor:
    """What a known factor does to the noisy sample: the positive control.

    The avatar is drawn with one factor moved down and up, and both drawings are inverted; their noisy samples differ by
    a change that only the factor has made. Neither the basis nor the reader has a part in it.

    Args:
        model: The model.
        factors: Of one avatar.
        names: Continuous factors.
        part: Way each goes down and up, as a part of its range.
        t: Where, as a fraction of T.
        num_inference_steps: Levels of the inversion.

    Returns:
        ``[len(names), C, H, W]``, half of the difference: adding it moves the factor up by the part.
    """
    ends = [moved_factor(factors, name, sign * part) for name in names for sign in (-1, 1)]
    pictures = torch.cat([draw(end, model.codec.size[0]) for end in ends])
    noisy = latentjac.invert(model, list(pictures), num_inference_steps, grid=Own(), solver=DDIM()).at(t).sample
    return (noisy[1::2] - noisy[::2]) / 2
