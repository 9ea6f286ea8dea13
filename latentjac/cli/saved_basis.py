"""A saved basis that a photo is edited with: where it belongs, and whether it fits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import latentjac
from latentjac.cli.checks import Place, check_directions
from latentjac.cli.refusals import Refusal, refusing
from latentjac.cli.values import refusal
from latentjac.editing import Method
from latentjac.solvers.identified import other_model


def open_basis(file: Path, chosen: Sequence[int], left: dict[str, tuple[Any, Any]]) -> latentjac.LocalBasis:
    """Read a basis; raise where it is none, lacks a direction, or decides what was asked for besides.

    Args:
        file: The file.
        chosen: Indices of the directions asked for.
        left: Options that must be left at their defaults, each with what it got and the default.
    """
    with refusing(path="--basis"):
        basis = latentjac.LocalBasis.load(file)
    check_directions(chosen, basis.k, f"those of {file}")
    for option, (value, default) in left.items():
        if value != default:
            raise Refusal(f"{option} must be left at {default} with --basis, got {value}")
    return basis


def place_of_basis(basis: latentjac.LocalBasis, steps: int | None, t: float | None) -> tuple[int | None, float | None]:
    """Steps of the grid and the noise level that a saved basis belongs to; a basis that names none leaves the choice.

    Raises:
        Refusal: If others were asked for.
    """
    facts = basis.metadata
    if "num_inference_steps" not in facts:
        return steps, t
    own_steps, own_t = facts["num_inference_steps"], facts.get("t")
    if type(own_steps) is not int or own_steps < 1 or not isinstance(own_t, (int, float)) or not 0 <= own_t <= 1:
        raise Refusal(f"--basis must belong to a noise level, got steps {own_steps!r} and t {own_t!r}")
    if steps not in (None, own_steps):
        raise refusal("--steps", f"{own_steps}, those of the basis", steps)
    if t is not None and abs(t - own_t) > 0.5 / own_steps:
        raise refusal("--t", f"{own_t:g}, that of the basis", t)
    return own_steps, float(own_t)


def check_basis(model: latentjac.Model, basis: latentjac.LocalBasis, place: Place, method: Method) -> None:
    """Raise where a basis is of another model, or of another shape than what the method moves."""
    other = other_model(basis.metadata, model) if "model_identity" in basis.metadata else None
    if other is not None:
        raise Refusal(f"--basis must be one of model {model.name!r} ({model.identity()}), got one of {other}")
    directions, expected = (basis.u, place.features) if method.in_features else (basis.v, model.sample_shape)
    if tuple(directions.shape[1:]) != tuple(expected):
        where = f"for layer {place.layer!r}" if method.in_features else "of the model's samples"
        raise Refusal(f"--basis must have directions {list(expected)} {where}, got {list(directions.shape[1:])}")
