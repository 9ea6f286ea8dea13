"""Norm and activation against torch's own norms, differentiated by torch.func."""

import functools

import pytest
import torch
import torch.nn.functional as F
from devices import with_threads
from pairwise import pairwise
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
# (N, S, C), G: widths that are no multiple of a vector, one position, odd positions, one group, one channel a group;
# for CUDA several chunks of rows and several tiles of channels.
SHAPES = [
    ((2, 16, 32), 8),
    ((3, 35, 30), 6),
    ((2, 7, 5), 5),
    ((2, 9, 13), 1),
    ((2, 67, 3), 3),
    ((4, 1, 24), 3),
    ((3, 1, 37), 1),
    ((1, 531, 80), 8),
    ((1, 9, 2560), 2),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
PROBES = [3, 1, 2, 4, 7]
AFFINE = ["one one", "each each", "one each", "each one", "none none"]  # gamma and beta: for all samples, for each
CASES = pairwise(SHAPES, ACTIVATIONS, list(TOLERANCE), [False, True], PROBES, AFFINE)


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


def check_all(x, gamma, beta, t, u, tolerance, groups, activation="silu", rms=False):
    wide = [None if v is None else v.double() for v in (x, gamma, beta, t, u)]
    y, dy, dx = oracle(*wide, groups=groups, eps=1e-5, activation=activation, rms=rms)
    primal = norm_act_primal(x, gamma, beta, groups=groups, activation=activation, rms=rms)
    assert relative(primal.y, y) < tolerance
    found = norm_act_tangent(t, primal.a, primal.xhat, groups=groups, rms=rms)
    assert found.shape == t.shape
    assert relative(found, dy) < tolerance
    back = norm_act_cotangent(u, primal.a, primal.xhat, groups=groups, rms=rms)
    assert relative(back, dx) < tolerance
    adjoint = (found.double() * wide[4]).sum() - (back.double() * wide[3]).sum()
    assert adjoint.abs() < tolerance * wide[3].norm() * wide[4].norm() * primal.a.double().abs().max()


@pytest.mark.parametrize(("size", "activation", "dtype", "rms", "probes", "affine"), CASES, ids=str)
def test_against_torch_func(draw, size, activation, dtype, rms, probes, affine):
    shape, groups = size
    sizes = {"one": shape[-1:], "each": shape[::2], "none": None}
    x, t, u = (
        draw(*shape, dtype=dtype) + 0.5 * rms,
        draw(probes, *shape, dtype=dtype),
        draw(probes, *shape, dtype=dtype),
    )
    kind = reference.statistics_dtype(dtype)
    gamma, beta = (None if sizes[way] is None else draw(*sizes[way], dtype=kind) for way in affine.split())
    check_all(x, gamma, beta, t, u, TOLERANCE[dtype], groups, activation, rms)


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
    # The reference adds in float32 throughout, and is further off.
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


@pytest.mark.parametrize(
    ("activation", "shape", "dtype"),
    pairwise(ACTIVATIONS, [(2, 19, 16), (3, 1, 16)], [torch.float64, torch.float32]),
    ids=str,
)
def test_nan_stays_in_its_group(draw, activation, shape, dtype):
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
    # The reference adds in torch's order, which may depend on threads; the kernels may not.
    exact = available(x.device)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two) if exact else torch.allclose(one, two, atol=1e-5)


def test_a_group_too_wide_for_cuda_is_refused_with_its_shapes(emulated):
    with pytest.raises(RuntimeError, match=r"more than about 2048 channels.*positions=2, channels=9000"):
        norm_act_primal(torch.randn(1, 2, 9000), groups=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_on_the_cpu_runs_the_reference(dtype):
    x = torch.randn(2, 5, 8).to(dtype)
    primal = norm_act_primal(x, groups=2)
    assert primal.y.dtype == dtype
    assert primal.a.dtype == torch.float32
    assert norm_act_tangent(x[None], primal.a, primal.xhat, groups=2).dtype == dtype
