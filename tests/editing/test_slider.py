"""Sliders: a value changes every picture by the stated amount, and files, carrying and refusals."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from editing.known import kind, linear, pixelwise, point_for, sigma_at, unit
from networks import build_scheduler, build_tiny_unet, point_at, rand, randomize

import latentjac
from latentjac import Slider
from latentjac.editing import AsIs, Geodesic, Guidance, HSpace, Linear, Mask, Method, Transported
from latentjac.editing.calibration import Curve
from latentjac.files import FileError

METHODS = (Guidance(num_steps=2), Linear(num_steps=2), Geodesic(num_steps=1, k=2), HSpace())


@pytest.fixture(scope="module")
def model() -> latentjac.Model:
    """Far from linear, and its pictures are of usual brightness."""
    return latentjac.load(randomize(build_tiny_unet(size=8)).double(), build_scheduler())


@pytest.fixture(scope="module")
def points(model: latentjac.Model) -> list[latentjac.Point]:
    return point_at(0.7 * rand(3, *model.sample_shape), steps=4, timestep=499).split()


@pytest.fixture(scope="module")
def basis(model: latentjac.Model, points: list[latentjac.Point]) -> latentjac.LocalBasis:
    return latentjac.local_basis(model, points[0], 4, tol=1e-4)


@pytest.fixture(scope="module")
def slider(model: latentjac.Model, points: list[latentjac.Point], basis: latentjac.LocalBasis) -> Slider:
    options: dict[str, Any] = {"change": 0.02, "method": Linear(), "others": basis}
    return Slider.make(model, points[0], basis.v[0], carry=Transported(k=4), **options)


def rms(model: latentjac.Model, samples: torch.Tensor, point: latentjac.Point) -> torch.Tensor:
    """RMS change of decoded pictures against the one without an edit."""
    plain = latentjac.sample(model, point, output_type="pt")
    return (model.codec.decode(samples) - plain).double().square().flatten(1).mean(1).sqrt()


@pytest.mark.parametrize("method", METHODS, ids=kind)
def test_a_value_changes_every_picture_by_the_stated_amount(model, points, basis, method: Method) -> None:
    direction = basis.u[0] if method.in_features else basis.v[0]
    made = Slider.make(model, points[0], direction, change=0.02, method=method, tolerance=0.03)
    assert made.changes == pytest.approx([0.02, 0.01, 0.01, 0.02], abs=0.03 * 0.02)
    for point, applied in zip(points, made.apply(model, points, [-1.0, 0.25, 1.0]), strict=True):
        assert applied.calibrated == (True, True, True)
        measured = rms(model, applied.edit.samples[0], point)
        torch.testing.assert_close(measured, applied.changes, rtol=1e-9, atol=1e-12)
        assert measured.tolist() == pytest.approx([0.02, 0.005, 0.02], abs=0.03 * 0.02)
        assert len(applied.images) == 3


def test_the_walk_of_the_calibration_is_there(model, points, slider: Slider, tmp_path) -> None:
    assert slider.edit is not None
    assert slider.edit.distances == slider.distances
    measured = rms(model, slider.edit.samples[0], points[0])
    torch.testing.assert_close(measured.tolist(), list(slider.changes), rtol=1e-9, atol=1e-12)
    assert latentjac.Slider.load(slider.save(tmp_path / "slider.safetensors")).edit is None
    photo = rand(3, 8, 8, seed=5).sigmoid()
    made = Slider.make(model, points[0], slider.direction, change=0.02, method=Linear(), photo=photo)
    again = latentjac.edit(model, points[0], slider.direction, list(made.distances), method=Linear(), photo=photo)
    assert [a.tobytes() for a in made.edit.images] == [b.tobytes() for b in again.images]
    middle = made.picture.crop((16, 0, 24, 8))  # at value 0
    assert np.abs(np.asarray(middle) / 255 - photo.permute(1, 2, 0).numpy()).max() < 0.01


def test_a_linear_network_needs_the_distance_of_the_formula() -> None:
    """Of a linear denoiser the change is proportional to the distance, and the range of linearity is what is probed."""
    model = linear()
    point, v = replace(point_for(model), sample=0.001 * point_for(model).sample), unit(3, 6, 6)
    slope = float(rms(model, latentjac.edit(model, point, v, 0.01, method=Linear()).samples[0], point)) / 0.01
    made = Slider.make(model, point, v, change=0.03, method=Linear(), tolerance=1e-3)
    assert made.distances == pytest.approx([value * 0.03 / slope for value in made.values], rel=2e-3)
    assert made.radius == 2.0
    assert made.linear == pytest.approx([-min(1, 2 * slope / 0.03), min(1, 2 * slope / 0.03)], rel=1e-2)
    assert made.cosines == pytest.approx([1, 1], abs=1e-6)


def test_the_range_ends_where_the_network_bends() -> None:
    model = pixelwise(bend=0.5)
    point = replace(point_for(model), sample=0.001 * point_for(model).sample)
    made = Slider.make(model, point, unit(3, 8, 8), change=0.03, method=Linear())
    expected = latentjac.geometry.measure_linearity(model, point, made.direction[None], sigma_at(model), 0.1)[0]
    assert made.radius == pytest.approx(expected.radius)
    assert made.linear is not None
    ends = [float(rms(model, latentjac.edit(model, point, made.direction, sign * made.radius,
                                            method=Linear()).samples[0], point)) for sign in (-1, 1)]  # fmt: skip
    assert [abs(value) for value in made.linear] == pytest.approx([min(1, end / 0.03) for end in ends], rel=0.1)


def test_walks_say_what_they_have_of_other_directions(slider: Slider) -> None:
    """A straight walk along a row of the basis goes along no other."""
    assert slider.others is not None
    assert slider.others[0] == pytest.approx([-1, 0, 0, 0], abs=1e-6)
    assert slider.others[1] == pytest.approx([1, 0, 0, 0], abs=1e-6)


def test_without_calibration_distances_are_those_of_the_slider(model, points, slider: Slider) -> None:
    applied = slider.apply(model, points[1], [-1.0, 0.0, 0.5], calibrate=False)
    assert applied.edit.distances == pytest.approx([slider.distances[0], 0.0, slider.distances[2]], rel=0.03)
    assert applied.changes[0] != pytest.approx(0.02, rel=0.02)
    assert not applied.calibrated[0]
    assert applied.changes[1] == 0


def test_transport_is_the_pull_back_of_the_features(model, points, slider: Slider) -> None:
    """Against a dense Jacobian at the origin, and a basis at the other point."""
    origin, other = points[:2]

    def answer(x: torch.Tensor) -> torch.Tensor:
        return model.feature_map("mid")(x[None], torch.tensor(origin.timestep), origin.conditioning).flatten()

    jacobian = torch.autograd.functional.jacobian(answer, origin.sample[0]).flatten(1)
    u = jacobian @ slider.direction.flatten()
    torch.testing.assert_close(slider.features.flatten(), u / u.norm(), rtol=1e-6, atol=1e-8)
    basis = latentjac.local_basis(model, other, 4, tol=1e-2)
    expected = latentjac.geometry.pull_back(slider.features[None], basis)
    applied = slider.apply(model, other, 1.0, calibrate=False)
    torch.testing.assert_close(applied.edit.directions, expected.v)
    assert applied.retained == pytest.approx(float(expected.retained))
    assert slider.apply(model, other, 1.0, calibrate=False, carry=AsIs()).retained is None


def test_values_of_each_point(model, points, slider: Slider) -> None:
    together = slider.apply(model, points[:2], [[1.0], [-0.5, 0.5]], carry=AsIs())
    assert [each.values for each in together] == [(1.0,), (-0.5, 0.5)]
    alone = slider.apply(model, points[1], [-0.5, 0.5], carry=AsIs())
    torch.testing.assert_close(together[1].edit.samples, alone.edit.samples)


def test_photos_are_inverted_as_the_own_one_was(model) -> None:
    pictures = [rand(3, 8, 8, seed=seed).sigmoid() for seed in (1, 2)]
    options: dict[str, Any] = {"num_inference_steps": 6, "t": 0.5}
    point = latentjac.invert(model, pictures[0], **options).at(0.5)
    made = Slider.make(model, point, unit(3, 8, 8), change=0.02, method=Linear())
    applied = made.apply(model, pictures, 0.5)
    expected = latentjac.invert(model, pictures, **options).at(0.5).split()
    for each, at in zip(applied, expected, strict=True):
        again = made.apply(model, at, 0.5)
        torch.testing.assert_close(each.edit.samples, again.edit.samples)
        assert each.edit.residual is not None


def test_a_mask_counts_what_is_inside(model, points) -> None:
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:5, 2:5] = True
    made = Slider.make(model, points[0], unit(3, 8, 8), change=0.02, method=Linear(), mask=Mask(inside, null_rank=2))
    applied = made.apply(model, points[1])
    plain = latentjac.sample(model, points[1], output_type="pt")[0]
    changed = (model.codec.decode(applied.edit.samples[0])[0] - plain).double()[:, inside]
    assert float(changed.square().mean().sqrt()) == pytest.approx(0.02, rel=0.02)
    assert len(made.leakage) == 4
    assert applied.edit.leakage is not None


def test_a_file_has_all_of_it(model, points, slider: Slider, tmp_path: Path) -> None:
    inside = Mask(torch.arange(64).view(8, 8) < 20, null_energy=0.5)
    masked = replace(slider, mask=inside, leakage=(1.0, float("inf"), 0.0, 2.0))
    for i, each in enumerate((slider, masked, replace(slider, method=Guidance(reestimate=2), carry=AsIs()))):
        read = Slider.load(each.save(tmp_path / f"{i}.safetensors"), model)
        assert read.edit is None
        for field in fields(Slider)[:-1]:  # the walk of the calibration is not written
            a, b = getattr(read, field.name), getattr(each, field.name)
            if isinstance(b, Mask):
                assert torch.equal(a.pixels, b.pixels)
                assert a.null_energy == b.null_energy
            elif isinstance(b, torch.Tensor):
                assert torch.equal(a, b)
                assert a.dtype == b.dtype
            else:
                assert a == b, field.name
    assert slider.picture is not None
    assert slider.picture.size == (5 * 8, 8)
    applied = Slider.load(tmp_path / "0.safetensors").apply(model, points[1])
    torch.testing.assert_close(applied.edit.samples, slider.apply(model, points[1]).edit.samples)


def test_another_model_is_refused_by_name(slider: Slider, tiny_model, tiny_point, tmp_path: Path) -> None:
    path = slider.save(tmp_path / "slider.safetensors")
    for call in (lambda: Slider.load(path, tiny_model), lambda: slider.apply(tiny_model, tiny_point)):
        with pytest.raises(ValueError, match=f"model must be '{slider.metadata['model']}'.*got '{tiny_model.name}'"):
            call()


def test_damaged_files_are_refused(slider: Slider, points, tmp_path: Path) -> None:
    path = slider.save(tmp_path / "slider.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError, match="SHA-256"):
        Slider.load(path)
    with pytest.raises(FileError, match="slider"):
        Slider.load(points[0].save(tmp_path / "point.safetensors"))


def test_what_a_direction_cannot_change_is_refused() -> None:
    """Of a network whose pictures never change."""
    model = pixelwise()
    point = replace(point_for(model), sample=1e3 * point_for(model).sample)  # decoded pictures are clipped
    with pytest.raises(ValueError, match=r"make: change must be one that the direction reaches.*at value -1"):
        Slider.make(model, point, unit(3, 8, 8), change=0.5, method=Linear())


WRONG = {
    "direction": rand(3, 8, 8),
    "change": 1e-9,
    "tolerance": 0.5,  # half of the change could be none
    "values": (-1.0, -0.5, 0.5),
    "distances": (1.0, 0.5, 0.5, 1.0),
    "changes": (-0.02, 0.01, 0.01, 0.02),
    "linear": (-1.0,),
    "radius": -1.0,
    "cosines": (1.0, 1.1),
    "leakage": (0.1, 0.1, 0.1, float("nan")),
    "others": ((1.0, 0.0), (1.0,)),
    "method": None,
    "carry": AsIs,
    "mask": torch.ones(8, 8, dtype=torch.bool),
    "features": [1.0],
    "level": 0,
    "schedule": None,
    "conditioning": None,
    "preview": torch.zeros(3),
    "metadata": {"model": "faces"},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_fields_are_refused(slider: Slider, name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^Slider: .*\b{name}\b"):
        replace(slider, **{name: WRONG[name]})


REFUSED = {
    "direction must have shape": lambda m, p, s: Slider.make(m, p, unit(3, 4, 4)),
    "change must be a number": lambda m, p, s: Slider.make(m, p, unit(3, 8, 8), change=0.0),
    "carry must be one of": lambda m, p, s: Slider.make(m, p, unit(3, 8, 8), carry=AsIs),
    "method must be": lambda m, p, s: Slider.make(m, p, unit(3, 8, 8), method=Linear),
    "others must be left out": lambda m, p, s: Slider.make(m, p, unit(3, 8, 8), method=HSpace(), others=unit(3, 8, 8)),
    "carry must be AsIs": lambda m, p, s: Slider.make(m, p, unit(2, 8, 8), method=HSpace(), carry=Transported()),
    "values must be a number": lambda m, p, s: s.apply(m, p, 1.5),
    "values must be numbers, or": lambda m, p, s: s.apply(m, [p, p], [[1.0]]),
    "point must be a Point or": lambda m, p, s: s.apply(m, []),
    "photo must be one for each": lambda m, p, s: s.apply(m, p, photo=[]),
    "carry must be one that the slider was made for": lambda m, p, s: s.apply(m, p, carry=Transported(layer="eps")),
    "model must be a latentjac.Model": lambda m, p, s: s.apply("faces", p),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_input_is_refused(model, points, slider: Slider, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        REFUSED[message](model, points[0], slider)


def test_a_curve_is_read_both_ways() -> None:
    curve = Curve([(2.0, 0.4), (1.0, 0.3)])
    assert curve.distance_for(0.15) == pytest.approx(0.5)
    assert curve.distance_for(0.35) == pytest.approx(1.5)
    assert curve.distance_for(0.5) == pytest.approx(3.0)  # as the last part goes on
    assert curve.distance_for(9.0) == pytest.approx(6.0)  # but no more than three times as far
    assert curve.change_at(1.5) == pytest.approx(0.35)
    assert curve.change_at(7.0) == 0.4
