"""An option that an edit does not heed is refused, and every other one is taken."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
import torch
from editing.known import linear, point_for, unit

import latentjac
from latentjac.editing.arguments import METHODS, Options

MASK = torch.eye(6, dtype=torch.bool)
# A value of each option that some edit has no use for, and what such an edit has to be for the option to be heeded.
VALUES = {
    "num_steps": 3,
    "null_rank": 2,
    "null_energy": 0.1,
    "reestimate": 2,
    "transport": "pseudoinverse",
    "k": 4,
    "tol": 1e-3,
    "inject": "point",
    "asymmetric": True,
    "gain": 2.0,
    "generator": torch.Generator(),
}
HEEDED = {
    "guidance": {"num_steps", "reestimate"},
    "guidance, looked up": {"num_steps", "reestimate", "k", "tol"},
    "guidance, masked": {"num_steps", "reestimate", "tol", "null_rank", "null_energy"},
    "linear": {"num_steps"},
    "linear, masked": {"num_steps", "tol", "null_rank", "null_energy"},
    "linear, masked, measured": {"num_steps", "null_rank"},
    "geodesic": {"num_steps", "transport", "k", "tol"},
    "geodesic, masked": {"num_steps", "transport", "k", "tol", "null_rank", "null_energy"},
    "h-space": {"inject", "asymmetric"},
    "h-space, masked": {"inject", "asymmetric"},
}
MODES = {"masked": {"mask": MASK}, "looked up": {"reestimate": 1}, "measured": {"null_rank": 0}}


@pytest.mark.parametrize("option", VALUES)
@pytest.mark.parametrize("kind", HEEDED)
def test_it_is_refused_or_taken(kind: str, option: str) -> None:
    method, *modes = kind.split(", ")
    model = linear()
    options = {"k": 3, "tol": 0.1} if method == "geodesic" or "looked up" in modes else {}
    for mode in modes:
        options |= MODES[mode]
    given = {"method": method, **options, option: VALUES[option]}
    if option in HEEDED[kind]:
        latentjac.edit(model, point_for(model), unit(3, 6, 6), 0.1, **given)
        return
    with pytest.raises(ValueError, match=f"edit: {option} must be left at .*, got "):
        latentjac.edit(model, point_for(model), unit(3, 6, 6), 0.1, **given)


def test_every_option_is_known_here() -> None:
    """With the same default in both places; what is not in the table above is heeded by every edit."""
    parameters = inspect.signature(latentjac.edit).parameters
    # The prompt is refused with h-space: tests/models/test_text.py.
    always = {"method", "prompt", "compose", "layer", "linearity_tolerance", "compat"}
    assert {field.name for field in fields(Options)} == set(VALUES) | always | {"masked"}
    for field in fields(Options):
        if field.name not in ("masked", "layer"):
            assert parameters[field.name].default == field.default
    rest = {"model", "point", "directions", "distance", "mask", "progress"}
    assert set(parameters) == set(VALUES) | always | rest
    assert {kind.split(",")[0] for kind in HEEDED} == set(METHODS)
