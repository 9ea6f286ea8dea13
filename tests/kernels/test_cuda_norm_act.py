"""csrc/cuda/norm_act.cu, run on the CPU, against the float64 twins."""

import pytest
import torch
from cuda_on_cpu import ACTIVATIONS, DTYPES, NormLinear, NormPrimal, address
from truth import relative

from latentjac.kernels import reference

# samples, positions, channels, groups: even and odd widths, one position, several chunks of rows, several tiles.
SHAPES = [
    pytest.param((2, 16, 32), 8, id="even"),
    pytest.param((3, 35, 30), 6, id="odd-width"),
    pytest.param((2, 7, 5), 5, id="channel-a-group"),
    pytest.param((2, 9, 13), 1, id="one-group"),
    pytest.param((5, 1, 24), 3, id="rows"),
    pytest.param((3, 1, 37), 1, id="odd-rows"),
    pytest.param((1, 531, 80), 8, id="several-chunks"),
    pytest.param((1, 9, 2560), 2, id="several-tiles"),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(21)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def primal(emulator, memory, x, gamma, beta, groups, activation, rms):
    wide = reference.statistics_dtype(x.dtype)
    n, s, c = x.shape
    y, xhat, a = (memory.empty(n, s, c, dtype=kind) for kind in (x.dtype, wide, wide))
    strides = [0 if v is None or v.dim() == 1 else c for v in (gamma, beta)]
    call = NormPrimal(address(x), address(gamma), address(beta), address(y), address(xhat), address(a), *strides,
                      n, s, c, groups, 1e-5, DTYPES[x.dtype], ACTIVATIONS[activation], rms)  # fmt: skip
    workspace = memory.empty(emulator.library.norm_act_workspace(1, n, s, c, groups) // 8, dtype=torch.float64)
    emulator.call_twice(memory, "norm_act_primal", [y, xhat, a], call, address(workspace))
    return y, xhat, a


def linear(emulator, memory, t, a, xhat, groups, rms, transpose, into=None):
    p, n, s, c = t.shape
    out = memory.empty(*t.shape, dtype=t.dtype) if into is None else into
    call = NormLinear(address(t), address(a), address(xhat), address(out), p, n, s, c, groups, DTYPES[t.dtype], rms,
                      transpose, into is not None and into is not t)  # fmt: skip
    workspace = memory.empty(emulator.library.norm_act_workspace(p, n, s, c, groups) // 8, dtype=torch.float64)
    emulator.call_twice(memory, "norm_act_linear", [out], call, address(workspace))
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize("rms", [False, True])
def test_against_the_twin(emulator, memory, draw, shape, groups, dtype, rms):
    activation = {1: "gelu", 2: "identity", 3: "relu", 5: "gelu_tanh"}.get(groups, "silu")
    wide = reference.statistics_dtype(dtype)
    x = memory.copy((draw(*shape) + 0.5).to(dtype))
    gamma, beta = memory.copy(draw(shape[-1]).to(wide)), memory.copy(draw(shape[0], shape[-1]).to(wide))
    y, xhat, a = primal(emulator, memory, x, gamma, beta, groups, activation, rms)
    expected = reference.norm_act_primal(x.double(), gamma.double(), beta.double(), groups, 1e-5, activation, rms)
    exact = TOLERANCE[wide]
    assert relative(y, expected[0]) < TOLERANCE[dtype]
    assert relative(xhat, expected[1]) < exact
    assert relative(a, expected[2]) < exact
    t = memory.copy(draw(6 if x.numel() < 3000 else 3, *shape).to(dtype))
    for transpose in (False, True):
        wanted = reference.norm_act_linear(t.double(), a.double(), xhat.double(), groups, rms, transpose)
        found = linear(emulator, memory, t, a, xhat, groups, rms, transpose)
        assert relative(found, wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize("positions", [1, 11])
def test_in_place_and_added(emulator, memory, draw, positions):
    shape, groups = (2, positions, 24), 3
    t, a, xhat = (memory.copy(draw(*size).float()) for size in ((3, *shape), shape, shape))
    wanted = reference.norm_act_linear(t.double(), a.double(), xhat.double(), groups, False, False)
    start = memory.copy(draw(3, *shape).float())
    before = start.double()
    assert relative(linear(emulator, memory, t, a, xhat, groups, False, False, into=start), before + wanted) < 3e-6
    assert relative(linear(emulator, memory, t, a, xhat, groups, False, False, into=t), wanted) < 3e-6


def test_a_nan_stays_in_its_group(emulator, memory, draw):
    x = memory.copy(draw(2, 40, 12).float())
    x[1, 3, 5] = float("nan")
    y, _, _ = primal(emulator, memory, x, None, None, 3, "silu", False)
    bad = y.isnan().reshape(2, 40, 3, 4).any(dim=(1, 3))
    assert bad.tolist() == [[False] * 3, [False, True, False]]


def test_a_group_too_wide_is_refused_with_its_shapes(emulator, memory, draw):
    x = memory.copy(draw(1, 2, 9000).float())
    with pytest.raises(RuntimeError, match=r"more than about 2048 channels.*positions=2, channels=9000"):
        primal(emulator, memory, x, None, None, 1, "silu", False)
