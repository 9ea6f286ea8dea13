"""Gated activations: found in programs, and against dense float64 Jacobians."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU, ApproximateGELU, LinearActivation, SwiGLU
from networks import rand, randomize
from torch import nn
from truth import check

from latentjac.linearization import AutodiffLinearization, ProgramLinearization

Tensor = torch.Tensor
W, W2, C = rand(6, 8), rand(6, 4), rand(4)


def halves(activation: Callable[[Tensor], Tensor], flipped: bool = False) -> Callable[[Tensor], Tensor]:
    def f(z: Tensor) -> Tensor:
        value, gate = (z @ W).chunk(2, -1)
        return gate * activation(value) if flipped else value * activation(gate)

    return f


def of_images(z: Tensor) -> Tensor:
    value, gate = F.conv2d(z, rand_filters).chunk(2, 1)
    return value * F.silu(gate)


rand_filters = rand(6, 4, 1, 1)
# What is left besides the product or convolution in front is one instruction.
FUSED = {
    "gelu": halves(F.gelu),
    "gelu by tanh": halves(lambda g: F.gelu(g, approximate="tanh")),
    "silu": halves(F.silu),
    "relu": halves(F.relu),
    "sigmoid": halves(torch.sigmoid),
    "the second half activated": halves(F.silu, flipped=True),
    "split": lambda z: (h := (z @ W).split(4, -1))[0] * F.silu(h[1]),
    "activation first": lambda z: F.gelu((h := (z @ W).chunk(2, -1))[1]) * h[0],
    "along another dimension": lambda z: (h := (z @ W2).chunk(2, 1))[0] * F.silu(h[1]),
    "glu": lambda z: F.glu(z @ W),
    "glu along another dimension": lambda z: F.glu(z @ W, 1),
}


@pytest.mark.parametrize("f", FUSED.values(), ids=FUSED.keys())
def test_halves_are_one_instruction(f: Callable) -> None:
    lin = check(f, rand(2, 4, 6))
    kernels = [instruction.kernel for instruction in lin.program.instructions]
    assert len(kernels) == 2
    assert kernels[1].startswith("gated ("), kernels


def test_images() -> None:
    lin = check(of_images, rand(2, 4, 3, 5))
    assert len(lin.program.instructions) == 2
    check(lambda z: F.glu(z, 1), rand(2, 4, 3, 5))
    check(lambda z: z.sin() * F.silu(F.conv2d(z, rand_filters[:4])), rand(2, 4, 3, 5))
    check(lambda z: z.sin().transpose(1, 2) * F.silu(z.cos()).transpose(1, 2), rand(2, 4, 3, 5))


def test_value_and_gate_of_different_origin() -> None:
    first, second = nn.Linear(6, 4).double(), nn.Linear(6, 4).double()
    lin = check(lambda z: second(z) * F.silu(first(z)), rand(2, 3, 6))
    assert [i.kernel for i in lin.program.instructions] == ["matmul of 2 as one", "gated (silu)"]
    lin = check(lambda z: z * torch.sigmoid(1.702 * z), rand(2, 3, 6))
    assert lin.program.instructions[-1].kernel == "gated (sigmoid)"


def test_what_is_used_elsewhere_stays() -> None:
    def once_more(z: Tensor) -> Tensor:
        value, gate = (z @ W).chunk(2, -1)
        return value * F.silu(gate) + gate

    def activated_twice(z: Tensor) -> Tensor:
        value, gate = (z @ W).chunk(2, -1)
        return value * (a := F.silu(gate)) + a

    for f in (
        once_more,
        activated_twice,
        lambda z: z * F.silu(z),
        lambda z: F.silu(z) * F.gelu(z.sin()),
        lambda z: z * F.silu(z[:, :1].sin()),
        lambda z: z * F.silu(C)[:1],
        lambda z: (a := F.silu(z)) * a,
        lambda z: (h := (z @ W).chunk(4, -1))[0] * F.silu(h[1]) + h[2] * F.silu(h[3]),
        lambda z: (h := (z @ W).split([4, 2, 2], -1))[1] * F.silu(h[2]),
    ):
        check(f, rand(2, 3, 6))


@pytest.mark.parametrize(
    "make",
    [
        lambda: GEGLU(6, 4),
        lambda: SwiGLU(6, 4),
        lambda: ApproximateGELU(6, 4),
        lambda: LinearActivation(6, 4, activation="silu"),
    ],
    ids=["GEGLU", "SwiGLU", "ApproximateGELU", "LinearActivation"],
)
def test_modules_of_diffusers(make: Callable[[], nn.Module]) -> None:
    check(randomize(make()), rand(2, 3, 6))


def test_single_precision() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(GEGLU(6, 37), nn.Linear(37, 5)).requires_grad_(False)
    x = rand(3, 4, 6).float()
    lin, truth = ProgramLinearization(net, x), AutodiffLinearization(net, x)
    v, u = rand(5, *x.shape, seed=2).float(), rand(5, *lin.y.shape, seed=3).float()
    torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lin.vjp(u), truth.vjp(u), rtol=1e-5, atol=1e-5)
    assert "gated (gelu)" in lin.program.describe()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_in_short_numbers(dtype: torch.dtype) -> None:
    net = randomize(nn.Sequential(GEGLU(6, 37), nn.Linear(37, 5))).to(dtype)
    x = rand(3, 4, 6).to(dtype)
    lin, exact = ProgramLinearization(net, x), ProgramLinearization(copy.deepcopy(net).double(), x.double())
    v, u = rand(5, *x.shape, seed=2).to(dtype), rand(5, *lin.y.shape, seed=3).to(dtype)
    for found, expected in ((lin.jvp(v), exact.jvp(v.double())), (lin.vjp(u), exact.vjp(u.double()))):
        assert found.dtype == dtype
        assert (found.double() - expected).norm() < 2 * torch.finfo(dtype).eps * expected.norm()
    assert "gated (gelu)" in lin.program.describe()  # not torch.func, which takes the place of a rule that fails
