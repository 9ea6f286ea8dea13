"""Masks: which part of a picture an edit is meant for, and the directions that such a part listens to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from latentjac.arguments import (
    check_choice,
    check_dense,
    check_int,
    check_kind,
    check_left,
    check_number,
    shown,
)
from latentjac.diffusion import Point, linearization_at, place
from latentjac.edit_options import NULL_RANK, TOL
from latentjac.editing.arguments import one_each, set_checked
from latentjac.geometry.local_basis import place_of
from latentjac.models import Model
from latentjac.models.prepare import inside_of, read_mask
from latentjac.public import public
from latentjac.shaped import Shaped
from latentjac.solvers import LocalBasis, SolverState, svd
from latentjac.solvers.arguments import check_run, check_warm_start
from latentjac.solvers.building import calling
from latentjac.solvers.orthonormal import complete

MaskInput = torch.Tensor | np.ndarray | Image.Image
OUTPUT_LAYERS = ("x0", "eps")


@dataclass(frozen=True, eq=False, repr=False)
class Mask(Shaped):
    """Where an edit is meant to be, and how much of what the rest listens to is taken out of its steps.

    Attributes:
        inside: Bool tensor or array ``[H, W]`` at sample size, or a PIL image of that size (bright is inside); kept as
            a tensor. For videos it may be ``[F, H, W]``, else it is that of each frame; for other samples it has their
            shape without the channels, as ``[L]`` of sound.
        null_rank: How many directions, that the posterior mean outside listens to most, no step takes: 5 by default,
            unless ``null_energy`` is given; 0 takes nothing out and only measures ``leakage``. See
            :func:`latentjac.editing.null_space`.
        null_energy: Instead: the part of the energy of the Jacobian outside that they carry, in (0, 1).
        tol: Largest relative residual of those directions, in (0, 1).

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, the mask marks nothing or everything, or both a rank and an energy
            are given.
    """

    inside: MaskInput
    null_rank: int | None = field(default=None, kw_only=True)
    null_energy: float | None = field(default=None, kw_only=True)
    tol: float = field(default=TOL, kw_only=True)

    def __post_init__(self) -> None:
        rank = check_int("Mask", "null_rank", self.null_rank, 0, optional=True)
        energy = check_number("Mask", "null_energy", self.null_energy, 0, 1, optional=True)
        if rank is not None and energy is not None:
            raise ValueError(f"Mask: null_rank and null_energy must not both be given, got {rank} and {energy:g}")
        set_checked(
            self,
            inside=marked("Mask", "inside", self.inside).clone(),  # nobody else changes it
            null_rank=rank,
            null_energy=energy,
            tol=check_number("Mask", "tol", self.tol, 0, 1),
        )
        if rank == 0:
            check_left("Mask", "tol", self.tol, TOL, "with null_rank=0, which takes nothing out")

    @property
    def pixels(self) -> torch.Tensor:
        """What is inside, bool ``[H, W]``, or of the shape of other samples without their channels."""
        assert isinstance(self.inside, torch.Tensor)
        return self.inside

    @property
    def rank(self) -> int | None:
        """How many directions no step takes; None where their energy says."""
        return NULL_RANK if self.null_rank is None and self.null_energy is None else self.null_rank

    @property
    def has_options(self) -> bool:
        """Whether it says more than where the edit is meant to be."""
        return any(getattr(self, f.name) != f.default for f in fields(self) if f.name != "inside")


def as_mask(name: str, mask: Any, model: Model) -> torch.Tensor:
    """A mask as a bool tensor ``[H, W]`` at sample size, on the model's device; ``[F, H, W]`` for videos.

    Args:
        name: The function whose argument it is, for messages.
        mask: Bool tensor or array ``[H, W]``, or a picture of W x H pixels, where brighter than half is inside; for
            videos also ``[F, H, W]``. For other samples of their shape without channels.
        model: The model.

    Raises:
        TypeError: If mask is none of these.
        ValueError: If it has another size, or marks nothing or everything.
    """
    return marked(name, "mask", mask, model.sample_shape[1:]).to(model.device)


def mask_for(name: str, mask: Any, model: Model) -> Mask | None:
    """The mask of an edit, plain or with options, on the model's device; None for None."""
    if mask is None:
        return None
    inside = as_mask(name, mask.inside if isinstance(mask, Mask) else mask, model)
    mask = mask if isinstance(mask, Mask) else Mask(inside)
    check_rank(name, "mask.null_rank", mask.rank, ~inside, model)
    return replace(mask, inside=inside)


