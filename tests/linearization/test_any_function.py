"""Functions of all kinds: right in both backends, and never an exception where torch.func has none."""

from __future__ import annotations

import pytest
import torch
from linearization.functions import FAMILIES
from networks import rand
from truth import dense_jacobian

from latentjac import Linearization, linearize
from latentjac.linearization.rules.attention import Attention, Softmax
from latentjac.linearization.rules.contraction import Contraction
from latentjac.linearization.rules.linear_algebra import MatrixProduct

CASES = {f"{family}: {name}": case for family, cases in FAMILIES.items() for name, case in cases.items()}
# What has no program: all others must have one.
WHOLE = {"arithmetic: gradient inside", "callables: dictionary constant", "callables: module constant"}


def check_products(lin: Linearization, jacobian: torch.Tensor, tolerance: float) -> None:
    v, u = rand(3, *lin.x.shape, seed=2), rand(3, *lin.y.shape, seed=3)
    scale = max(1.0, float(jacobian.abs().max()))
    for found, expected in (
        (lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T),
        (lin.vjp(u).flatten(1), u.flatten(1) @ jacobian),
    ):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("name", "batch"), [(name, 1 + i % 2) for i, name in enumerate(CASES)])
def test_both_backends_have_the_dense_jacobian(name: str, batch: int) -> None:
    f, shape, constants = CASES[name]
    x = rand(batch, *shape)
    jacobian = dense_jacobian(lambda z: f(z, *constants), x)
    auto = linearize(f, x, *constants)
    assert auto.backend == ("autodiff" if name in WHOLE else "program")
    for lin in (auto, linearize(f, x, *constants, backend="autodiff")):
        check_products(lin, jacobian, 1e-6 if "short" in name else 1e-9)
        torch.testing.assert_close(lin.y, f(x, *constants).detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["attention: grouped queries", "algebra: einsum", "layers: group norm"])
def test_points_of_a_batch_do_not_mix(name: str) -> None:
    f, shape, constants = CASES[name]
    x = rand(3, *shape)
    lin = linearize(f, x, *constants)
    blocks = dense_jacobian(lambda z: f(z, *constants), x).reshape(3, -1, 3, x[0].numel())
    off = blocks[[0, 1, 2], :, [1, 2, 0]]
    assert not off.any()
    v = rand(2, *x.shape, seed=2)
    for i in range(3):
        alone = v.clone()
        alone[:, [j for j in range(3) if j != i]] = 0
        torch.testing.assert_close(lin.jvp(alone)[:, i], lin.jvp(v)[:, i])


@pytest.mark.parametrize(
    "name",
    ["attention: classic processor", "attention: classic processor with mask", "attention: written out",
     "attention: by einsum", "attention: one head of keys", "attention: broadcast batch"],
)  # fmt: skip
def test_attention_written_in_any_way_is_one_instruction(name: str) -> None:
    f, shape, constants = CASES[name]
    program = linearize(f, rand(2, *shape), *constants, backend="program").program
    assert sum(isinstance(i, Attention) for i in program.instructions) == 1
    assert not any(isinstance(i, (Softmax, MatrixProduct, Contraction)) for i in program.instructions)


def test_the_values_of_constants_that_f_reads_are_part_of_a_trace() -> None:
    f, shape, (t,) = CASES["arithmetic: branch on a constant"]
    lin = linearize(f, rand(2, *shape), t, backend="program")
    assert lin.program.holds([t])
    assert not lin.program.holds([t - 4])
    assert lin.program.fixed == [0]
