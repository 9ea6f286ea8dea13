"""Norm and activation against torch's own norms, differentiated by torch.func."""

import functools

import pytest
import torch
import torch.nn.functional as F
from devices import with_threads
from truth import relative

from latentjac.kernels import (
    ACTIVATIONS,
    NormActPrimal,
    available,
    norm_act_cotangent,
    norm_act_primal,
    norm_act_tangent,
    reference,
)

ACTS = {
    "identity": lambda z: z,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}
# (N, S, C), G: widths that are no multiple of a vector, one position, odd positions, one group, one channel a group.
SHAPES = [
    pytest.param((2, 16, 32), 8, id="even"),
    pytest.param((3, 35, 30), 6, id="odd-width"),
    pytest.param((2, 7, 5), 5, id="channel-a-group"),
    pytest.param((2, 9, 13), 1, id="one-group"),
    pytest.param((2, 67, 3), 3, id="narrow"),
    pytest.param((4, 1, 24), 3, id="one-position"),
    pytest.param((1, 131, 80), 8, id="several-row-blocks"),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6}
PROBES = [1, 2, 3, 4, 7]


def torch_norm(x, gamma, beta, groups, eps, activation, rms):
    """The same map out of torch's functions: x [N, S, C]."""
    samples, positions, channels = x.shape
    if rms:
        xg = x.reshape(samples, positions, groups, -1).transpose(1, 2).reshape(samples, groups, -1)
        xg = F.rms_norm(xg, xg.shape[-1:], eps=eps)
        z = xg.reshape(samples, groups, positions, -1).transpose(1, 2).reshape(x.shape)
    else:
        z = F.group_norm(x.transpose(1, 2), groups, eps=eps).transpose(1, 2)
    if gamma is not None:
        z = z * gamma.reshape(-1, 1, channels)
    if beta is not None:
        z = z + beta.reshape(-1, 1, channels)
    return ACTS[activation](z)


def oracle(x, gamma, beta, t, u, **options):
    """y, all tangents and all cotangents in float64."""
    f = functools.partial(torch_norm, gamma=gamma, beta=beta, **options)
    y = f(x)
    tangents = torch.stack([torch.func.jvp(f, (x,), (v,))[1] for v in t])
    pullback = torch.func.vjp(f, x)[1]
    return y, tangents, torch.stack([pullback(w)[0] for w in u])


def check_all(x, gamma, beta, t, u, tolerance, groups, activation="silu", rms=False, eps=1e-5):
    wide = [None if v is None else v.double() for v in (x, gamma, beta, t, u)]
    y, dy, dx = oracle(*wide, groups=groups, eps=eps, activation=activation, rms=rms)
    primal = norm_act_primal(x, gamma, beta, groups=groups, eps=eps, activation=activation, rms=rms)
    assert relative(primal.y, y) < tolerance
    found = norm_act_tangent(t, primal.a, primal.xhat, groups=groups, rms=rms)
    assert found.shape == t.shape
    assert relative(found, dy) < tolerance
    back = norm_act_cotangent(u, primal.a, primal.xhat, groups=groups, rms=rms)
    assert relative(back, dx) < tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_torch(draw, shape, groups, activation, dtype):
    x, gamma, beta = draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype), draw(shape[-1], dtype=dtype)
    t, u = draw(3, *shape, dtype=dtype), draw(3, *shape, dtype=dtype)
    check_all(x, gamma, beta, t, u, TOLERANCE[dtype], groups, activation)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_rms(draw, shape, groups, dtype):
    x, gamma = draw(*shape, dtype=dtype) + 0.5, draw(shape[-1], dtype=dtype)
    t, u = draw(2, *shape, dtype=dtype), draw(2, *shape, dtype=dtype)
    check_all(x, gamma, None, t, u, 10 * TOLERANCE[dtype], groups, "silu", rms=True)


@pytest.mark.parametrize("probes", PROBES)
def test_every_number_of_probes(draw, probes):
    x, t, u = draw(2, 37, 24), draw(probes, 2, 37, 24), draw(probes, 2, 37, 24)
    check_all(x, draw(24), draw(24), t, u, 1e-12, 4)


@pytest.mark.parametrize(("gamma", "beta"), [((3, 12), (3, 12)), ((3, 12), (12,)), ((12,), (3, 12)), (None, None)])
@pytest.mark.parametrize("positions", [1, 11])
def test_scale_and_shift_per_sample(draw, gamma, beta, positions):
    x, t, u = draw(3, positions, 12), draw(2, 3, positions, 12), draw(2, 3, positions, 12)
    gamma, beta = (None if v is None else draw(*v) for v in (gamma, beta))
    check_all(x, gamma, beta, t, u, 1e-12, 3, "gelu")


