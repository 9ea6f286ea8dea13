"""The local basis of a small network against the SVD of its dense Jacobian."""

from __future__ import annotations

import pytest
import torch
from truth import dense_jacobian

import latentjac
from latentjac.solvers import Krylov, Randomized, Solver, Status, Subspace


def jacobian_of(model: latentjac.Model, layer: str, point: latentjac.Point) -> torch.Tensor:
    return dense_jacobian(model.feature_map(layer), point.sample, torch.tensor(point.timestep))


@pytest.mark.parametrize("layer", ["mid", "x0", "down_blocks.1"])  # eps: tests/editing/test_guided.py
def test_triplets_of_the_dense_jacobian(tiny_model, tiny_point, layer: str) -> None:
    basis = latentjac.local_basis(tiny_model, tiny_point, k=4, layer=layer, tol=1e-6)
    u, s, vt = torch.linalg.svd(jacobian_of(tiny_model, layer, tiny_point), full_matrices=False)
    assert basis.status is Status.CONVERGED
    torch.testing.assert_close(basis.s, s[:4], rtol=1e-9, atol=0)
    for found, exact in ((basis.v, vt), (basis.u, u.T)):
        cosines = torch.linalg.svdvals(found.flatten(1) @ exact[:4].T)
        assert cosines.min() > 1 - 1e-8  # largest principal angle; the spectrum has a gap at 4 for these layers


@pytest.mark.parametrize(
    "solver", [Krylov(block_size=3), Subspace(), Randomized(power_steps=20)], ids=lambda solver: type(solver).__name__
)
def test_triplets_by_every_solver(tiny_model, tiny_point, solver: Solver) -> None:
    basis = latentjac.local_basis(tiny_model, tiny_point, k=4, tol=1e-3, solver=solver)
    assert basis.status is Status.CONVERGED
    assert basis.metadata["solver"] == type(solver).__name__
    exact = torch.linalg.svdvals(jacobian_of(tiny_model, "mid", tiny_point))
    torch.testing.assert_close(basis.s, exact[:4], rtol=1e-5, atol=0)


def test_a_basis_of_another_size_is_no_warm_start(tiny_model, tiny_point) -> None:
    basis = latentjac.svd(latentjac.linearize(torch.sin, tiny_point.sample[:, :, :8]), k=2)
    with pytest.raises(ValueError, match=r"warm_start must have shape \[q, 3, 16, 16\], got \[2, 3, 8, 16\]"):
        latentjac.local_basis(tiny_model, tiny_point, k=2, warm_start=basis)


def test_mixed_precision_gives_the_triplets_of_float32(own_model, tiny_point) -> None:
    exact = torch.linalg.svd(jacobian_of(own_model, "mid", tiny_point), full_matrices=False)
    model = own_model.to(dtype=torch.float32)
    point = tiny_point.to(dtype=torch.float32)
    basis = latentjac.local_basis(model, point, k=4, tol=1e-3, precision="mixed")
    assert basis.status is Status.CONVERGED
    assert basis.metadata["precision"] == "mixed"
    assert basis.metadata["refine_jvps"] >= 4
    torch.testing.assert_close(basis.s.double(), exact.S[:4], rtol=1e-5, atol=0)
    jacobian = exact.U * exact.S @ exact.Vh
    s, u, v = basis.s.double(), basis.u.double().flatten(1), basis.v.double().flatten(1)
    true = (u @ jacobian - s[:, None] * v).norm(dim=1) / s
    torch.testing.assert_close(basis.residuals.double(), true, rtol=1e-2, atol=2e-5)
    assert basis.certificate.adjoint_mismatch < 1e-6 < basis.metadata["cheap_adjoint_mismatch"]


def test_metadata_says_what_it_belongs_to(tiny_model, tiny_point, tmp_path) -> None:
    basis = latentjac.local_basis(tiny_model, tiny_point, k=2)
    path = basis.save(tmp_path / "b.safetensors")
    facts = latentjac.LocalBasis.load(path).metadata
    assert facts["model_identity"] == tiny_model.identity()
    assert (facts["layer"], facts["timestep"], facts["t"]) == ("mid", 599, 0.599)


def test_same_seed_same_basis(tiny_model, tiny_point) -> None:
    bases = [
        latentjac.local_basis(tiny_model, tiny_point, k=3, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    ]
    assert torch.equal(bases[0].v, bases[1].v)
    assert torch.equal(bases[0].u, bases[1].u)


def test_a_step_along_v_moves_the_features_by_s(tiny_model, tiny_point) -> None:
    basis = latentjac.local_basis(tiny_model, tiny_point, k=2)
    h, t, step = tiny_model.feature_map("mid"), torch.tensor(599), 1e-5
    moved = (h(tiny_point.sample + step * basis.v[:1], t) - h(tiny_point.sample, t)).norm() / step
    assert float(moved) == pytest.approx(float(basis.s[0]), rel=1e-3)


def test_a_layer_that_does_not_see_the_sample_is_refused(tiny_model, tiny_point) -> None:
    with pytest.raises(ValueError, match="layer must depend on the sample, got 'time_embedding', whose"):
        latentjac.local_basis(tiny_model, tiny_point, k=2, layer="time_embedding")