def marked(name: str, argument: str, mask: Any, size: tuple[int, ...] | None = None) -> torch.Tensor:
    """A mask in any of its forms as a bool tensor ``[H, W]``; of a size, if there is one: of videos for each frame."""
    if isinstance(mask, Image.Image):
        mask = inside_of(read_mask(mask, f"{name}: {argument}").image)
    check_kind(name, argument, mask, (torch.Tensor, np.ndarray), "a bool tensor, bool array or PIL image")
    mask = check_dense(name, argument, mask) if isinstance(mask, torch.Tensor) else mask
    sizes = () if size is None else (size,) if len(size) < 3 else (size, size[1:])
    fits = mask.ndim > 0 if size is None else tuple(mask.shape) in sizes
    if mask.dtype not in (torch.bool, np.dtype(bool)) or not fits:
        expected = "[H, W]" if size is None else " or ".join(str(list(one)) for one in sizes)
        raise ValueError(f"{name}: {argument} must be bool {expected}, got {mask.dtype} {list(mask.shape)}")
    if isinstance(mask, np.ndarray):
        mask = torch.from_numpy(mask.copy())  # of any layout, and nobody else's memory
    if mask.all() or not mask.any():
        part = "all" if mask.all() else "none"
        raise ValueError(f"{name}: {argument} must mark a part of the picture, got {part} of it")
    return mask if size is None else mask.expand(size)


@public
def masked_basis(
    model: Model,
    point: Point,
    mask: MaskInput | Sequence[MaskInput],
    k: int = 8,
    *,
    layer: str = "x0",
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
    warm_start: LocalBasis | torch.Tensor | None = None,
    callback: Callable[[SolverState], Any] | None = None,
    progress: bool = False,
) -> LocalBasis:
    """Directions at a point that change a part of the predicted picture the most.

    The top right singular vectors of ``J = d x0_hat[M] / dx``, the Jacobian of the posterior mean inside the
    mask M (Chen et al. 2024, section 3). What they do outside is removed by :func:`null_space` and the
    ``mask`` of :func:`latentjac.edit`.

    Args:
        model: The model.
        point: Where, from ``invert(...).at(t)``; several samples are decomposed side by side.
        mask: Bool tensor or array ``[H, W]`` at sample size, or a PIL image of that size (bright is inside); or a list
            with one for each sample.
        k: Number of directions.
        layer: Which output is masked, ``"x0"`` (posterior mean) or ``"eps"``.
        tol: Largest relative residual.
        generator: Source of the solver's start block.
        warm_start: Basis or directions of a nearby point, or of a nearby mask.
        callback: Called with the solver's state after each expansion; returning True stops.
        progress: Show a progress bar.

    Returns:
        The basis; ``u`` has the shape of a sample and is zero outside the mask. The best so far after Ctrl-C, as from
        :func:`latentjac.svd`.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range or does not fit the model.
    """
    place("masked_basis", model, point)
    layer = check_choice("masked_basis", "layer", layer, OUTPUT_LAYERS)
    given = one_each("masked_basis", "mask", mask, len(point.sample), "samples")
    insides = [as_mask("masked_basis", each, model) for each in given]
    k = check_int("masked_basis", "k", k, 1)
    for inside in insides:
        check_rank("masked_basis", "k", k, inside, model)
    tol = check_number("masked_basis", "tol", tol, 0, 1)
    check_run("masked_basis", generator, callback, progress, False)
    warm_start = check_warm_start("masked_basis", warm_start, point.sample)
    factor = torch.stack(insides).to(point.sample.dtype)[:, None]
    lin = linearization_at(model, point, layer, mask=factor)
    with calling("masked_basis"):
        basis = svd(lin, k, tol, generator=generator, warm_start=warm_start, callback=callback, progress=progress)
    _keep_inside(basis, insides, generator or torch.Generator().manual_seed(0))
    pixels = [int(inside.sum()) for inside in insides]
    marked = pixels if len(pixels) > 1 else pixels[0]
    basis.metadata.update(place_of(model, point, layer), mask_pixels=marked, backend=lin.backend)
    return basis


def _keep_inside(basis: LocalBasis, insides: Sequence[torch.Tensor], generator: torch.Generator) -> None:
    """Null vectors of features inside the mask of each point, for those of features anywhere; in place."""
    s, u = (basis.s, basis.u) if basis.points > 1 else (basis.s[None], basis.u[None])
    for values, rows, inside in zip(s, u, insides, strict=True):
        null = values == 0
        if bool(null.any()):
            known = rows[:, :, inside].flatten(1) * ~null[:, None]
            rows[:, :, inside] = complete(known[None], basis.k, generator)[0].reshape(rows[:, :, inside].shape)
            rows[:, :, ~inside] = 0


def check_rank(name: str, argument: str, rank: int | None, part: torch.Tensor, model: Model) -> None:
    """Raise if a part of the picture, bool ``[H, W]``, has fewer values than directions are asked for."""
    limit = model.sample_shape[0] * int(part.sum())
    if rank is not None and rank > limit:
        inside = "inside" if argument == "k" else "outside"
        raise ValueError(f"{name}: {argument} must be at most the {limit} values {inside} the mask, got {shown(rank)}")
