"""What a basis claims about itself, against the exact decomposition."""

from __future__ import annotations

import pytest
import torch
from solvers.matrices import SPECTRA, MatrixOperator, exact_residuals, i, largest_sine, with_spectrum

from latentjac.solvers import Krylov, LocalBasis, Status, svd

GAPPED = torch.cat([torch.linspace(2, 1, 6), 0.5 / i[:200]]).double()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(320, 260), (230, 600)], ids=["tall", "wide"])
@pytest.mark.parametrize("tol", [1e-1, 1e-3])
def test_bounds_hold(dtype: torch.dtype, shape: tuple[int, int], tol: float) -> None:
    for values in (GAPPED, SPECTRA["power law"][:210], SPECTRA["exponential"][:210]):
        operator = with_spectrum(values, *shape, dtype=dtype)
        basis = svd(operator, k=6, tol=tol, solver=Krylov(block_size=3))
        u, s, vt = torch.linalg.svd(operator.matrix[0].double(), full_matrices=False)
        c = basis.certificate
        # At a loose tolerance the nearest value need not be the one of the same number.
        nearest = (basis.s.double()[:, None] - s).abs().amin(dim=1)
        assert (nearest <= c.s_error).all()
        if tol < 1e-2:
            assert ((basis.s.double() - s[:6]).abs() <= c.s_error).all()
        assert largest_sine(basis.v, vt[:6]) <= float(c.angle) + 1e-6
        assert largest_sine(basis.u, u.T[:6]) <= float(c.angle) + 1e-6
        assert float(c.gap) <= float(basis.s[-1]) - float(s[6]) + 1e-6
        assert float(c.orthogonality_v) < (1e-13 if dtype is torch.float64 else 1e-6)


def test_bounds_say_something() -> None:
    """With a gap of two the bounds are within a factor of ten of the truth."""
    operator = with_spectrum(GAPPED)
    basis = svd(operator, k=6, tol=1e-2, solver=Krylov(block_size=3))
    s, vt = torch.linalg.svd(operator.matrix[0])[1:]
    c = basis.certificate
    error = float((basis.s - s[:6]).abs().max())
    assert 0.1 * float(c.s_error.max()) < error <= float(c.s_error.max())
    # The quadratic bound, not the linear one.
    assert float(c.s_error.max()) < 0.2 * float((basis.residuals * basis.s).max())
    assert 0.1 * float(c.angle) < largest_sine(basis.v, vt[:6]) <= float(c.angle)


def test_no_gap_no_angle() -> None:
    basis = svd(with_spectrum(SPECTRA["flat"]), k=6)
    assert float(basis.certificate.angle) == 1.0
    assert "no gap that can be told" in str(basis)


def test_left_residuals_and_adjoint_mismatch() -> None:
    operator = with_spectrum(GAPPED)
    clean = svd(operator, k=6, tol=1e-3)
    assert float(clean.certificate.adjoint_mismatch) < 1e-13
    wrong = with_spectrum(GAPPED)
    other = wrong.matrix + 1e-3 * with_spectrum(torch.ones(200).double(), seed=9).matrix
    wrong.vjp = lambda u: torch.einsum("bmn,kbm->kbn", other, u)
    basis = svd(wrong, k=6, tol=1e-2)
    assert 1e-5 < float(basis.certificate.adjoint_mismatch) < 2e-3
    left = (basis.v @ wrong.matrix[0].T - basis.s[:, None] * basis.u).norm(dim=1) / basis.s
    torch.testing.assert_close(basis.certificate.left_residuals, left, rtol=1e-2, atol=1e-12)


def test_the_table() -> None:
    basis = svd(with_spectrum(GAPPED), k=6)
    lines = str(basis).splitlines()
    assert lines[0] == repr(basis)
    assert lines[1].split() == ["i", "s", "s", "error", "residual", "left", "residual"]
    assert [line.split()[0] for line in lines[2:8]] == ["1", "2", "3", "4", "5", "6"]
    assert "next s 0.49" in lines[8] or "next s 0.5" in lines[8]
    assert "adjoint mismatch" in lines[9]


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def identity(self) -> str:
        return self.name


def test_loading_for_another_model_warns(tmp_path, recwarn) -> None:
    basis = svd(with_spectrum(GAPPED), k=2)
    basis.metadata["model_identity"] = "abc"
    path = basis.save(tmp_path / "b.safetensors")
    assert LocalBasis.load(path, model=Named("abc")).metadata["versions"]["torch"] == torch.__version__
    assert not recwarn
    with pytest.warns(UserWarning, match=r"identity abc\), expected one with identity xyz"):
        LocalBasis.load(path, model=Named("xyz"))
    with pytest.raises(TypeError, match=r"model must be a latentjac\.Model or None, got int"):
        LocalBasis.load(path, model=3)


def test_files_of_the_first_schema(tmp_path) -> None:
    from safetensors.torch import save_file

    tensors = {"s": torch.ones(1), "v": torch.eye(1, 2), "u": torch.eye(1, 3), "residuals": torch.zeros(1)}
    facts = '{"status": "converged", "jvps": 1, "vjps": 1, "seconds": 0.5, "metadata": {}}'
    save_file(tensors, tmp_path / "b.safetensors", metadata={"schema": "1", "latentjac": facts})
    basis = LocalBasis.load(tmp_path / "b.safetensors")
    assert basis.certificate is None
    assert "1           1" in str(basis)


def test_refinement_with_a_more_precise_operator() -> None:
    exact = with_spectrum(GAPPED)
    rough = MatrixOperator((exact.matrix + 1e-3 * with_spectrum(torch.ones(200).double(), seed=9).matrix).float())
    cheap = svd(rough, k=6, tol=1e-4)
    assert exact_residuals(exact.matrix[0], cheap).max() > 3e-4  # what the rough operator cannot know
    exact.vectors.clear()
    basis = svd(rough, k=6, tol=1e-4, solver=Krylov(block_size=3), refine_with=exact)
    assert basis.s.dtype == torch.float64
    torch.testing.assert_close(basis.residuals, exact_residuals(exact.matrix[0], basis), rtol=1e-2, atol=1e-12)
    assert basis.residuals.max() <= 1e-4
    assert basis.metadata["refine_jvps"] + basis.metadata["refine_vjps"] == sum(exact.vectors)
    alone = svd(exact, k=6, tol=1e-4, solver=Krylov(block_size=basis.block_size))
    assert basis.metadata["refine_jvps"] < alone.jvps


def test_half_precision_works_in_single() -> None:
    operator = with_spectrum(GAPPED, dtype=torch.bfloat16)
    with pytest.warns(UserWarning, match="stagnated|out of passes"):
        basis = svd(operator, k=3, tol=1e-4, max_passes=100)
    assert basis.v.dtype == torch.float32
    assert basis.s.tolist() == pytest.approx(GAPPED[:3].tolist(), rel=3e-2)
    assert 1e-5 < float(basis.certificate.adjoint_mismatch) < 1e-1
    assert basis.status in (Status.STAGNATED, Status.OUT_OF_PASSES)
