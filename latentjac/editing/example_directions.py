"""Directions from examples: pairs of pictures, and pictures with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from latentjac.arguments import (
    FLOATING,
    check_choice,
    check_dense,
    check_kind,
    check_number,
    check_sequence,
    check_tensor,
)
from latentjac.diffusion import Point
from latentjac.editing.masks import Mask, MaskInput, marked
from latentjac.public import public

PAIRS_KINDS = ("mean", "singular")
LEAST_RIDGE, LARGEST_RIDGE = 1e-9, 1e6


@public
@torch.no_grad()
def pair_direction(
    before: Point, after: Point, *, kind: str = "mean", mask: MaskInput | Mask | None = None
) -> torch.Tensor:
    """The direction that leads from pictures to others, by their noisy samples at one noise level.

    Args:
        before: Samples of the ones, from ``invert(...).at(t)``.
        after: Those of the others, in the same order and at the same level.
        kind: Of several pairs: ``"mean"`` of their differences, or ``"singular"``, the top right singular vector of
            them all (not centred), in the sense of the mean. They are the same of one pair.
        mask: Where pictures differ on purpose: differences outside are left out. Bool ``[H, W]`` at sample size, or a
            :class:`latentjac.editing.Mask`, whose other options are for edits.

    Returns:
        Unit vector ``[C, H, W]``.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the points do not fit each other, or the pictures do not differ.

    Example:
        ``v = pair_direction(invert(model, without).at(0.6), invert(model, with_glasses).at(0.6))``
    """
    name = "pair_direction"
    for argument, point in (("before", before), ("after", after)):
        check_kind(name, argument, point, Point, "a latentjac.Point")
    kind = check_choice(name, "kind", kind, PAIRS_KINDS)
    if before.sample.shape != after.sample.shape:
        expected, got = (list(point.sample.shape) for point in (before, after))
        raise ValueError(f"{name}: after must have samples {expected} as before has, got {got}")
    if (before.timestep, before.noise) != (after.timestep, after.noise):
        raise ValueError(
            f"{name}: after must be at timestep {before.timestep} as before is, got {after.timestep} (noise "
            f"{after.noise:.4g} instead of {before.noise:.4g})"
        )
    rows = (after.sample - before.sample.to(after.sample)).double() * _factor(name, mask, after.sample)
    if not bool(rows.any()):
        raise ValueError(f"{name}: after must differ from before, got the same samples")
    flat = rows.flatten(1)
    mean = flat.mean(0)
    v = mean if kind == "mean" else torch.linalg.svd(flat, full_matrices=False).Vh[0]
    if kind == "singular" and float(v @ mean) < 0:
        v = -v
    size = v.norm()
    if not size > 1e-9 * flat.norm():
        raise ValueError(f"{name}: after must differ from before on average, got differences that cancel")
    return (v / size).view(after.sample.shape[1:]).to(after.sample.dtype)


@public
@torch.no_grad()
def label_direction(
    points: Point, labels: torch.Tensor | np.ndarray | Sequence[float], *, ridge: float = 1.0
) -> torch.Tensor:
    """The direction along which a label grows over many samples at one noise level: a linear fit.

    The weights w of ``label = <w, x> + constant`` with least ``sum of squares + lambda |w|^2``. There are mostly fewer
    samples than values in one, so it is solved in the space of the samples.

    Args:
        points: The samples, ``[n, ...]``, such as ``invert(...).at(t)`` of n pictures.
        labels: A number for each, such as 0 and 1.
        ridge: lambda in units of the mean eigenvalue of the samples' Gram matrix, from 1e-9 to 1e6. With a large
            one the direction is the difference of the means of two classes.

    Returns:
        Unit vector ``[C, H, W]``, towards larger labels.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than two samples, not a label for each, or all labels are the same.
    """
    name = "label_direction"
    check_kind(name, "points", points, Point, "a latentjac.Point")
    ridge = check_number(name, "ridge", ridge, LEAST_RIDGE, LARGEST_RIDGE, least=True, most=True)
    if len(points.sample) < 2:
        raise ValueError(f"{name}: points must hold two samples or more, got {len(points.sample)}")
    x, y = points.sample.double().flatten(1), _labels(name, labels, len(points.sample)).to(points.sample.device)
    x, y = x - x.mean(0), y - y.mean()
    if not bool(y.any()):
        raise ValueError(f"{name}: labels must differ, got one value for all of {len(y)} samples")
    y = y / y.abs().max()  # products with very small labels do not vanish
    gram = x @ x.mT
    scale = gram.diagonal().mean()
    if not scale > 0:
        raise ValueError(f"{name}: points must differ, got {len(x)} times one sample")
    w = torch.linalg.solve(gram + ridge * scale * torch.eye(len(x), dtype=gram.dtype, device=gram.device), y) @ x
    return (w / w.norm()).view(points.sample.shape[1:]).to(points.sample.dtype)


def _labels(name: str, labels: Any, count: int) -> torch.Tensor:
    """Finite numbers, one a sample, float64."""
    if isinstance(labels, torch.Tensor):
        plain = check_dense(name, "labels", labels)
        if plain.is_complex() or (plain.is_floating_point() and plain.dtype not in FLOATING):
            raise TypeError(f"{name}: labels must be real numbers of 16 bits or more, or whole ones, got {plain.dtype}")
    else:
        rows = check_sequence(name, "labels", labels, "numbers")
        entries = [float(v) if isinstance(v, (bool, np.bool_)) else check_number(name, "labels", v) for v in rows]
        plain = torch.tensor(entries, dtype=torch.float64, device="cpu")
    if plain.shape != (count,):
        raise ValueError(f"{name}: labels must be numbers [{count}], one for each of points, got {list(plain.shape)}")
    return check_tensor(name, "labels", plain.double())


def _factor(name: str, mask: Any, sample: torch.Tensor) -> torch.Tensor | float:
    """1 inside a mask and 0 outside, to be multiplied with samples."""
    if mask is None:
        return 1.0
    inside = mask.pixels if isinstance(mask, Mask) else mask
    return marked(name, "mask", inside, tuple(sample.shape[2:])).to(sample.device, torch.float64)
