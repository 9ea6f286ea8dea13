"""Operators of tensors by strangers: what they may do with their probes, and what their products must be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from networks import rand
from solvers.matrices import MatrixOperator

import latentjac
from latentjac.solvers import Krylov, Randomized, Subspace

Tensor = torch.Tensor
MATRIX = rand(30, 20)


class Rude(MatrixOperator):
    """Spoils its probes once it has used them, and those of earlier calls, too."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix)
        self.kept: list[Tensor] = []

    def _spoilt(self, out: Tensor, probes: Tensor) -> Tensor:
        self.kept.append(probes)
        for each in self.kept:
            each.fill_(torch.nan)
        return out

    def jvp(self, v: Tensor) -> Tensor:
        return self._spoilt(super().jvp(v), v)

    def vjp(self, u: Tensor) -> Tensor:
        return self._spoilt(super().vjp(u), u)


class Thrifty(MatrixOperator):
    """Gives its products in the same two buffers each time."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix)
        self.buffers = {}

    def _into(self, kind: str, out: Tensor) -> Tensor:
        whole = self.buffers.setdefault(kind, out.new_empty(64, *out.shape[1:]))
        whole[: len(out)] = out
        return whole[: len(out)]

    def jvp(self, v: Tensor) -> Tensor:
        return self._into("jvp", super().jvp(v))

    def vjp(self, u: Tensor) -> Tensor:
        return self._into("vjp", super().vjp(u))


@pytest.mark.parametrize("solver", [Krylov(), Subspace(), Randomized(power_steps=6)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("matrix", [MATRIX, rand(2, 30, 20)], ids=["one point", "two points"])
@pytest.mark.parametrize("kind", [Rude, Thrifty])
def test_probes_and_products_may_be_written_to(kind: type[MatrixOperator], matrix: Tensor, solver: Krylov) -> None:
    expected = latentjac.svd(MatrixOperator(matrix), 3, 0.1, solver=solver)
    found = latentjac.svd(kind(matrix), 3, 0.1, solver=solver)
    assert torch.equal(found.v, expected.v)
    assert torch.equal(found.s, expected.s)


class Wrong(MatrixOperator):
    """Changes one of its products."""

    def __init__(self, matrix: Tensor, kind: str, change: Callable[[Tensor], object]) -> None:
        super().__init__(matrix)
        product = getattr(self, kind)
        setattr(self, kind, lambda probes: change(product(probes)))


@pytest.mark.parametrize("kind", ["jvp", "vjp"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda out: None, TypeError, "a dense floating-point tensor, got None"),
        (lambda out: (out,), TypeError, r"a dense floating-point tensor, got \("),
        (lambda out: out.numpy(), TypeError, "a dense floating-point tensor, got array"),
        (lambda out: out.long(), TypeError, "a dense floating-point tensor, got a torch.int64 tensor of 3"),
        (lambda out: out.to(torch.complex128), TypeError, "a dense floating-point tensor, got a torch.complex128"),
        (lambda out: out.to_sparse(), TypeError, "a dense floating-point tensor, got a torch.float64 tensor of 3"),
        (lambda out: out[:, 0], ValueError, r"\[\d, 1, \d0\] on cpu, got \[\d, \d0\] on cpu"),
        (lambda out: out[:1], ValueError, r"\[\d, 1, \d0\] on cpu, got \[1, 1, \d0\] on cpu"),
        (lambda out: out[..., 1:], ValueError, r"\[\d, 1, \d0\] on cpu, got \[\d, 1, \d9\] on cpu"),
        (lambda out: out.to("meta"), ValueError, r"\[\d, 1, \d0\] on cpu, got \[\d, 1, \d0\] on meta"),
    ],
)
def test_products_of_another_kind_are_named(
    kind: str, change: Callable[[Tensor], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=rf"svd: operator\.{kind} must give {message}"):
        latentjac.svd(Wrong(MATRIX, kind, change), 3)


def test_whose_product_it_is_is_named() -> None:
    wrong, right = Wrong(MATRIX, "vjp", lambda out: out[:, 0]), MatrixOperator(MATRIX)
    with pytest.raises(ValueError, match=r"svd: refine_with\.vjp must give"):
        latentjac.svd(right, 3, refine_with=wrong)
    with pytest.raises(ValueError, match=r"svd: refine_with must give finite products, got NaN or Inf from vjp"):
        latentjac.svd(right, 3, refine_with=Wrong(MATRIX, "vjp", lambda out: out * torch.nan))


def test_an_error_inside_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        latentjac.svd(Wrong(MATRIX, "vjp", lambda out: 1 // 0), 3)
