"""Operators whose arrays are not torch's."""

from __future__ import annotations

import importlib
import importlib.util
import types
from typing import Any

import numpy as np
import pytest
import torch
from devices import require_gpu
from networks import rand
from solvers.matrices import MatrixOperator

import latentjac
from latentjac.solvers import ArrayBasis, Krylov, Randomized


class ArrayMatrix:
    """A matrix in arrays of a kind, as ``numpy`` or ``jax.numpy`` has them."""

    def __init__(self, xp: Any, matrix: Any) -> None:
        self.xp, self.matrix = xp, xp.asarray(matrix)
        self.x, self.y = (xp.zeros((1, self.matrix.shape[i]), dtype=self.matrix.dtype) for i in (1, 0))
        self.given: list[type] = []

    def jvp(self, v: Any) -> Any:
        self.given.append(type(v))
        return v @ self.matrix.T

    def vjp(self, u: Any) -> Any:
        self.given.append(type(u))
        return u @ self.matrix


class Wrapper:
    """An array of a kind of its own: it speaks DLPack, and nothing else that is asked of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self) -> Any:
        return types.SimpleNamespace(from_dlpack=lambda array: Wrapper(torch.from_dlpack(array)))


class WrapperMatrix:
    def __init__(self, matrix: torch.Tensor) -> None:
        self.inner = MatrixOperator(matrix)
        self.x, self.y = Wrapper(self.inner.x), Wrapper(self.inner.y)

    def jvp(self, v: Wrapper) -> Wrapper:
        return Wrapper(self.inner.jvp(v.tensor))

    def vjp(self, u: Wrapper) -> Wrapper:
        return Wrapper(self.inner.vjp(u.tensor))


def namespace(name: str) -> Any:
    module = pytest.importorskip(name)
    if name == "jax.numpy":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    return module


@pytest.mark.parametrize("name", ["numpy", "jax.numpy"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_triplets_come_in_the_kind_of_the_operator(name: str, dtype: str) -> None:
    xp = namespace(name)
    matrix = rand(30, 20).numpy().astype(dtype)
    operator = ArrayMatrix(xp, matrix)
    basis = latentjac.svd(operator, 3, tol=1e-4)
    kind = type(operator.x)
    assert isinstance(basis, ArrayBasis)
    assert set(operator.given) == {kind}
    assert {type(array) for array in (basis.s, basis.v, basis.u, basis.residuals)} == {kind}
    assert {str(array.dtype) for array in (basis.s, basis.v, basis.u, basis.residuals)} == {dtype}
    assert basis.status is latentjac.Status.CONVERGED
    np.testing.assert_allclose(np.asarray(basis.s), np.linalg.svd(matrix.astype(float))[1][:3], rtol=1e-6)
    back = np.asarray(basis.u) @ matrix - np.asarray(basis.s)[:, None] * np.asarray(basis.v)
    assert np.linalg.norm(back, axis=1).max() <= 2e-4 * float(basis.s[0])


@pytest.mark.cuda
def test_arrays_of_cupy_stay_on_the_gpu() -> None:
    usable = importlib.util.find_spec("cupy") is not None and torch.cuda.is_available()
    require_gpu(usable, "CuPy with a GPU")
    xp = importlib.import_module("cupy")
    matrix = rand(30, 20)
    operator = ArrayMatrix(xp, matrix.numpy())
    basis = latentjac.svd(operator, 3, tol=1e-8)
    assert set(operator.given) == {xp.ndarray}
    assert {type(array) for array in (basis.s, basis.v, basis.u, basis.residuals)} == {xp.ndarray}
    assert basis.v.device == operator.x.device
    np.testing.assert_allclose(basis.s.get(), np.linalg.svd(matrix.numpy())[1][:3], rtol=1e-12)
    again = latentjac.svd(operator, 3, tol=1e-8, warm_start=basis.v)
    np.testing.assert_allclose(again.s.get(), basis.s.get(), rtol=1e-12)


def test_any_kind_that_speaks_dlpack_gives_the_same_bits_as_torch() -> None:
    matrix = rand(30, 20)
    of_torch, found = latentjac.svd(MatrixOperator(matrix), 3), latentjac.svd(WrapperMatrix(matrix), 3)
    assert isinstance(found.v, Wrapper)
    assert all(
        torch.equal(getattr(found, name).tensor, getattr(of_torch, name)) for name in ("s", "v", "u", "residuals")
    )


def test_an_operator_may_write_to_its_probes_and_give_what_is_read_only() -> None:
    class Rude(ArrayMatrix):
        def jvp(self, v: Any) -> Any:
            out = super().jvp(v)
            v[:] = np.nan
            out.flags.writeable = False
            return out

    matrix = rand(30, 20).numpy()
    kind, rude = latentjac.svd(ArrayMatrix(np, matrix), 3), latentjac.svd(Rude(np, matrix), 3)
    assert np.array_equal(kind.v, rude.v)


@pytest.mark.parametrize("solver", [Krylov(block_size=2), Randomized(power_steps=8)], ids=lambda s: type(s).__name__)
def test_a_basis_or_an_array_begins_the_next_run(solver: Krylov | Randomized) -> None:
    operator = ArrayMatrix(np, rand(30, 20).numpy())
    basis = latentjac.svd(operator, 3, tol=1e-6)
    for start in (basis, basis.v):
        again = latentjac.svd(operator, 3, tol=1e-3, solver=solver, warm_start=start)
        np.testing.assert_allclose(again.s, basis.s, rtol=1e-6)
        assert again.basis.jvps < basis.basis.jvps or isinstance(solver, Randomized)


def test_float32_passes_are_refined_by_float64_ones() -> None:
    matrix = rand(30, 20).numpy()
    cheap, exact = (ArrayMatrix(np, matrix.astype(dtype)) for dtype in (np.float32, np.float64))
    basis = latentjac.svd(cheap, 3, tol=1e-9, refine_with=exact)
    np.testing.assert_allclose(basis.s, np.linalg.svd(matrix)[1][:3], rtol=1e-12)


def test_several_points_and_an_effective_rank() -> None:
    matrices = rand(2, 9, 8).numpy()

    class Points:
        x, y = np.zeros((2, 8)), np.zeros((2, 9))

        def jvp(self, v: Any) -> Any:
            return np.einsum("bmn,kbn->kbm", matrices, v)

        def vjp(self, u: Any) -> Any:
            return np.einsum("bmn,kbm->kbn", matrices, u)

    basis = latentjac.svd(Points(), 2, tol=1e-6)
    np.testing.assert_allclose(basis.s, np.linalg.svd(matrices)[1][:, :2], rtol=1e-9)
    rank = latentjac.effective_rank(ArrayMatrix(np, matrices[0]), 2)
    same = latentjac.effective_rank(MatrixOperator(torch.from_numpy(matrices[0])), 2)
    assert rank.energy.value == pytest.approx(same.energy.value, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((1, 20), dtype="U1")}, r"svd: operator\.x must be an array that torch takes by DLPack"),
        ({"x": np.zeros((1, 20), dtype=int)}, r"svd: operator\.x must be floating-point"),
        ({"jvp": lambda v: v}, r"svd: operator\.jvp must give \[\d+, 1, 30\] on cpu, got \[\d+, 1, 20\]"),
        ({"jvp": lambda v: None}, r"svd: operator\.jvp must be an array that torch takes by DLPack, got None"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    operator = ArrayMatrix(np, rand(30, 20).numpy())
    vars(operator).update(change)
    with pytest.raises((TypeError, ValueError), match=message):
        latentjac.svd(operator, 2)
