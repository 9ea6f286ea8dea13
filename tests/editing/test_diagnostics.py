"""What is measured along a walk, against closed forms."""

from __future__ import annotations

import pytest
import torch
from editing.known import Mix, Network, convolution, linear, model_of, point_for, sigma_at, unit

import latentjac
from latentjac.editing import Guidance, HSpace, Linear
from latentjac.geometry.linearity import LENGTHS, compare


def test_lengths_in_a_linear_network() -> None:
    model = linear()
    v = unit(3, 6, 6)
    result = latentjac.edit(model, point_for(model), v, [-2.0, 3.0], method=Linear(num_steps=4))
    image = float(model.network.mid(v[None]).norm())
    distances = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(result.along.path, distances)
    torch.testing.assert_close(result.along.feature_path, distances * sigma_at(model) * image)
    torch.testing.assert_close(result.along.norm_ratio, torch.ones(2, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(result.along.cosine, torch.ones(2, 1, 2, dtype=torch.float64))


def test_the_layer_says_what_is_measured() -> None:
    model = linear()
    v = unit(3, 6, 6)
    result = latentjac.edit(model, point_for(model), v, 1.0, method=Linear(num_steps=2, layer="head"))
    image = float(model.network.head(model.network.mid(v[None])).norm())
    assert float(result.along.feature_path) == pytest.approx(sigma_at(model) * image)


def test_linearity_is_measured_where_the_walk_is() -> None:
    """Features ``A x + x^2``: both differences are known at every step."""
    model = model_of(Network(6, Mix(1.0), convolution(1)))
    point, v, steps = point_for(model), unit(3, 6, 6), 12
    result = latentjac.edit(model, point, v, 24.0, method=Linear(num_steps=steps))
    length = 24.0 * sigma_at(model) / steps
    part = LENGTHS[0] * sigma_at(model) / length
    assert result.along.steps == (0, 11)
    for row, number in enumerate(result.along.steps):
        x, s = point.sample[0] + number * length * v, length * v
        along = torch.einsum("ij,jhw->ihw", model.network.mid.mix, s) + 2 * x * s
        secant, tangent = (along + s**2).flatten(), (along + part * s**2).flatten()
        assert float(result.along.norm_ratio[row]) == pytest.approx(float(secant.norm() / tangent.norm()), rel=1e-8)
        cosine = torch.cosine_similarity(secant, tangent, dim=0)
        assert float(result.along.cosine[row]) == pytest.approx(float(cosine), rel=1e-8)
    ratio = result.along.norm_ratio.flatten()
    assert (ratio[1:] - ratio[:-1]).abs().min() > 1e-5  # not the same everywhere


def test_guidance_is_measured_too(tiny_model, tiny_point) -> None:
    result = latentjac.edit(tiny_model, tiny_point, unit(3, 16, 16), [0.0, 2.0], method=Guidance(num_steps=8))
    assert result.along.path.tolist()[0] == pytest.approx([0.0, 2.0])
    tap, t = tiny_model.feature_map("mid"), torch.tensor(599)
    straight = float((tap(result.points[0, 1:], t) - tap(tiny_point.sample, t)).norm())
    assert straight <= float(result.along.feature_path[0, 1]) < 3 * straight


def test_a_network_without_a_middle_is_measured_at_its_output() -> None:
    class Plain(torch.nn.Module):
        config = {"sample_size": 6, "in_channels": 3}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.only = convolution(1)

        def forward(self, sample: torch.Tensor, timestep: torch.Tensor, return_dict: bool = False) -> tuple:
            return (self.only(sample),)

    model, v = model_of(Plain()), unit(3, 6, 6)
    result = latentjac.edit(model, point_for(model), v, 1.0, method=Linear(num_steps=2))
    expected = sigma_at(model) * float(model.network.only(v[None]).norm())
    assert float(result.along.feature_path) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"^edit: layer must be a module name .*got 'mid'"):
        latentjac.edit(model, point_for(model), v, method=HSpace())


def test_rows_that_do_not_move_are_linear() -> None:
    moved = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    found = compare(moved, moved / 2)
    assert found.norm_ratio.tolist() == [1.0, 2.0]
    assert found.cosine.tolist() == [1.0, 1.0]
    assert found.deviation.tolist() == [0.0, 1.0]
