"""Gated activations against torch.func, and native code against its reference implementation."""

import pytest
import torch
import torch.nn.functional as F
from devices import with_threads
from pairwise import pairwise
from truth import relative

from latentjac.kernels import gated_cotangent, gated_tangent, reference

# P, R, C: widths that are no multiple of a vector, one of each, several blocks of rows and of channels, more probes
# than a thread of CUDA takes.
SHAPES = [(3, 5, 32), (2, 7, 37), (1, 1, 1), (4, 1, 5), (1, 300, 16), (2, 3, 4099), (11, 9, 64)]
STREAMED = (8, 512, 1024)
TOLERANCE = {torch.float64: 1e-15, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.mark.parametrize(("shape", "dtype", "flipped"), pairwise(SHAPES, list(TOLERANCE), [False, True]), ids=str)
def test_against_the_reference_on_halves(draw, shape, dtype, flipped):
    check_halves(draw, shape, dtype, flipped)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)
@pytest.mark.parametrize(("dtype", "flipped"), [(torch.float64, False), (torch.float32, True)], ids=str)
def test_large_results_are_written_past_the_caches(draw, dtype, flipped):
    check_halves(draw, STREAMED, dtype, flipped)


def check_halves(draw, shape, dtype, flipped):
    probes, rows, channels = shape
    t, u = draw(probes, rows, 2 * channels, dtype=dtype), draw(*shape, dtype=dtype)
    kind = reference.statistics_dtype(dtype)
    a, b = draw(rows, channels, dtype=kind), draw(rows, channels, dtype=kind)
    value, gate = t.split(channels, -1)[:: -1 if flipped else 1]
    expected = reference.gated_tangent(*(v.double() for v in (value, gate, a, b)))
    assert relative(gated_tangent(value, gate, a, b), expected) < TOLERANCE[dtype]
    assert relative(gated_tangent(value.contiguous(), gate, a, b), expected) < TOLERANCE[dtype]
    whole = torch.full_like(t, 7.0)
    halves = whole.split(channels, -1)[:: -1 if flipped else 1]
    found = gated_cotangent(u, a, b, out=halves)
    assert all(one is two for one, two in zip(found, halves, strict=True))
    exact = reference.gated_cotangent(u.double(), a.double(), b.double())
    for one, two, three in zip(halves, exact, gated_cotangent(u, a, b), strict=True):
        assert relative(one, two) < TOLERANCE[dtype]
        assert torch.equal(one, three)


def test_against_torch_func(draw):
    x, t, u = draw(5, 14), draw(3, 5, 14), draw(3, 5, 7)

    def f(z):
        value, gate = z.chunk(2, -1)
        return value * F.gelu(gate)

    value, gate = x.chunk(2, -1)
    a, slope = reference.activate(gate, "gelu")
    b = value * slope
    expected = torch.func.vmap(lambda v: torch.func.jvp(f, (x,), (v,))[1])(t)
    assert relative(gated_tangent(*t.chunk(2, -1), a, b), expected) < 1e-14
    expected = torch.func.vmap(lambda w: torch.func.vjp(f, x)[1](w)[0])(u)
    assert relative(torch.cat(gated_cotangent(u, a, b), -1), expected) < 1e-14


def test_non_contiguous_arguments(draw):
    value, gate, u = draw(3, 8, 5).transpose(1, 2), draw(5, 3, 8).transpose(0, 1), draw(3, 5, 16)[..., ::2]
    a, b = draw(8, 5).T, draw(10, 8)[::2]
    torch.testing.assert_close(gated_tangent(value, gate, a, b), a * value + b * gate)
    one, two = gated_cotangent(u, a, b)
    torch.testing.assert_close(one, a * u)
    torch.testing.assert_close(two, b * u)
    row = draw(3, 4, 8)[:, 1:2]  # one row a probe, far apart
    torch.testing.assert_close(gated_tangent(row, row, a[:1], b[:1]), (a[:1] + b[:1]) * row)
    odd = torch.as_strided(draw(24), (3, 1, 8), (8, 5, 1))  # a dimension of size one has any stride
    torch.testing.assert_close(gated_tangent(odd, odd, a[:1], b[:1]), (a[:1] + b[:1]) * odd)
    same = draw(8).expand(3, 5, 8)
    torch.testing.assert_close(gated_tangent(same, same, a, b), (a + b) * same)


