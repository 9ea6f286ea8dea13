"""Every kernel against its reference implementation, on small shapes, wherever it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import torch

from . import attention_reference, reference
from .attention import attention_cotangent, attention_primal, attention_tangent, rowwise_product
from .gated import gated_cotangent, gated_tangent
from .info import device_of
from .jacobi import jacobi_eigh, jacobi_svd
from .norm_act import ACTIVATIONS, norm_act_cotangent, norm_act_primal, norm_act_tangent
from .rows import combine_rows, gram

TF32_TOLERANCE = 2e-3  # of a few products, each of factors of 11 bits


class SelfTest(NamedTuple):
    """One check of `self_test`: its name, whether it passed, and the relative error found."""

    name: str
    passed: bool
    error: float


@torch.no_grad()
def self_test(device: str | torch.device = "cpu") -> list[SelfTest]:
    """Run every kernel on small shapes against its reference implementation, and check that cotangents are transposes.

    Args:
        device: where to run.

    Returns:
        One entry a check, in well under a second on a CPU. Without native kernels the reference implementations meet
        themselves, and only the adjoint says something.

    Raises:
        TypeError: device is neither a name nor a torch.device.
        ValueError: there is no such device, or it computes nothing.
    """
    device = device_of("self_test", device)
    if device.type not in ("cpu", "cuda") or (device.type == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"self_test: device must be the CPU or a GPU that torch sees, got {str(device)!r}")
    results = []
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        for kernel, errors in CHECKS.items():
            results += _checked(f"{kernel} {{}} {str(dtype).removeprefix('torch.')}", errors(dtype, device), tolerance)
    results += _checked("attention {} tf32", _attention_errors(torch.float32, device, True), TF32_TOLERANCE)
    return results + _checked("jacobi {}", _jacobi_errors(device), 1e-12)


def _checked(name: str, errors: Iterable[tuple[str, float]], tolerance: float) -> list[SelfTest]:
    return [SelfTest(name.format(what), error <= tolerance, error) for what, error in errors]


def _norm_act_errors(dtype: torch.dtype, device: torch.device) -> Iterable[tuple[str, float]]:
    for shape, groups in (((2, 35, 24), 4), ((3, 1, 37), 1)):
        for activation in ACTIVATIONS:
            for name, error in _errors(shape, groups, activation, dtype, device):
                yield f"{name} {activation} {'x'.join(map(str, shape))}", error


def _errors(
    shape: tuple[int, int, int], groups: int, activation: str, dtype: torch.dtype, device: torch.device
) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)

    # All inputs are copied from the host: what checks a GPU's memory takes what it did not see written for unwritten.
    def draw(*size: int, mean: float = 0.0) -> torch.Tensor:
        return (torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu") + mean).to(dtype).to(device)

    x, gamma, beta = draw(*shape, mean=0.5), draw(shape[-1]), draw(shape[-1])
    t, u = draw(3, *shape), draw(3, *shape)
    primal = norm_act_primal(x, gamma, beta, groups=groups, activation=activation)
    dy = norm_act_tangent(t, primal.a, primal.xhat, groups=groups)
    dx = norm_act_cotangent(u, primal.a, primal.xhat, groups=groups)
    y, xhat, a = reference.norm_act_primal(x.double(), gamma.double(), beta.double(), groups, 1e-5, activation, False)
    expected_dy = reference.norm_act_linear(t.double(), a, xhat, groups, False, False)
    expected_dx = reference.norm_act_linear(u.double(), a, xhat, groups, False, True)
    assert primal.y is not None
    left, right = (u.double() * dy.double()).sum(), (dx.double() * t.double()).sum()
    scale = u.double().norm() * dy.double().norm()
    return [
        ("primal", max(_relative(primal.y, y), _relative(primal.xhat, xhat), _relative(primal.a, a))),
        ("tangent", _relative(dy, expected_dy)),
        ("cotangent", _relative(dx, expected_dx)),
        ("adjoint", float((left - right).abs() / scale)),
    ]


def _gated_errors(dtype: torch.dtype, device: torch.device) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)
    t, u, shared = (
        torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu").to(dtype).to(device)
        for size in ((3, 5, 74), (3, 5, 37), (2, 5, 37))
    )
    (value, gate), (a, b) = t.chunk(2, -1), shared
    dy, dx = gated_tangent(value, gate, a, b), torch.cat(gated_cotangent(u, a, b), -1)
    expected = reference.gated_tangent(value.double(), gate.double(), a.double(), b.double())
    adjoint = (u.double() * dy.double()).sum() - (dx.double() * t.double()).sum()
    return [
        ("tangent", _relative(dy, expected)),
        ("cotangent", _relative(dx, torch.cat(reference.gated_cotangent(u.double(), a.double(), b.double()), -1))),
        ("adjoint", float(adjoint.abs() / (u.double().norm() * dy.double().norm()))),
    ]


def _attention_errors(dtype: torch.dtype, device: torch.device, allow_tf32: bool = False) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)

    def draw(rows: int, *probes: int) -> torch.Tensor:
        return (
            torch.randn(*probes, 1, 2, rows, 8, generator=generator, dtype=torch.float64, device="cpu")
            .to(dtype)
            .to(device)
        )

    primal = attention_primal(draw(37), draw(70), draw(70), allow_tf32=allow_tf32)
    dq, dk, dv, u = draw(37, 3), draw(70, 3), draw(70, 3), draw(37, 3)
    wide = {name: getattr(primal, name).double() for name in ("q", "k", "v", "o", "lse")}
    truth = replace(primal, **wide, native=None)
    o, lse = attention_reference.primal(truth.q, truth.k, truth.v, primal.scale, None, False)
    dy, back = attention_tangent(primal, dq, dk, dv), attention_cotangent(primal, u)
    expected = attention_reference.cotangent(truth, u.double(), (True, True, True))
    pairs = [(found, right) for found, right in zip(back, expected, strict=True) if found is not None]
    adjoint = (u.double() * dy.double()).sum() - sum(
        (found.double() * t.double()).sum() for found, t in zip(back, (dq, dk, dv), strict=True) if found is not None
    )
    return [
        ("primal", max(_relative(primal.o, o), _relative(primal.lse, lse))),
        ("tangent", _relative(dy, attention_reference.tangent(truth, dq.double(), dk.double(), dv.double()))),
        ("cotangent", max(_relative(found, right) for found, right in pairs if right is not None)),
        ("adjoint", float(adjoint.abs() / (u.double().norm() * dy.double().norm()))),
    ]


def _rowwise_errors(dtype: torch.dtype, device: torch.device) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)
    matrices, t = (
        torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu").to(dtype).to(device)
        for size in ((1, 5, 2, 9, 7), (3, 1, 2, 5, 9))
    )
    expected = attention_reference.rowwise_product(matrices.double(), t.double())
    return [("product", _relative(rowwise_product(matrices, t), expected))]


def _rows_errors(dtype: torch.dtype, device: torch.device) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)
    a, b, weights = (
        torch.randn(*size, generator=generator, dtype=torch.float64, device="cpu")
        for size in ((2, 7, 301), (2, 20, 301), (2, 5, 7))
    )
    a, b, weights = a.to(dtype).to(device), b.to(dtype).to(device), weights.to(device)
    more = (gram(b, a).cpu()[:, :5] / 301).to(device)
    found, expected = combine_rows(weights, a, more, a), (weights + more) @ a.double()
    return [("gram", _relative(gram(a, b), a.double() @ b.double().mT)), ("combine", _relative(found, expected))]


def _jacobi_errors(device: torch.device) -> list[tuple[str, float]]:
    generator = torch.Generator().manual_seed(0)
    here = torch.randn(2, 13, 18, generator=generator, dtype=torch.float64, device="cpu")
    matrices, square = here.to(device), (here @ here.mT).to(device)
    u, s, vh, _ = jacobi_svd(matrices)
    values, vectors, _ = jacobi_eigh(square)
    return [
        ("svd", max(_relative(u @ (s[..., None] * vh), matrices), _relative(s, torch.linalg.svdvals(matrices)))),
        ("eigh", _relative(vectors @ (values[..., None] * vectors.mT), square)),
    ]


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


CHECKS: dict[str, Callable[[torch.dtype, torch.device], Iterable[tuple[str, float]]]] = {
    "norm_act": _norm_act_errors,
    "gated": _gated_errors,
    "attention": _attention_errors,
    "rowwise": _rowwise_errors,
    "rows": _rows_errors,
}
"""What each kernel is off by, in a type on a device; those in csrc/kernels.h are all called."""