def test_layer_norm_is_one_group(draw):
    x, gamma, beta = draw(6, 1, 20), draw(20), draw(20)
    expected = F.gelu(F.layer_norm(x, (20,), gamma, beta, 1e-6))
    found = norm_act_primal(x, gamma, beta, groups=1, eps=1e-6, activation="gelu").y
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_rms_norm_is_torchs(draw):
    x, gamma = draw(6, 1, 20), draw(20)
    found = norm_act_primal(x, gamma, groups=1, eps=1e-6, rms=True).y
    torch.testing.assert_close(found, F.rms_norm(x, (20,), gamma, 1e-6), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("offset", [100.0, 3000.0])
def test_float32_with_a_large_mean_keeps_its_variance(draw, offset):
    x = (draw(2, 200, 16) + offset).float()
    expected = torch_norm(x.double(), None, None, 4, 1e-5, "identity", False)
    # What rounding the input cost is not the kernel's: the oracle sees the rounded input too.
    found = norm_act_primal(x, groups=4).y
    assert relative(found, expected) < 3e-7 * offset


def test_float32_sums_over_many_values(draw):
    x, t = draw(1, 20000, 8, dtype=torch.float32), draw(1, 1, 20000, 8, dtype=torch.float32) + 10
    primal = norm_act_primal(x, groups=2)
    _, xhat, a = reference.norm_act_primal(x.double(), None, None, 2, 1e-5, "identity", False)
    expected = reference.norm_act_linear(t.double(), a, xhat, 2, False, False)
    # The twin adds in float32 throughout, and is further off.
    tolerance = 3e-6 if available(x.device) else 3e-5
    assert relative(primal.xhat, xhat) < tolerance / 3
    assert relative(norm_act_tangent(t, primal.a, primal.xhat, groups=2), expected) < tolerance


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_far_tails_of_the_activations(device, activation):
    z = torch.linspace(-120, 120, 4801, device=device, dtype=torch.float32).reshape(1, 1, -1)
    gamma = torch.full((4801,), 0.0, device=device)
    # gamma 0 hands beta straight to the activation.
    primal = norm_act_primal(z, gamma, z.flatten(), groups=1, activation=activation)
    assert torch.isfinite(primal.y).all()
    torch.testing.assert_close(primal.y, ACTS[activation](z), rtol=3e-6, atol=3e-6)
    # a / gamma is out of reach at 0: take the slope from gamma 1 on the normalised input instead.
    wide = norm_act_primal(z, torch.full_like(gamma, 60.0), groups=1, activation=activation)
    expected = reference.norm_act_primal(z.double(), gamma.double() + 60, None, 1, 1e-5, activation, False)
    torch.testing.assert_close(wide.a.double(), expected[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_cotangent_is_the_transpose(draw, shape, groups, rms, dtype):
    x, t, u = draw(*shape, dtype=dtype), draw(5, *shape, dtype=dtype), draw(5, *shape, dtype=dtype)
    primal = norm_act_primal(x, draw(shape[-1], dtype=dtype), groups=groups, activation="silu", rms=rms)
    left = (norm_act_tangent(t, primal.a, primal.xhat, groups=groups, rms=rms).double() * u.double()).sum()
    right = (norm_act_cotangent(u, primal.a, primal.xhat, groups=groups, rms=rms).double() * t.double()).sum()
    scale = float(t.double().norm() * u.double().norm() * primal.a.double().abs().max())
    assert float((left - right).abs()) < TOLERANCE[dtype] * scale


def test_non_contiguous_inputs(draw):
    image, tangents = draw(2, 12, 5, 7), draw(3, 2, 12, 35).transpose(2, 3)
    x = image.flatten(2).transpose(1, 2)
    assert not x.is_contiguous()
    gamma = draw(24)[::2]
    check_all(x, gamma, draw(24)[1::2], tangents, draw(3, 2, 12, 35).transpose(2, 3), 1e-12, 3)


def test_channels_last_image_needs_no_copy(draw):
    image = draw(2, 12, 5, 7).contiguous(memory_format=torch.channels_last)
    x = image.permute(0, 2, 3, 1).reshape(2, 35, 12)
    assert x.data_ptr() == image.data_ptr()
    y = norm_act_primal(x, groups=3, activation="silu").y
    expected = F.silu(F.group_norm(image, 3))
    torch.testing.assert_close(y.reshape(2, 5, 7, 12).permute(0, 3, 1, 2), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 19, 16), (3, 1, 16)])
@pytest.mark.parametrize("step", [norm_act_tangent, norm_act_cotangent])
def test_in_place_and_accumulate(draw, shape, step):
    primal = norm_act_primal(draw(*shape), groups=4, activation="silu")
    t, before = draw(5, *shape), draw(5, *shape)
    expected = step(t, primal.a, primal.xhat, groups=4)
    out = before.clone()
    assert step(t, primal.a, primal.xhat, groups=4, out=out, accumulate=True) is out
    torch.testing.assert_close(out, before + expected, rtol=1e-13, atol=1e-13)
    same = t.clone()
    assert step(same, primal.a, primal.xhat, groups=4, out=same) is same
    assert torch.equal(same, expected)


def test_buffers_are_written_and_returned(draw):
    x = draw(2, 9, 8)
    buffers = NormActPrimal(*(torch.full_like(x, 7.0) for _ in range(3)))
    found = norm_act_primal(x, groups=2, out=buffers)
    fresh = norm_act_primal(x, groups=2)
    for mine, returned, expected in zip(buffers, found, fresh, strict=True):
        assert mine is returned
        assert torch.equal(mine, expected)
    assert norm_act_primal(x, groups=2, want_output=False).y is None


@pytest.mark.parametrize("shape", [(2, 19, 16), (3, 1, 16)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nan_stays_in_its_group(draw, shape, dtype, activation):
    x = draw(*shape, dtype=dtype)
    clean = norm_act_primal(x, groups=4, activation=activation)
    x[1, -1, 5] = torch.nan
    touched = torch.zeros(shape, dtype=torch.bool, device=x.device)
    touched[1, :, 4:8] = True
    for found, expected in zip(norm_act_primal(x, groups=4, activation=activation), clean, strict=True):
        assert torch.equal(found.isnan(), touched)
        assert torch.equal(found[~touched], expected[~touched])
    for step in (norm_act_tangent, norm_act_cotangent):
        t = draw(5, *shape, dtype=dtype)
        expected = step(t, clean.a, clean.xhat, groups=4)
        t[3, 0, 0, 15] = torch.nan
        touched = torch.zeros(t.shape, dtype=torch.bool, device=x.device)
        touched[3, 0, :, 12:16] = True
        found = step(t, clean.a, clean.xhat, groups=4)
        if activation == "relu" and step is norm_act_cotangent:
            assert found[touched].isnan().all()
        assert torch.equal(found.isnan(), touched)
        assert torch.equal(found[~touched], expected[~touched])


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8)])
def test_empty(device, shape):
    x = torch.empty(shape, device=device)
    primal = norm_act_primal(x, groups=2)
    assert primal.y.shape == shape
    assert norm_act_tangent(torch.empty(3, *shape, device=device), primal.a, primal.xhat, groups=2).shape == (3, *shape)
    none = norm_act_tangent(
        torch.empty(0, 2, 4, 8, device=device), *[torch.zeros(2, 4, 8, device=device)] * 2, groups=2
    )
    assert none.shape == (0, 2, 4, 8)


