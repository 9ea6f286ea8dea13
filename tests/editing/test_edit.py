"""Edits by guidance: distances, signs, the reconstruction at 0, and the measured range of linearity."""

from __future__ import annotations

import pytest
import torch
from editing.known import kind, linear, pixelwise, point_for, sigma_at, unit
from networks import build_scheduler, build_shallow_unet, point_at, rand
from truth import relative

import latentjac
from latentjac.editing import Geodesic, Guidance, HSpace, Linear, Method

METHODS = (Guidance(num_steps=2), Linear(num_steps=2), Geodesic(num_steps=2), HSpace())


def direction_for(model: latentjac.Model, point: latentjac.Point, method: Method) -> torch.Tensor:
    """A direction of the local basis, in the space the method takes."""
    basis = latentjac.local_basis(model, point, 4, tol=1e-4)
    return basis.u[0] if method.in_features else basis.v[0]


@pytest.mark.parametrize("method", [Guidance(num_steps=1), Linear(num_steps=1)], ids=kind)
def test_distance_is_the_way_travelled_in_noise_deviations(tiny_model, tiny_point, method: Method) -> None:
    result = latentjac.edit(tiny_model, tiny_point, unit(3, 16, 16), distance=0.04, method=method)
    way = float((result.points[0, 0] - tiny_point.sample[0]).norm())
    assert result.num_steps == 1
    assert way == pytest.approx(0.04 * sigma_at(tiny_model), rel=1e-9)
    assert float(result.along.path[0, 0]) == pytest.approx(0.04, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS, ids=kind)
def test_weights_in_16_bits(dtype: torch.dtype, method: Method) -> None:
    """Where an edit leads is where it leads in float32, but for rounding."""
    model, point = latentjac.load(build_shallow_unet(), build_scheduler()), point_at(rand(1, 3, 8, 8).float())
    direction = direction_for(model, point, method)
    exact = latentjac.edit(model, point, direction, 1.0, method=method).samples
    model, point = (
        latentjac.load(build_shallow_unet(), build_scheduler(), dtype=dtype),
        point_at(point.sample.to(dtype)),
    )
    rounded = latentjac.edit(model, point, direction.to(dtype), 1.0, method=method).samples
    assert rounded.dtype == dtype
    assert relative(rounded, exact) < 0.05


def test_guidance_follows_the_formula() -> None:
    """For a linear network, every step is the same multiple of ``A v``."""
    model = pixelwise()
    point, v = point_for(model), unit(3, 8, 8)
    result = latentjac.edit(model, point, v, distance=2.0, method=Guidance(num_steps=4))
    image_of_v = torch.einsum("ij,jhw->ihw", model.network.head.mix, v)
    expected = point.sample[0] + 2.0 * sigma_at(model) * image_of_v / image_of_v.norm()
    torch.testing.assert_close(result.points[0, 0], expected)
    assert result.gains.shape == (4, 1, 1)


@pytest.mark.parametrize("method", METHODS, ids=kind)
def test_signs_walk_opposite_ways(method: Method) -> None:
    """Exactly opposite for a linear network, all the way down to the image."""
    model = linear()
    point = point_for(model)
    v = direction_for(model, point, method)
    result = latentjac.edit(model, point, v, distance=[-2.0, 0.0, 2.0], method=method)
    back, here, forth = result.samples[0]
    torch.testing.assert_close(here - back, forth - here)
    assert (forth - here).norm() > 1e-2


@pytest.mark.parametrize("method", METHODS, ids=kind)
def test_zero_is_the_reconstruction(tiny_model, tiny_point, method: Method) -> None:
    v = direction_for(tiny_model, tiny_point, method)
    result = latentjac.edit(tiny_model, tiny_point, v, distance=[0.0, 1.0], method=method)
    expected = latentjac.sample(tiny_model, tiny_point, output_type="latent")
    torch.testing.assert_close(result.samples[0, 0], expected[0])
    assert torch.equal(result.points[0, 0], tiny_point.sample[0])
    assert (result.samples[0, 1] - expected[0]).abs().max() > 1e-3
    assert result.method == method
    assert (float(result.along.path[0, 0]), float(result.along.feature_path[0, 0])) == (0.0, 0.0)


def test_many_directions_at_once_are_each_alone(tiny_model, tiny_point) -> None:
    v = rand(3, 3, 16, 16)
    together = latentjac.edit(tiny_model, tiny_point, v, distance=[-1.0, 2.0], method=Guidance(num_steps=20))
    assert len(together.images) == 6
    assert together.image(1, 1) is together.images[3]
    same_steps = Guidance(num_steps=together.num_steps)
    alone = latentjac.edit(tiny_model, tiny_point, v[1], distance=2.0, method=same_steps)
    torch.testing.assert_close(together.samples[1, 1], alone.samples[0, 0])
    for name in ("path", "feature_path"):
        torch.testing.assert_close(getattr(together.along, name)[1, 1], getattr(alone.along, name)[0, 0])
    torch.testing.assert_close(together.gains[:, 1, 1], alone.gains[:, 0, 0])


def test_length_of_a_direction_does_not_matter(tiny_model, tiny_point) -> None:
    v = rand(3, 16, 16)
    short, long = (latentjac.edit(tiny_model, tiny_point, f * v, distance=1.0) for f in (1e-3, 50.0))
    torch.testing.assert_close(short.samples, long.samples)


def test_steps_never_leave_the_linear_range() -> None:
    model = pixelwise(3.0)
    method = Guidance(num_steps=1)
    result = latentjac.edit(model, point_for(model), unit(3, 8, 8), distance=3.0, method=method)
    radius = min(entry.radius for entry in result.linearity)
    assert 3.0 / result.num_steps <= method.longest_step(radius) < 3.0


def test_directions_the_network_does_not_hear_are_refused() -> None:
    model = pixelwise()
    with torch.no_grad():
        model.network.head.mix.zero_()
    with pytest.raises(ValueError, match="no response to direction 0"):
        latentjac.edit(model, point_for(model), unit(3, 8, 8), distance=1.0)


def test_tiny_directions_are_directions(own_model, tiny_point) -> None:
    single = own_model.to(dtype=torch.float32)
    at = point_at(tiny_point.sample.float())
    v = rand(3, 16, 16).float()
    method = Guidance(num_steps=4)
    plain, tiny = (latentjac.edit(single, at, f * v, distance=1.0, method=method) for f in (1.0, 1e-30))
    torch.testing.assert_close(plain.samples, tiny.samples, rtol=1e-3, atol=1e-3)


def test_progress_counts_steps(tiny_model, tiny_point, capsys) -> None:
    result = latentjac.edit(tiny_model, tiny_point, unit(3, 16, 16), 0.5, method=Linear(num_steps=3), progress=True)
    assert result.num_steps == 3
    assert "9/9" in capsys.readouterr().err  # 3 steps of the walk and the 6 levels below the point
