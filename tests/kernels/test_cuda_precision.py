"""The CUDA kernels of attention, run on the CPU through their Python faces: the precision of a caller reaches them."""

import pytest
import torch
from cuda_on_cpu import AttentionCotangent, AttentionPrimal, AttentionTangent, Bias, Shape, Strided
from linearization.cases import attention

from latentjac.kernels import attention as face
from latentjac.kernels.self_test import TF32_TOLERANCE, _attention_errors
from latentjac.linearization import ProgramLinearization, compiled, engine, linearize
from latentjac.linearization.precision import allows_tf32, arithmetic
from latentjac.linearization.rules import attention as rule

GPU = torch.device("cuda")


class Module:
    """The part of latentjac._native that attention needs, over the emulator."""

    def __init__(self, emulator):
        self.emulator, self.allowed = emulator, []

    def Attention(self, sizes, scale, dtype, causal, allow_tf32, q, k, v, bias, o, lse):
        self.allowed.append(allow_tf32)
        arrays = (Strided(*array) for array in (q, k, v))
        return Shape(*sizes, scale, dtype, causal, allow_tf32), *arrays, Bias(*bias), Strided(*o), lse

    def launch(self, module, name, device, common, *given):
        if name == "attention_primal":
            call = AttentionPrimal(*common)
        elif name == "attention_tangent":
            probes, *arrays, accumulate = given
            call = AttentionTangent(*common, probes, *(Strided(*array) for array in arrays), accumulate)
        else:
            probes, *arrays = given
            call = AttentionCotangent(*common, probes, *(Strided(*array) for array in arrays))
        self.emulator.call(name, call)


@pytest.fixture
def module(emulator, monkeypatch):
    """Tensors pass for a GPU's: torch's settings for GPUs count, and the emulator is the native module."""
    found = Module(emulator)
    monkeypatch.setattr(face, "native_for", lambda tensor: found)
    monkeypatch.setattr(face, "launch", found.launch)
    for user in (compiled, engine):
        monkeypatch.setattr(user, "arithmetic", lambda precision, device: arithmetic(precision, GPU))
    monkeypatch.setattr(rule, "allows_tf32", lambda device: allows_tf32(GPU))
    return found


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
def test_the_precision_decides_what_attention_multiplies(module, matmuls, precision, torch_has, rounds):
    matmuls.fp32_precision = torch_has
    generator = torch.Generator().manual_seed(3)
    f, x, (constants, _) = attention(torch.float32)
    lin = ProgramLinearization(f, x, *constants, precision=precision)
    v, u = (torch.randn(2, *t.shape, generator=generator) for t in (x, lin.y))
    found = {"o": lin.y, "jvp": lin.jvp(v), "vjp": lin.vjp(u)}
    assert set(module.allowed) == {rounds}
    exact = linearize(f, x.double(), constants[0].double(), backend="autodiff")
    expected = {"o": exact.y, "jvp": exact.jvp(v.double()), "vjp": exact.vjp(u.double())}
    errors = {name: relative(found[name], expected[name]) for name in found}
    least, most = (1e-4, 1e-3) if rounds else (0, 1e-6)
    if precision == "bf16":
        assert errors["o"] < most
    else:
        assert all(least < error < most for error in errors.values()), errors
        assert lin.check_adjoint(generator) < (1e-4 if rounds else 1e-6)


def test_the_self_test_expects_what_tf32_rounds(module):
    errors = dict(_attention_errors(torch.float32, torch.device("cpu"), allow_tf32=True))
    assert module.allowed == [True]
    assert max(errors.values()) < TF32_TOLERANCE
    assert min(errors[name] for name in ("primal", "tangent", "cotangent")) > 1e-4
