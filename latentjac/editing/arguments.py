"""What edits accept, and the messages for what they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from latentjac.arguments import (
    check_bool,
    check_choice,
    check_generator,
    check_int,
    check_left,
    check_number,
    check_sequence,
    check_tensor,
    check_text,
)
from latentjac.diffusion import Point, Schedule
from latentjac.editing.injection import INJECTIONS
from latentjac.geometry.transport import METHODS as TRANSPORTS
from latentjac.models import Conditioning, Model
from latentjac.models.layers import OUTPUTS

MOST_STEPS = 1000  # of a walk
FARTHEST = 1e4  # standard deviations
LARGEST_GAIN = 1e6
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
    conditioning: Conditioning
    schedule: Schedule
    level: int
    rows: torch.Tensor
    distances: tuple[float, ...]
    options: Options
    progress: bool


def check_options(options: Options) -> Options:
    """The options in their plain form, if each is of the right kind, in range, and of use or left at its default."""
    name = "edit"
    names = {"method": METHODS, "inject": INJECTIONS, "transport": TRANSPORTS}
    plain: dict[str, Any] = {
        **{option: check_choice(name, option, getattr(options, option), names[option]) for option in names},
        **{option: check_bool(name, option, getattr(options, option)) for option in ("compose", "asymmetric")},
        "num_steps": check_int(name, "num_steps", options.num_steps, 1, MOST_STEPS),
        "prompt": check_text(name, "prompt", options.prompt, optional=True),
        "reestimate": check_int(name, "reestimate", options.reestimate, 1, optional=True),
        "null_rank": check_int(name, "null_rank", options.null_rank, 0, optional=True),
        "null_energy": check_number(name, "null_energy", options.null_energy, 0, 1, optional=True),
        "k": check_int(name, "k", options.k, 1),
        "tol": check_number(name, "tol", options.tol, 0, 1),
        "linearity_tolerance": check_number(name, "linearity_tolerance", options.linearity_tolerance, 0, 1),
        "gain": check_number(name, "gain", options.gain, 0, LARGEST_GAIN, optional=True),
    }
    check_generator(name, options.generator)
    options = replace(options, **plain)
    usual = Options()
    for option, where in _unused(options).items():
        check_left("edit", option, getattr(options, option), getattr(usual, option), where)
    return options


def _unused(options: Options) -> dict[str, str]:
    """The options that such an edit has no use for, and why."""
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
    unused = {name: where for name, (is_unused, where) in rules.items() if is_unused}
    if options.null_rank is not None:
        unused.setdefault("null_energy", "with null_rank")
    return unused


def choose_layer(model: Model, layer: str | None, method: str) -> str:
    """The layer, or ``"mid"`` where the network has such a one, else ``"eps"``.

    Raises:
        TypeError: If layer is no name.
        ValueError: If there is no such layer, or an output is to be injected into.
    """
    if layer is None:
        layer = _default_layer(model)
    # A tap of the diagnostics with every method, the place of injection with one.
    if model.resolve_layer(layer) in OUTPUTS and method == "h-space":
        raise ValueError(f"edit: layer must be a module with method='h-space', got {layer!r}")
    return layer


def _default_layer(model: Model) -> str:
    try:
        model.resolve_layer("mid")
    except ValueError:
        return "eps"
    return "mid"


def unit_directions(directions: Any, like: torch.Tensor) -> torch.Tensor:
    """Directions as unit rows ``[q, ...]`` with the shape, type and device of one row of ``like``."""
    directions = check_tensor("edit", "directions", directions)
    rows = directions[None] if directions.ndim == like.ndim - 1 else directions
    if rows.ndim != like.ndim or rows.shape[1:] != like.shape[1:] or len(rows) == 0:
        expected = ", ".join(map(str, like.shape[1:]))
        raise ValueError(
            f"edit: directions must have shape [{expected}] or [q, {expected}], got {list(directions.shape)}"
        )
    largest = rows.flatten(1).abs().amax(1)
    if (largest == 0).any():
        raise ValueError(f"edit: directions must not be zero, got zero at index {int((largest == 0).nonzero()[0])}")
    column = (-1, *[1] * (rows.ndim - 1))
    # First, so that squares of very small entries do not vanish, nor large ones in a shorter type.
    rows = (rows / largest.view(column)).to(like.device, like.dtype)
    return rows / rows.flatten(1).norm(dim=1).view(column)


def check_distances(distance: float | Sequence[float]) -> tuple[float, ...]:
    """Distances as a tuple of finite numbers."""
    several = isinstance(distance, (Sequence, np.ndarray)) and not isinstance(distance, (str, bytes))
    values = check_sequence("edit", "distance", distance, "numbers") if several else [distance]
    return tuple(check_number("edit", "distance", value, -FARTHEST, FARTHEST) for value in values)


def check_composed(rows: torch.Tensor, distances: tuple[float, ...], compose: bool) -> None:
    """Raise if directions are to be composed and there is not one distance for each."""
    if compose and len(distances) != len(rows):
        raise ValueError(
            f"edit: distance must hold one number for each of {len(rows)} directions with compose=True, "
            f"got {len(distances)}"
        )


def grouped(
    rows: torch.Tensor, distances: tuple[float, ...], compose: bool
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """What each walk follows: directions ``[w, c, ...]``, ways ``[w, c]`` and how walks are laid out in results."""
    if compose:
        return rows[None], rows.new_tensor(distances)[None], (1, 1)
    ways = rows.new_tensor(distances).repeat(len(rows))
    return rows.repeat_interleave(len(distances), 0)[:, None], ways[:, None], (len(rows), len(distances))
