"""The solver on matrices with prescribed spectra; vectors are compared as subspaces."""

from __future__ import annotations

import errno

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, exact_residuals, i, with_spectrum

from latentjac.solvers import ConvergenceError, Krylov, LocalBasis, Status, svd
from latentjac.solvers.orthonormal import orthogonality, orthonormalize


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("k", [1, 8, 18, 50])
@pytest.mark.parametrize("name", SPECTRA)
def test_values_and_certificates(name: str, k: int, dtype: torch.dtype) -> None:
    operator = with_spectrum(SPECTRA[name], dtype=dtype)
    basis = svd(operator, k=k, tol=1e-3)
    matrix = operator.matrix[0].double()
    s, u, v = basis.s.double(), basis.u.double(), basis.v.double()
    exact = torch.linalg.svdvals(matrix)[:k]
    precision = 1e-12 if dtype is torch.float64 else 2e-6

    assert basis.status is Status.CONVERGED
    # A residual r puts an exact singular value within r s of s, and the error is of second order in it.
    torch.testing.assert_close(s, exact, rtol=1e-3, atol=10 * precision * float(exact[0]) + 1e-300)
    assert orthogonality(basis.u) < 20 * precision
    assert orthogonality(basis.v) < 20 * precision
    live = s > 100 * precision * max(float(exact[0]), 1e-300)
    true = (u @ matrix - s[:, None] * v).norm(dim=1)[live] / s[live]
    claimed = basis.residuals.double()[live]
    floor = 1e-11 if dtype is torch.float64 else 5e-6
    torch.testing.assert_close(claimed, true, rtol=0.01, atol=floor)
    assert ((v @ matrix.T - s[:, None] * u).norm(dim=1)[live] / s[live] < 50 * precision).all()


def test_subspace_with_a_gap_of_two() -> None:
    values = torch.cat([torch.linspace(2, 1, 6), 0.5 / i[:200]]).double()
    operator = with_spectrum(values)
    basis = svd(operator, k=6, tol=1e-6)
    exact = torch.linalg.svd(operator.matrix[0], full_matrices=False)[2][:6]
    cosines = torch.linalg.svdvals(basis.v @ exact.T)
    assert cosines.min() > 1 - 1e-10


def test_agrees_with_scipy() -> None:
    svds = pytest.importorskip("scipy.sparse.linalg").svds
    operator = with_spectrum(SPECTRA["power law"])
    expected = sorted(svds(operator.matrix[0].numpy(), k=10, return_singular_vectors=False), reverse=True)
    assert svd(operator, k=10, tol=1e-6).s.tolist() == pytest.approx(expected, rel=1e-9)


