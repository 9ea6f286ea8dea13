"""Masked bases, null-space projection and leakage against dense Jacobians and networks that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from editing.known import Diagonal, Network, kind, linear, model_of, pixelwise, point_for, unit
from networks import build_scheduler, build_shallow_unet, rand
from PIL import Image
from truth import dense_jacobian

import latentjac
from latentjac.editing import Geodesic, Guidance, Linear, Mask, Method, masked_basis, null_space, project_out
from latentjac.editing.diagnostics import leakage


@pytest.fixture
def model() -> latentjac.Model:
    """A shallow U-Net that predicts the clean sample, so that its own spectrum is that of the posterior mean."""
    return latentjac.load(build_shallow_unet().double(), build_scheduler(prediction_type="sample"))


@pytest.fixture
def point(model: latentjac.Model) -> latentjac.Point:
    return point_for(model)


def box(size: int) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[size // 4 : size // 2, size // 4 : 3 * size // 4] = True
    return mask


def dense(model: latentjac.Model, point: latentjac.Point, mask: torch.Tensor) -> torch.Tensor:
    """Rows of the dense Jacobian of the posterior mean inside a mask."""
    t = torch.tensor(point.timestep)
    return dense_jacobian(lambda x: model.x0(x, t)[:, :, mask], point.sample)


def test_masked_basis_is_that_of_the_rows_inside(model, point) -> None:
    mask = box(8)
    basis = masked_basis(model, point, mask, 3, tol=1e-6)
    _, s, vt = torch.linalg.svd(dense(model, point, mask), full_matrices=False)
    torch.testing.assert_close(basis.s, s[:3], rtol=1e-8, atol=0)
    assert torch.linalg.svdvals(basis.v.flatten(1) @ vt[:3].T).min() > 1 - 1e-8
    assert basis.u[:, :, ~mask].abs().max() == 0
    assert basis.metadata["mask_pixels"] == int(mask.sum())
    assert (basis.metadata["timestep"], basis.metadata["num_inference_steps"]) == (599, 10)


def test_masks_of_several_points_side_by_side(model, point) -> None:
    """Each basis is that of its point and mask alone."""
    other = replace(point, sample=0.7 * point.sample.flip(2))
    both = replace(point, sample=torch.cat([point.sample, other.sample]))
    masks = [box(8), ~box(8)]
    found = masked_basis(model, both, masks, 3, tol=1e-6)
    shared = masked_basis(model, both, masks[0], 3, tol=1e-6)
    for i, each in enumerate((point, other)):
        for basis, mask in ((found, masks[i]), (shared, masks[0])):
            alone, one = masked_basis(model, each, mask, 3, tol=1e-6), basis.point(i)
            torch.testing.assert_close(one.s, alone.s, rtol=1e-8, atol=0)
            torch.testing.assert_close(one.v, alone.v, rtol=0, atol=1e-5)
            assert one.u[:, :, ~mask].abs().max() == 0
    assert found.metadata["mask_pixels"] == [int(mask.sum()) for mask in masks]
    with pytest.raises(ValueError, match=r"masked_basis: mask must be one for all or 2 \(as many as samples\), got 3"):
        masked_basis(model, both, [*masks, masks[0]], 3)


def test_bases_of_several_masks_are_saved(model, point, tmp_path) -> None:
    both = replace(point, sample=torch.cat([point.sample, -point.sample]))
    found = masked_basis(model, both, [box(8), ~box(8)], 2, tol=0.1)
    assert latentjac.LocalBasis.load(found.save(tmp_path / "basis.safetensors")).metadata == found.metadata


def test_one_trace_serves_all_masks(model, point, monkeypatch) -> None:
    from latentjac.models import traces as module

    traces, linearize = [], module.linearize
    monkeypatch.setattr(module, "linearize", lambda *a, **k: traces.append(1) or linearize(*a, **k))
    inside = masked_basis(model, point, box(8), 2, tol=1e-2)
    outside = masked_basis(model, point, ~box(8), 2, tol=1e-2)
    assert len(traces) == 1
    assert not torch.allclose(inside.s, outside.s, rtol=1e-2)


def test_projection_takes_out_what_the_rest_listens_to(model, point) -> None:
    """Against the dense Jacobian outside the mask: its top directions are gone, its answer falls under s[r]."""
    mask, rank = box(8), 4
    jacobian = dense(model, point, ~mask)
    _, s, vt = torch.linalg.svd(jacobian, full_matrices=False)
    taken = null_space(model, point, mask, rank, tol=1e-7).v
    v = vt[:8].mean(0)  # mostly in the span that goes
    left = project_out(v.view(3, 8, 8), taken)
    assert (vt[:rank] @ v).norm() > 0.1
    assert (vt[:rank] @ left.flatten()).norm() < 1e-6
    assert float(left.norm()) == pytest.approx(1.0)
    assert (jacobian @ left.flatten()).norm() <= s[rank] * (1 + 1e-6)
    assert (jacobian @ v).norm() / v.norm() > s[rank]


def test_the_energy_chooses_the_rank() -> None:
    """A diagonal map: the directions outside are its largest factors there, and their energy is known."""
    factors = 0.93 ** torch.arange(3 * 36, dtype=torch.float64).view(3, 6, 6)
    model = model_of(Network(6, torch.nn.Identity(), Diagonal(factors)), "sample")
    mask = box(6)
    outside = factors[:, ~mask].flatten().sort(descending=True).values
    cumulative = outside.square().cumsum(0) / outside.square().sum()
    for count in (3, 12):
        between = float(cumulative[count - 2] + cumulative[count - 1]) / 2
        found = null_space(model, point_for(model), mask, energy=between, tol=1e-6)
        assert found.k == count
        torch.testing.assert_close(found.s, outside[:count])


def test_an_energy_out_of_reach_is_refused() -> None:
    model = model_of(Network(16, torch.nn.Identity(), Diagonal(1 + 0.01 * rand(3, 16, 16).abs())), "sample")
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:8, :7] = True
    with pytest.raises(ValueError, match=r"energy must be at most 0.2.*that of 128 directions, got 0.9"):
        null_space(model, point_for(model), mask, energy=0.9, tol=0.3)


def test_nothing_leaks_where_pixels_are_alone() -> None:
    model = pixelwise(0.05)
    point, mask = point_for(model), box(8)
    v = unit(3, 8, 8) * mask
    for method in (Linear(num_steps=2), Guidance(num_steps=2)):
        result = latentjac.edit(model, point, v, [0.0, 1.0], method=method, mask=Mask(mask, tol=1e-8))
        assert result.leakage.tolist()[0] == pytest.approx([0.0, 0.0], abs=1e-5)
    everywhere = latentjac.edit(model, point, unit(3, 8, 8), 1.0, method=Linear(num_steps=2), mask=mask)
    assert float(everywhere.leakage) > 0.1


def test_rank_zero_only_measures() -> None:
    model = linear()
    mask, v = box(6), unit(3, 6, 6)
    point = replace(point_for(model), sample=0.01 * point_for(model).sample)  # so that no pixel is clipped
    free, measured, kept = (
        latentjac.edit(model, point, v, 0.02, method=Linear(num_steps=2), mask=each)
        for each in (None, Mask(mask, null_rank=0), Mask(mask, null_rank=20))
    )
    assert torch.equal(free.samples, measured.samples)
    assert float(measured.leakage) > float(kept.leakage) > 0


def test_leakage_is_a_ratio_of_pixel_changes() -> None:
    mask = box(4)
    reference = torch.full((3, 8, 8), 0.5, dtype=torch.float64)
    large = mask.repeat_interleave(2, 0).repeat_interleave(2, 1)  # pictures may be larger than samples
    change = 0.05 + 0.15 * large.double()
    change[..., 0] *= -1
    pictures = torch.stack([reference + change, reference, reference + 0.1 * ~large])
    torch.testing.assert_close(
        leakage(pictures, reference, mask), torch.tensor([0.25, 0.0, float("inf")], dtype=torch.float64)
    )


@pytest.mark.parametrize(
    "method", [Linear(num_steps=3), Guidance(num_steps=3), Geodesic(num_steps=3, k=4, tol=1e-8)], ids=kind
)
def test_no_step_takes_what_was_taken_out(method: Method) -> None:
    model = linear()
    point, mask = point_for(model), box(6)
    basis = latentjac.local_basis(model, point, 4, tol=1e-6)
    taken = null_space(model, point, mask, 3, tol=1e-8).v.flatten(1)
    free, kept = (
        latentjac.edit(model, point, basis.v[0], 2.0, method=method, mask=each)
        for each in (None, Mask(mask, null_rank=3, tol=1e-8))
    )
    moved = [(edit.points[0, 0] - point.sample[0]).flatten() for edit in (free, kept)]
    assert (taken @ moved[0]).norm() > 1e-2 * moved[0].norm()
    assert (taken @ moved[1]).norm() < 1e-6 * moved[1].norm()
    assert (taken @ kept.directions.flatten()).norm() < 1e-6


def test_a_direction_that_is_taken_out_is_refused() -> None:
    model = linear()
    point, mask = point_for(model), box(6)
    v = null_space(model, point, mask, 5, tol=1e-8).v[0]
    with pytest.raises(ValueError, match=r"part that leaves the rest of the picture alone.*lower null_rank"):
        latentjac.edit(model, point, v, 1.0, method=Linear(num_steps=2), mask=Mask(mask, tol=1e-8))


def test_masks_come_as_tensors_arrays_and_pictures() -> None:
    model = linear()
    point, mask = point_for(model), box(6)
    array = mask.numpy()
    picture = Image.fromarray(array.astype(np.uint8) * 255)
    for form in (mask, array, picture, picture.convert("RGB")):
        basis = masked_basis(model, point, form, 2)
        assert torch.equal(basis.u.abs().sum((0, 1)) > 0, mask)
