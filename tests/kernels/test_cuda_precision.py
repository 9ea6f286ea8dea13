"""The CUDA kernels of attention, run on the CPU through their Python faces: the precision of a caller reaches them."""

import pytest
import torch
from linearization.cases import attention

from latentjac.kernels.self_test import TF32_TOLERANCE, self_test
from latentjac.linearization import ProgramLinearization, compiled, engine, linearize
from latentjac.linearization.precision import allows_tf32, arithmetic
from latentjac.linearization.rules import attention as rule

GPU = torch.device("cuda")


@pytest.fixture
def on_gpu(emulated, monkeypatch):
    """Torch's settings for GPUs count."""
    for user in (compiled, engine):
        monkeypatch.setattr(user, "arithmetic", lambda precision, device: arithmetic(precision, GPU))
    monkeypatch.setattr(rule, "allows_tf32", lambda device: allows_tf32(GPU))
    return emulated


def allowed(emulated):
    return [call["shape"]["allow_tf32"] for name, call in emulated.calls if name == "attention_primal"]


def relative(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(
    ("precision", "torch_has", "rounds"),
    [
        ("tf32", "ieee", True),
        ("fp32", "tf32", False),
        ("bf16", "tf32", False),
        (None, "tf32", True),
        (None, "ieee", False),
        (None, "none", False),
    ],
)
def test_the_precision_decides_what_attention_multiplies(on_gpu, matmuls, precision, torch_has, rounds):
    matmuls.fp32_precision = torch_has
    generator = torch.Generator().manual_seed(3)
    f, x, (constants, _) = attention(torch.float32)
    lin = ProgramLinearization(f, x, *constants, precision=precision)
    v, u = (torch.randn(2, *t.shape, generator=generator) for t in (x, lin.y))
    found = {"o": lin.y, "jvp": lin.jvp(v), "vjp": lin.vjp(u)}
    assert set(allowed(on_gpu)) == {rounds}
    exact = linearize(f, x.double(), constants[0].double(), backend="autodiff")
    expected = {"o": exact.y, "jvp": exact.jvp(v.double()), "vjp": exact.vjp(u.double())}
    errors = {name: relative(found[name], expected[name]) for name in found}
    least, most = (1e-4, 1e-3) if rounds else (0, 1e-6)
    if precision == "bf16":
        assert errors["o"] < most
    else:
        assert all(least < error < most for error in errors.values()), errors
        assert lin.check_adjoint(generator) < (1e-4 if rounds else 1e-6)


def test_the_self_test_expects_what_tf32_rounds(on_gpu):
    errors = {check.name: check.error for check in self_test() if check.name.endswith("tf32")}
    assert True in allowed(on_gpu)
    assert max(errors.values()) < TF32_TOLERANCE
    assert min(errors[f"attention {name} tf32"] for name in ("primal", "tangent", "cotangent")) > 1e-4
