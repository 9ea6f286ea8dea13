"""What edits accept, and the messages for what they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from latentjac.arguments import check_choice, check_generator, check_int, check_left, check_number
from latentjac.diffusion import Point, Schedule
from latentjac.edit.injection import INJECTIONS
from latentjac.geometry.transport import METHODS as TRANSPORTS
from latentjac.models import Model
from latentjac.models.layers import OUTPUTS, resolve_layer

METHODS = ("guidance", "linear", "geodesic", "h-space")


@dataclass(frozen=True)
class Options:
    """The options of :func:`latentjac.edit`, as described there; ``masked`` says whether there is a mask."""

    num_steps: int = 16
    method: str = "guidance"
    prompt: str | None = None
    compose: bool = False
    masked: bool = False
    null_rank: int | None = None
    null_energy: float | None = None
    reestimate: int | None = None
    transport: str = "paper"
    k: int = 8
    tol: float = 1e-2
    layer: str = "mid"
    linearity_tolerance: float = 0.1
    inject: str = "below"
    asymmetric: bool = False
    compat: str | None = None
    gain: float | None = None
    generator: torch.Generator | None = None


@dataclass(frozen=True)
class Job:
    """An edit whose arguments were checked.

    Attributes:
        model: The model.
        point: Where, under the prompt of the walk; one sample.
        conditioning: What images are made under.
        schedule: The levels below the point.
        level: Level of the point.
        rows: Unit directions ``[q, ...]``.
        distances: Signed distances.
        options: The rest.
        progress: Show a progress bar.
    """

    model: Model
    point: Point
    conditioning: tuple[torch.Tensor, ...]
    schedule: Schedule
    level: int
    rows: torch.Tensor
    distances: tuple[float, ...]
    options: Options
    progress: bool


def check_options(options: Options) -> None:
    """Raise unless every option is of the right kind, in range, and of use where it is not left at its default."""
    for name, names in (("method", METHODS), ("inject", INJECTIONS), ("transport", TRANSPORTS)):
        check_choice("edit", name, getattr(options, name), names)
    for name in ("compose", "asymmetric"):
        if not isinstance(getattr(options, name), bool):
            raise TypeError(f"edit: {name} must be a bool, got {type(getattr(options, name)).__name__}")
    check_int("edit", "num_steps", options.num_steps, 1)
    check_int("edit", "reestimate", options.reestimate, 1, optional=True)
    check_int("edit", "null_rank", options.null_rank, 0, optional=True)
    check_number("edit", "null_energy", options.null_energy, 0, 1, optional=True)
    check_number("edit", "linearity_tolerance", options.linearity_tolerance, 0, 1)
    check_number("edit", "gain", options.gain, 0, math.inf, optional=True)
    check_generator("edit", options.generator)
    usual = Options()
    for name, where in _unheeded(options).items():
        check_left("edit", name, getattr(options, name), getattr(usual, name), where)


def _unheeded(options: Options) -> dict[str, str]:
    """The options that such an edit does not heed, and why."""
    method = options.method
    bases = method == "geodesic" or options.reestimate is not None
    projected = options.masked and method != "h-space"
    rules = {
        "num_steps": (method == "h-space", "with method='h-space'"),
        "prompt": (method == "h-space", "with method='h-space'"),
        "reestimate": (method != "guidance", "unless method='guidance'"),
        "transport": (method != "geodesic", "unless method='geodesic'"),
        "k": (not bases, "unless method='geodesic' or reestimate is given"),
        "tol": (not bases and (not projected or options.null_rank == 0), "where no basis is computed"),
        "null_rank": (not projected, "without a mask and with method='h-space'"),
        "null_energy": (not projected, "without a mask and with method='h-space'"),
        "inject": (method != "h-space", "unless method='h-space'"),
        "asymmetric": (method != "h-space", "unless method='h-space'"),
        "gain": (options.compat is None, "without compat"),
        "generator": (options.compat is None, "without compat"),
    }
    unheeded = {name: where for name, (is_unheeded, where) in rules.items() if is_unheeded}
    if options.null_rank is not None:
        unheeded.setdefault("null_energy", "with null_rank")
    return unheeded


def choose_layer(model: Model, layer: str | None, method: str) -> str:
    """The layer, or ``"mid"`` where the network has such a one, else ``"eps"``.

    Raises:
        TypeError: If layer is no name.
        ValueError: If there is no such layer, or an output is to be injected into.
    """
    if layer is None:
        layer = _default_layer(model)
    # A tap of the diagnostics with every method, the place of injection with one.
    if resolve_layer(model.network, layer) in OUTPUTS and method == "h-space":
        raise ValueError(f"edit: layer must be a module with method='h-space', got {layer!r}")
    return layer


def _default_layer(model: Model) -> str:
    try:
        resolve_layer(model.network, "mid")
    except ValueError:
        return "eps"
    return "mid"


def unit_directions(directions: Any, like: torch.Tensor) -> torch.Tensor:
    """Directions as unit rows ``[q, ...]`` with the shape, type and device of one row of ``like``."""
    if not isinstance(directions, torch.Tensor):
        raise TypeError(f"edit: directions must be a torch.Tensor, got {type(directions).__name__}")
    rows = directions[None] if directions.ndim == like.ndim - 1 else directions
    if rows.ndim != like.ndim or rows.shape[1:] != like.shape[1:] or len(rows) == 0:
        expected = ", ".join(map(str, like.shape[1:]))
        raise ValueError(
            f"edit: directions must have shape [{expected}] or [q, {expected}], got {list(directions.shape)}"
        )
    rows = rows.detach().to(like.device, like.dtype)
    if not torch.isfinite(rows).all():
        raise ValueError("edit: directions must be finite, got NaN or Inf")
    largest = rows.flatten(1).abs().amax(1)
    if (largest == 0).any():
        raise ValueError(f"edit: directions must not be zero, got zero at index {int((largest == 0).nonzero()[0])}")
    column = (-1, *[1] * (rows.ndim - 1))
    rows = rows / largest.view(column)  # first, so that squares of very small entries do not vanish
    return rows / rows.flatten(1).norm(dim=1).view(column)


def check_distances(distance: float | Sequence[float]) -> tuple[float, ...]:
    """Distances as a tuple of finite numbers."""
    given: Any = distance
    several = isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str)
    values = list(given) if several else [given]
    if not values:
        raise ValueError("edit: distance must be a number or a non-empty sequence, got an empty one")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"edit: distance must be a number or a sequence of numbers, got {type(value).__name__}")
        if not math.isfinite(value):
            raise ValueError(f"edit: distance must be finite, got {value}")
    return tuple(float(value) for value in values)


def grouped(
    rows: torch.Tensor, distances: tuple[float, ...], compose: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """What each walk follows: directions ``[w, c, ...]``, ways ``[w, c]`` and how walks are laid out in results.

    Raises:
        ValueError: If directions are to be composed and there is not one distance for each.
    """
    if compose:
        if len(distances) != len(rows):
            raise ValueError(
                f"edit: distance must hold one number for each of {len(rows)} composed directions, got {len(distances)}"
            )
        return rows[None], rows.new_tensor(distances)[None], (1, 1)
    ways = rows.new_tensor(distances).repeat(len(rows))
    return rows.repeat_interleave(len(distances), 0)[:, None], ways[:, None], (len(rows), len(distances))