def test_same_seed_same_bits() -> None:
    operator = with_spectrum(SPECTRA["exponential"], dtype=torch.float32)
    first, second = (svd(operator, k=5, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.v, second.v)
    assert torch.equal(first.s, second.s)


def test_signs_are_canonical() -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    bases = [svd(operator, k=4, tol=1e-8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    torch.testing.assert_close(bases[0].v, bases[1].v, rtol=0, atol=1e-5)


def test_small_blocks_and_restarts() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    basis = svd(operator, k=6, solver=Krylov(block_size=1), tol=1e-4, max_passes=2000)
    assert basis.status is Status.CONVERGED
    assert basis.jvps > 18  # more than the largest basis: it was restarted
    assert basis.s.tolist() == pytest.approx(SPECTRA["power law"][:6].tolist(), rel=1e-6)


def test_all_triplets_of_a_small_matrix() -> None:
    operator = MatrixOperator(torch.randn(9, 6, dtype=torch.float64))
    basis = svd(operator, k=6)
    assert basis.s.tolist() == pytest.approx(torch.linalg.svdvals(operator.matrix[0]).tolist())


def test_out_of_passes_warns_or_raises() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    with pytest.warns(UserWarning, match="out of passes after 2 passes"):
        basis = svd(operator, k=8, max_passes=2)
    assert basis.status is Status.OUT_OF_PASSES
    assert basis.residuals.max() > 1e-3
    with pytest.raises(ConvergenceError, match="out of passes") as caught:
        svd(operator, k=8, max_passes=2, strict=True)
    assert torch.equal(caught.value.basis.s, basis.s)


@pytest.mark.filterwarnings("ignore:svd")
def test_callback_sees_every_expansion_and_stops() -> None:
    operator, seen = with_spectrum(SPECTRA["power law"]), []

    def callback(state) -> bool:
        seen.append(state)
        return len(seen) == 3

    basis = svd(operator, k=8, solver=Krylov(block_size=8), callback=callback)
    assert basis.status is Status.INTERRUPTED
    assert [state.passes for state in seen] == [2, 4, 6]
    assert seen[-1].residuals.max() < seen[0].residuals.max()


@pytest.mark.filterwarnings("ignore:svd")
def test_ctrl_c_returns_what_there_is() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    calls, vjp = [], operator.vjp

    def interrupted(u: torch.Tensor) -> torch.Tensor:
        calls.append(len(u))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return vjp(u)

    operator.vjp = interrupted
    basis = svd(operator, k=8)
    assert basis.status is Status.INTERRUPTED
    assert basis.k == 8
    assert torch.isfinite(basis.v).all()


@pytest.mark.filterwarnings("ignore:svd")
@pytest.mark.parametrize("product", range(4, 24, 3))
def test_interrupted_anywhere_the_residuals_are_true(product: int) -> None:
    operator, calls = with_spectrum(SPECTRA["power law"]), []

    def interruptible(apply):
        def call(rows: torch.Tensor) -> torch.Tensor:
            calls.append(len(rows))
            if len(calls) == product:
                raise KeyboardInterrupt
            return apply(rows)

        return call

    operator.jvp, operator.vjp = interruptible(operator.jvp), interruptible(operator.vjp)
    basis = svd(operator, k=2, tol=1e-12, solver=Krylov(block_size=2))
    assert basis.status is Status.INTERRUPTED
    assert len(calls) == product
    torch.testing.assert_close(basis.residuals, exact_residuals(operator.matrix[0], basis), rtol=0.01, atol=1e-12)
    assert orthogonality(basis.v) < 1e-13


def test_warm_start_spares_vectors() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    cold = svd(operator, k=8, tol=1e-3, solver=Krylov(block_size=4))
    near = MatrixOperator(operator.matrix + 1e-4 * torch.randn_like(operator.matrix))
    warm = svd(near, k=8, tol=1e-3, solver=Krylov(block_size=4), warm_start=cold)
    assert warm.status is Status.CONVERGED
    assert warm.jvps < svd(near, k=8, tol=1e-3, solver=Krylov(block_size=4)).jvps


def test_non_finite_products_are_refused() -> None:
    operator = with_spectrum(SPECTRA["power law"])
    operator.vjp = lambda u: torch.full((len(u), 1, 260), float("nan"), dtype=torch.float64)
    with pytest.raises(ValueError, match="got NaN or Inf from vjp"):
        svd(operator, k=2)


def test_orthonormalize_keeps_tiny_but_real_directions() -> None:
    basis = torch.linalg.qr(torch.randn(40, 3, dtype=torch.float64))[0].T
    rows = torch.stack([basis[0], basis[0] + 1e-9 * basis[1], basis[0] + 1e-9 * basis[2]])
    found = orthonormalize(rows)
    assert len(found) == 3
    assert orthogonality(found) < 1e-14
    assert torch.linalg.svdvals(found @ basis.T).min() > 1 - 1e-6
    dependent = orthonormalize(torch.stack([basis[0], basis[0], 2 * basis[1]]))
    assert dependent.norm(dim=1).tolist() == pytest.approx([1, 1, 0])  # rows of zeros last
    assert not orthonormalize(basis[:2], against=basis).any()


def test_save_and_load(tmp_path) -> None:
    basis = svd(with_spectrum(SPECTRA["exponential"]), k=3)
    basis.metadata["layer"] = "mid"
    path = basis.save(tmp_path / "basis.safetensors")
    loaded = LocalBasis.load(path)
    assert torch.equal(loaded.v, basis.v)
    assert (loaded.status, loaded.metadata, loaded.jvps) == (basis.status, basis.metadata, basis.jvps)
    assert [p.name for p in tmp_path.iterdir()] == ["basis.safetensors"]
    assert "k=3" in repr(loaded)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    basis = svd(with_spectrum(SPECTRA["exponential"]), k=3)
    path = basis.save(tmp_path / "basis.safetensors")
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match=r"no space.*basis\.safetensors"):
        basis.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["basis.safetensors"]


def test_a_warm_start_in_the_wrong_subspace_is_not_certified() -> None:
    """Exact singular vectors 9 to 16 have no residual, but they are not the first eight."""
    operator = with_spectrum(SPECTRA["power law"])
    exact = torch.linalg.svd(operator.matrix[0], full_matrices=False)[2]
    basis = svd(operator, k=8, warm_start=exact[8:16])
    assert basis.status is Status.CONVERGED
    torch.testing.assert_close(basis.s, SPECTRA["power law"][:8], rtol=1e-4, atol=0)


def test_dependent_warm_starts() -> None:
    values = torch.cat([torch.full((6,), 5.0), torch.linspace(3, 0.5, 100)]).double()
    operator = with_spectrum(values)
    basis = svd(operator, k=8, warm_start=torch.randn(1, 260, dtype=torch.float64).repeat(8, 1))
    torch.testing.assert_close(basis.s, values[:8], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("values", "k", "block_size"),
    [
        (torch.cat([torch.ones(24), torch.linspace(0.99, 0.3, 200)]), 20, None),
        (torch.cat([torch.ones(3), torch.linspace(0.99, 0.3, 200)]), 3, 1),
        (torch.linspace(1, 0.1, 60).repeat_interleave(2), 8, 1),
    ],
    ids=["more copies than the block", "triple, block of one", "doubled, block of one"],
)
def test_multiple_values_are_all_found(values: torch.Tensor, k: int, block_size: int | None) -> None:
    basis = svd(with_spectrum(values.double()), k=k, solver=Krylov(block_size=block_size), max_passes=3000)
    torch.testing.assert_close(basis.s, values[:k].double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_scale_of_the_operator_does_not_matter(scale: float) -> None:
    plain = with_spectrum(SPECTRA["exponential"], dtype=torch.float32)
    basis = svd(MatrixOperator(plain.matrix * scale), k=8)
    assert (basis.s.double() / scale).tolist() == pytest.approx(SPECTRA["exponential"][:8].tolist(), rel=1e-3)


@pytest.mark.filterwarnings("ignore:svd")
def test_what_was_not_computed_has_no_residual() -> None:
    basis = svd(with_spectrum(SPECTRA["power law"]), k=20, solver=Krylov(block_size=4), max_passes=2)
    assert basis.status is Status.OUT_OF_PASSES
    assert torch.isinf(basis.residuals[4:]).all()


@pytest.mark.parametrize("damage", ["{}", "[]", '{"status": "converged", "more": 1}'])
def test_damaged_headers_are_refused(tmp_path, damage: str) -> None:
    from safetensors.torch import save_file

    tensors = {name: torch.ones(2, 3) for name in ("s", "v", "u", "residuals")}
    save_file(tensors, tmp_path / "b.safetensors", metadata={"schema": "1", "latentjac": damage})
    with pytest.raises(ValueError, match="must be a basis saved by latentjac"):
        LocalBasis.load(tmp_path / "b.safetensors")


def test_products_that_record_gradients() -> None:
    operator = with_spectrum(SPECTRA["exponential"])
    expected = svd(operator, k=3)
    operator.matrix.requires_grad_()
    found = svd(operator, k=3)
    assert not found.v.requires_grad
    torch.testing.assert_close(found.s, expected.s)
