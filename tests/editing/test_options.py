"""A method has exactly its own options: others cannot be written, and each is checked where the object is made."""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
import torch
from editing.known import kind, linear, point_for, unit

import latentjac
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Mask, Reestimation
from latentjac.papers.park2023 import Walk

MASK = torch.eye(6, dtype=torch.bool)
SHARED = {"num_steps": 3, "prompt": "a", "class_label": 3, "layer": "head", "linearity_tolerance": 0.2}
SHARED["diagnostics"] = False
# A value of each option that is not its default.
OPTIONS: dict[type, dict[str, Any]] = {
    Guidance: {**SHARED, "reestimate": Reestimation(2)},
    Linear: SHARED,
    Geodesic: {**SHARED, "transport": "pseudoinverse", "k": 4, "tol": 1e-3},
    HSpace: {"layer": "head", "inject": "point", "asymmetric": True, "linearity_tolerance": 0.2, "diagnostics": False},
    Walk: {**SHARED, "gain": 2.0, "generator": torch.Generator()},
    Reestimation: {"every": 2, "k": 4, "tol": 1e-3},
}
EVERY = {name: value for options in OPTIONS.values() for name, value in options.items()}
WRONG: dict[str, list[Any]] = {
    "num_steps": [0, 1001, 2.5, True],
    "prompt": [1, "a\0"],
    "class_label": [-1, 1.5, True, "3"],
    "layer": [1, b"mid"],
    "linearity_tolerance": [0, 1.0, "0.1", float("nan")],
    "reestimate": [0, 1001, 1.5, True, {"every": 2}],
    "transport": ["ray", None],
    "k": [0, 2.0],
    "tol": [0.0, 1, None],
    "inject": ["up", None],
    "asymmetric": [1, None],
    "diagnostics": [0, None],
    "gain": [0, 1e6, "2"],
    "generator": [0],
    "every": [0, 1001, None],
}


def name_of(given: object) -> str:
    return getattr(given, "__name__", str(given))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("method", OPTIONS, ids=name_of)
def test_an_option_is_taken_or_cannot_be_written(method: type, name: str) -> None:
    needed = {"every": 3} if method is Reestimation else {}
    if name not in OPTIONS[method]:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            method(**needed, **{name: EVERY[name]})
        return
    value = OPTIONS[method][name]
    made = method(**{**needed, name: value})
    assert getattr(made, name) == value
    default = next(field.default for field in fields(method) if field.name == name)
    assert default is MISSING or default != value


def test_every_option_is_known_here() -> None:
    for method, options in OPTIONS.items():
        assert {field.name for field in fields(method)} == set(options)


@pytest.mark.parametrize("method", OPTIONS, ids=name_of)
def test_what_is_wrong_is_named_when_it_is_written(method: type) -> None:
    for name in OPTIONS[method]:
        for value in WRONG[name]:
            with pytest.raises((TypeError, ValueError), match=f"^{method.__name__}: {name} must be .*got "):
                method(**{"every": 1, name: value} if method is Reestimation else {name: value})


def test_values_are_kept_in_their_plain_form() -> None:
    made = Geodesic(num_steps=np.int64(3), tol=np.float32(0.5), transport=np.str_("park2023"))
    assert [type(value) for value in (made.num_steps, made.tol, made.transport)] == [int, float, str]
    assert Guidance(reestimate=np.int64(4)) == Guidance(reestimate=Reestimation(4))
    with pytest.raises(FrozenInstanceError):
        made.num_steps = 4


@pytest.mark.parametrize("layer", ["eps", "x0"])
def test_nothing_is_added_to_an_output(layer: str) -> None:
    with pytest.raises(ValueError, match=f"^HSpace: layer must be a module, .*got '{layer}'"):
        HSpace(layer=layer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"null_rank": 2, "null_energy": 0.5}, "null_rank and null_energy must not both be given, got 2 and 0.5"),
        ({"null_rank": 2.0}, "null_rank must be an int or None, got float"),
        ({"null_rank": -1}, "null_rank must be at least 0, got -1"),
        ({"null_energy": 1}, "null_energy must be a number in"),
        ({"tol": 1}, "tol must be a number in"),
        ({"null_rank": 0, "tol": 0.1}, "tol must be left at 0.01 with null_rank=0"),
        ({"inside": MASK.int()}, r"inside must be bool \[H, W\], got torch.int32 \[6, 6\]"),
        ({"inside": MASK[0, 0]}, r"inside must be bool \[H, W\], got torch.bool \[\]"),
        ({"inside": ~MASK & MASK}, "inside must mark a part of the picture, got none of it"),
        ({"inside": "mask.png"}, "inside must be a bool tensor, bool array or PIL image, got str"),
    ],
)
def test_a_mask_is_checked_when_it_is_made(options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^Mask: {message}"):
        Mask(**{"inside": MASK, **options})


def test_a_mask_has_a_rank_or_an_energy() -> None:
    assert (Mask(MASK).rank, Mask(MASK, null_rank=0).rank, Mask(MASK, null_energy=0.5).rank) == (5, 0, None)


@pytest.mark.parametrize("options", [{"null_rank": 5}, {"null_energy": 0.5}, {"tol": 0.5}])
def test_a_mask_that_only_measures_has_no_options(options: dict[str, Any]) -> None:
    model = linear()
    with pytest.raises(ValueError, match=r"^edit: mask must be without options with method=HSpace\(...\), got Mask"):
        latentjac.edit(model, point_for(model), unit(3, 6, 6), 0.1, method=HSpace(), mask=Mask(MASK, **options))


@pytest.mark.parametrize("method", ["guidance", Guidance, None, 3, Mask(MASK)], ids=str)
def test_a_method_is_an_object(method: Any) -> None:
    model = linear()
    with pytest.raises(TypeError, match=r"^edit: method must be a method of latentjac\.editing such as Guidance"):
        latentjac.edit(model, point_for(model), unit(3, 6, 6), 0.1, method=method)


@pytest.mark.parametrize("method", [Geodesic(k=109), Guidance(reestimate=Reestimation(1, k=109))], ids=kind)
def test_bases_have_no_more_directions_than_a_sample_has_values(method: Any) -> None:
    model = linear()
    with pytest.raises(ValueError, match=r"^edit: method\.(reestimate\.)?k must be at most 108, got 109"):
        latentjac.edit(model, point_for(model), unit(3, 6, 6), 0.1, method=method)


def test_results_show_shapes_and_the_method() -> None:
    model = linear()
    made = repr(latentjac.edit(model, point_for(model), unit(3, 6, 6), [0.1, 0.2], method=Linear(num_steps=2)))
    assert "samples=[1, 2, 3, 6, 6]" in made
    assert "Linear(num_steps=2" in made
    assert "tensor(" not in made