def test_same_bits_every_time_and_for_every_number_of_threads(draw):
    x, t = draw(3, 300, 96, dtype=torch.float32), draw(6, 3, 300, 96, dtype=torch.float32)

    def run():
        primal = norm_act_primal(x, groups=8, activation="silu")
        forward = norm_act_tangent(t, primal.a, primal.xhat, groups=8)
        return (*primal, forward, norm_act_cotangent(t, primal.a, primal.xhat, groups=8))

    results = with_threads(run, (1, 2, 3, 2))
    # The twins add in torch's order, which may depend on threads; the kernels may not.
    exact = available(x.device)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two) if exact else torch.allclose(one, two, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("device", ["cuda"], indirect=True)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("shape", "groups"), SHAPES)
def test_half_precision_on_cuda(draw, shape, groups, dtype):
    x, t = draw(*shape, dtype=dtype), draw(3, *shape, dtype=dtype)
    primal = norm_act_primal(x, groups=groups, activation="silu")
    y, xhat, a = reference.norm_act_primal(x.double(), None, None, groups, 1e-5, "silu", False)
    epsilon = torch.finfo(dtype).eps
    assert relative(primal.y, y) < epsilon
    assert relative(primal.a, a) < 1e-5
    expected = reference.norm_act_linear(t.double(), a, xhat, groups, False, False)
    assert relative(norm_act_tangent(t, primal.a, primal.xhat, groups=groups), expected) < epsilon


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_on_the_cpu_runs_the_twin(dtype):
    x = torch.randn(2, 5, 8).to(dtype)
    primal = norm_act_primal(x, groups=2)
    assert primal.y.dtype == dtype
    assert primal.a.dtype == torch.float32
    assert norm_act_tangent(x[None], primal.a, primal.xhat, groups=2).dtype == dtype
