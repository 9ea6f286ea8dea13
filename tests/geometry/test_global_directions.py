"""Global directions of planted h-directions, and on a network."""

from __future__ import annotations

import pytest
import torch
from geometry.subspaces import basis_of, largest_angle, orthonormal, with_triplets
from networks import rand

import latentjac
from latentjac.geometry import GlobalDirections, grassmann_exp

U = orthonormal(3, 12, 1)


def sample(seed: int, noise: float, s: tuple[float, ...] = (5.0, 3.0, 2.0)) -> torch.Tensor:
    """A Jacobian with the planted h-directions, moved a little, and x-directions of its own."""
    moved = grassmann_exp(U, noise * (rand(3, 12, seed=seed) @ (torch.eye(12).double() - U.T @ U)))
    return with_triplets(moved, list(s), orthonormal(3, 8, 50 + seed))


@pytest.mark.parametrize("method", ["frechet", "matched"])
def test_planted_directions_are_found_in_order(method: str) -> None:
    bases = [basis_of(sample(seed, 0.05), k=3, x=(2, 4), y=(3, 4)) for seed in range(1, 16)]
    found = latentjac.geometry.global_directions(bases, method)
    assert found.u.shape == (3, 3, 4)
    assert found.n == 15
    cosines = (found.u.flatten(1) * U).sum(1).abs()
    assert float(cosines.min()) > 0.995
    assert float(found.agreement.low.min()) > 0.9
    torch.testing.assert_close(
        found.response.value, torch.tensor([5.0, 3.0, 2.0], dtype=torch.float64), rtol=0.02, atol=0
    )


@pytest.mark.parametrize("method", ["frechet", "matched"])
def test_exact_copies_agree_exactly_and_reach_a_new_sample(method: str) -> None:
    together = basis_of(*(sample(seed, 0.0) for seed in range(1, 5)), k=3, x=(2, 4))
    found = latentjac.geometry.global_directions(together, method)
    torch.testing.assert_close(found.agreement.value, torch.ones(3).double())
    torch.testing.assert_close(found.response.value, torch.tensor([5.0, 3.0, 2.0], dtype=torch.float64))
    new = sample(99, 0.0, s=(1.0, 4.0, 0.5))
    carried = found.at(basis_of(new, k=3, x=(2, 4)), "pseudoinverse")
    torch.testing.assert_close((carried.lengths[:, None] * carried.v.flatten(1)) @ new.T, found.u, rtol=0, atol=1e-9)
    assert carried.v.shape == (3, 2, 4)
    assert "4 samples, agreement 1.00 .. 1.00" in repr(found)


def test_agreement_is_the_part_inside_each_tangent_space() -> None:
    bases = [basis_of(rand(12, 8, seed=seed), k=3) for seed in range(4)]
    found: GlobalDirections = latentjac.geometry.global_directions(bases, confidence=0.5)
    parts = torch.stack([(found.u @ basis.u.T).square().sum(1) for basis in bases])
    torch.testing.assert_close(found.agreement.value, parts.mean(0))
    responses = torch.stack([((found.u @ basis.u.T) * basis.s).norm(dim=1) for basis in bases])
    torch.testing.assert_close(found.response.value, responses.mean(0))
    assert (found.agreement.confidence, found.response.confidence) == (0.5, 0.5)
    assert largest_angle(found.u, latentjac.geometry.frechet_mean(bases).rows) < 1e-7
    # Principal directions: the mean of J J^T has no mixed terms between them.
    mixed = sum((found.u @ b.u.T) @ torch.diag(b.s**2) @ (b.u @ found.u.T) for b in bases)
    assert float((mixed - torch.diag(mixed.diag())).abs().max()) < 1e-9 * float(mixed.max())


def test_on_a_network(tiny_model) -> None:
    """Samples of pure noise, one call for all; then a new sample."""
    noise = latentjac.noise_point(tiny_model, 4, num_inference_steps=10, generator=torch.Generator().manual_seed(0))
    bases = latentjac.local_basis(tiny_model, noise.rows(slice(3)), k=3)
    new = latentjac.local_basis(tiny_model, noise.rows(slice(3, None)), k=3)
    carried = latentjac.geometry.global_directions(bases).at(new)
    assert carried.v.shape == (3, 3, 16, 16)
    chance = 3 / new.u[0].numel()
    assert float(carried.retained.min()) > 3 * chance
