"""Injection against the same done by hand, with a hook and a loop over the levels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editing.known import linear, point_for
from networks import rand

import latentjac
from latentjac.diffusion import Schedule
from latentjac.editing import HSpace


def by_hand(model: latentjac.Model, point: latentjac.Point, offset: torch.Tensor, inject: str) -> torch.Tensor:
    """Denoise with an offset at the mid block of a U-Net."""
    schedule = Schedule.from_scheduler(model.scheduler, point.num_inference_steps)
    top = point.level
    x = point.sample
    for level in range(top, 0, -1):
        add = inject == "below" or level == top
        handle = model.network.mid_block.register_forward_hook(lambda m, i, o, add=add: o + offset if add else o)
        eps = model.network(x, torch.tensor(schedule.timesteps[level])).sample
        handle.remove()
        x = schedule.step(x, eps, level, level - 1)
    return x


@pytest.mark.parametrize("inject", ["below", "point"])
def test_injection_is_adding_at_the_tap(tiny_model, tiny_point, monkeypatch, inject: str) -> None:
    from latentjac.editing import injection

    monkeypatch.setattr(injection, "MAX_BATCH", 3)  # four walks: more than go through the network at once
    h = tiny_model.feature_map("mid")(tiny_point.sample, torch.tensor(599))
    u = rand(2, *h.shape[1:])
    result = latentjac.edit(tiny_model, tiny_point, u, [-3.0, 6.0], method=HSpace(inject=inject))
    for i in range(2):
        for j, d in enumerate((-3.0, 6.0)):
            offset = d * h.std() * u[i] / u[i].norm()
            torch.testing.assert_close(result.samples[i, j], by_hand(tiny_model, tiny_point, offset, inject)[0])
            assert float(result.along.feature_path[i, j]) == pytest.approx(float(offset.norm()))
    assert result.along.path.abs().max() == 0
    assert torch.equal(result.points[1, 1], tiny_point.sample[0])
    assert result.num_steps == 1
    assert not tiny_model.network.mid_block._forward_hooks


def test_an_asymmetric_injection_by_hand(tiny_model, tiny_point) -> None:
    """The predicted image from the network with the addition, the noise from the one without."""
    h = tiny_model.feature_map("mid")(tiny_point.sample, torch.tensor(599))
    u = rand(2, *h.shape[1:])
    result = latentjac.edit(tiny_model, tiny_point, u, [-3.0, 6.0], method=HSpace(asymmetric=True))
    schedule = Schedule.from_scheduler(tiny_model.scheduler, 10)
    for i in range(2):
        for j, d in enumerate((-3.0, 6.0)):
            offset, x = d * h.std() * u[i] / u[i].norm(), tiny_point.sample
            for level in range(6, 0, -1):
                t = torch.tensor(schedule.timesteps[level])
                plain = tiny_model.network(x, t).sample
                handle = tiny_model.network.mid_block.register_forward_hook(lambda m, i, o, add=offset: o + add)
                shifted = tiny_model.network(x, t).sample
                handle.remove()
                clean = (x - schedule.noises[level] * shifted) / schedule.signals[level]
                x = schedule.signals[level - 1] * clean + schedule.noises[level - 1] * plain
            torch.testing.assert_close(result.samples[i, j], x[0])
    symmetric = latentjac.edit(tiny_model, tiny_point, u, [-3.0, 6.0], method=HSpace())
    assert (result.samples - symmetric.samples).abs().max() > 1e-3
    frames = latentjac.editing.walk_frames(tiny_model, tiny_point, result, 1, count=2)
    assert frames.distances == (-3.0, 6.0)
    for frame, image in zip(frames.images, result.images[2:], strict=True):
        assert abs(np.asarray(frame).astype(int) - np.asarray(image).astype(int)).max() <= 1


def test_composed_injections_add() -> None:
    model = linear()
    point = point_for(model)
    u = rand(2, 3, 6, 6)
    both = latentjac.edit(model, point, u, [2.0, -1.0], method=HSpace(), compose=True).samples[0, 0]
    rest = latentjac.edit(model, point, u, 0.0, method=HSpace()).samples[0, 0]
    each = [latentjac.edit(model, point, u[i], d, method=HSpace()).samples[0, 0] for i, d in ((0, 2.0), (1, -1.0))]
    torch.testing.assert_close(both, each[0] + each[1] - rest)
    assert (both - rest).norm() > 1e-2


def test_linearity_of_an_injection() -> None:
    model = linear()
    result = latentjac.edit(model, point_for(model), rand(3, 6, 6), [-4.0, 4.0], method=HSpace())
    assert result.linearity[0].cosine == pytest.approx([1.0] * 5)
    torch.testing.assert_close(result.along.norm_ratio, torch.ones(1, 1, 2, dtype=torch.float64))
    torch.testing.assert_close(result.along.cosine, torch.ones(1, 1, 2, dtype=torch.float64))


def test_leakage_of_an_injection_is_measured() -> None:
    model = linear()
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[:, :3] = True
    u = rand(3, 6, 6) * mask
    result = latentjac.edit(model, point_for(model), u, [0.0, 2.0], method=HSpace(), mask=mask)
    assert float(result.leakage[0, 0]) == 0
    assert 0 < float(result.leakage[0, 1]) < 1