def test_out_is_written_and_returned(draw):
    value, gate, a, b = draw(3, 5, 8), draw(3, 5, 8), draw(5, 8), draw(5, 8)
    out = torch.full_like(value, 7.0)
    assert gated_tangent(value, gate, a, b, out=out) is out
    assert torch.equal(out, gated_tangent(value, gate, a, b))


def test_nan_stays_where_it_is(draw):
    value, gate, a, b = draw(3, 5, 37), draw(3, 5, 37), draw(5, 37), draw(5, 37)
    clean = gated_tangent(value, gate, a, b)
    value[1, 2, 3], gate[2, 4, 36] = torch.nan, torch.inf
    found = gated_tangent(value, gate, a, b)
    touched = torch.zeros_like(found, dtype=torch.bool)
    touched[1, 2, 3] = touched[2, 4, 36] = True
    assert torch.equal(~found.isfinite(), touched)
    assert torch.equal(found[~touched], clean[~touched])
    for half in gated_cotangent(value, a, b):
        assert int(half.isnan().sum()) == 1


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty(device, shape):
    t, a = torch.empty(shape, device=device), torch.empty(shape[1:], device=device)
    assert gated_tangent(t, t, a, a).shape == shape
    assert gated_cotangent(t, a, a)[0].shape == shape


def test_same_bits_for_every_number_of_threads(draw):
    t, a, b = draw(6, 300, 96, dtype=torch.float32), *(draw(300, 96, dtype=torch.float32) for _ in range(2))
    first, *others = with_threads(lambda: torch.stack([gated_tangent(t, t, a, b), *gated_cotangent(t, a, b)]))
    assert all(torch.equal(first, other) for other in others)


T, A = torch.zeros(2, 3, 4), torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gated_tangent(T[0], T[0], A, A), ValueError, r"value must have shape \[P, R, C\], got \[3, 4\]"),
        (lambda: gated_tangent(T.int(), T, A, A), TypeError, "value must be float32.*got torch.int32"),
        (lambda: gated_tangent(T, T[:1], A, A), ValueError, r"gate must have shape \[2, 3, 4\]"),
        (lambda: gated_tangent(T, T, A[:1], A), ValueError, r"a must have shape \[3, 4\]"),
        (lambda: gated_tangent(T, T, A, A.double()), TypeError, "b must be torch.float32"),
        (lambda: gated_tangent(T, T, A, A, out=T), ValueError, "out must share no memory with value"),
        (lambda: gated_tangent(T, T, A, A, out=T.mT), ValueError, "out must have shape"),
        (lambda: gated_tangent(T, T, A, A, out=torch.zeros(3, 2, 4).transpose(0, 1)), ValueError, "out must be contig"),
        (lambda: gated_cotangent(T, A, A, out=(T, T + 1)), ValueError, r"out\[0\] must share no memory with u"),
        (lambda: gated_cotangent(T, A, A, out=(T + 1, T[..., :2])), ValueError, r"out\[1\] must have shape"),
        (
            lambda: gated_cotangent(T, A, A, out=(torch.zeros(2, 4, 3).mT, T + 1)),
            ValueError,
            r"out\[0\] must have channels side by side",
        ),
        (lambda: gated_tangent("t", T, A, A), TypeError, "value must be a tensor, got str"),
        (lambda: gated_tangent(T, T.clone().requires_grad_(), A, A), RuntimeError, "gate must be a plain tensor"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
