"""Attention kernels against softmax attention differentiated by torch.func in float64."""

import itertools

import pytest
import torch
from devices import with_threads
from pairwise import pairwise

from latentjac.kernels import (
    attention_cotangent,
    attention_primal,
    attention_tangent,
    rowwise_product,
)

# B, H, N, M, D, E: vectors that are not full, several blocks of lanes and rows, one key, unequal channels, one head.
SHAPES = [
    pytest.param((1, 2, 16, 16, 8, 8), id="small"),
    pytest.param((2, 3, 37, 21, 5, 5), id="odd"),
    pytest.param((1, 2, 70, 131, 40, 40), id="several-blocks"),
    pytest.param((1, 1, 9, 1, 16, 16), id="one-key"),
    pytest.param((2, 1, 33, 65, 12, 7), id="unequal-channels"),
    pytest.param((1, 1, 40, 40, 160, 160), id="wide"),
]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 4e-6}
GIVEN = [subset for n in (1, 2, 3) for subset in itertools.combinations("qkv", n)]


def attend(q, k, v, bias=None, causal=False):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return torch.softmax(scores, -1) @ v


def relative(found, expected):
    # A single key leaves no derivative by scores: nothing to be relative to.
    return float((found.double() - expected).norm() / expected.norm().clamp_min(1.0))


@pytest.fixture
def exact(on_cuda):
    """A type and what it is held to: for CUDA the one whose kernels work in tiles."""
    return (torch.float32, 4e-6) if on_cuda else (torch.float64, 1e-12)


@pytest.fixture
def case(draw, exact):
    def make(shape, dtype=None, probes=3):
        dtype = exact[0] if dtype is None else dtype
        b, h, n, m, d, e = shape
        q, k, v = draw(b, h, n, d, dtype=dtype), draw(b, h, m, d, dtype=dtype), draw(b, h, m, e, dtype=dtype)
        tangents = {
            "q": draw(probes, b, h, n, d, dtype=dtype),
            "k": draw(probes, b, h, m, d, dtype=dtype),
            "v": draw(probes, b, h, m, e, dtype=dtype),
        }
        return q, k, v, tangents, draw(probes, b, h, n, e, dtype=dtype)

    return make


def check(q, k, v, tangents, u, tolerance, given="qkv", **settings):
    """Primal, tangent of the arguments in `given`, cotangents of the same, against torch.func."""
    wide = {"q": q.double(), "k": k.double(), "v": v.double()}
    oracle_settings = {key: t.double() if isinstance(t, torch.Tensor) else t for key, t in settings.items()}

    def f(*active):
        return attend(**{**wide, **dict(zip(given, active, strict=True))}, **oracle_settings)

    primal = attention_primal(q, k, v, **settings)
    at = tuple(wide[name] for name in given)
    assert relative(primal.o, f(*at)) < tolerance
    chosen = {f"d{name}": tangents[name] for name in given}
    expected = torch.stack(
        [torch.func.jvp(f, at, tuple(t[p].double() for t in chosen.values()))[1] for p in range(len(u))]
    )
    found = attention_tangent(primal, **chosen)
    assert found.shape == u.shape
    assert relative(found, expected) < tolerance
    pull = torch.func.vjp(f, *at)[1]
    back = [torch.stack(parts) for parts in zip(*(pull(w.double()) for w in u), strict=True)]
    results = attention_cotangent(primal, u, wanted=tuple(name in given for name in "qkv"))
    assert [name for name, r in zip("qkv", results, strict=True) if r is not None] == list(given)
    for result, truth in zip([r for r in results if r is not None], back, strict=True):
        assert relative(result, truth) < 2 * tolerance


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention_matches_torch_func(shape, dtype, case):
    check(*case(shape, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("given", GIVEN, ids="".join)
def test_absent_tangents_are_zero(given, case, exact):
    check(*case((2, 2, 35, 40, 8, 6)), exact[1], given=given)


@pytest.mark.parametrize("probes", [1, 2, 25])
def test_any_number_of_probes(probes, case, exact):
    check(*case((1, 2, 33, 70, 8, 8), probes=probes), exact[1])


@pytest.mark.parametrize("shape", [(2, 3, 35, 40), (1, 3, 1, 40), (2, 1, 35, 1), (40,)], ids=str)
def test_bias_broadcasts(shape, case, draw, exact):
    check(*case((2, 3, 35, 40, 8, 8)), exact[1], bias=draw(*shape, dtype=exact[0]))


def test_forbidden_keys_have_no_part(case, device, exact):
    q, k, v, tangents, u = case((1, 2, 70, 90, 8, 8))
    bias = torch.zeros(70, 90, dtype=exact[0], device=device)
    bias[:, 80:] = -torch.inf
    bias[3, 1:] = -torch.inf
    check(q, k, v, tangents, u, exact[1], bias=bias)
    k[..., 80:, :] = 1e3
    again = attention_primal(q, k, v, bias=bias)
    assert relative(again.o, attend(*(t.double() for t in (q, k, v, bias)))) < exact[1]


@pytest.mark.parametrize("shape", [(1, 2, 70, 70, 8, 8), (1, 1, 100, 40, 8, 8), (1, 1, 40, 100, 8, 8)], ids=str)
def test_causal(shape, case, exact):
    check(*case(shape), exact[1], causal=True)


def test_a_query_that_sees_no_key_is_zero(case, device, exact):
    q, k, v, tangents, u = case((1, 1, 20, 30, 4, 4))
    bias = torch.zeros(20, 30, dtype=exact[0], device=device)
    bias[5] = -torch.inf
    primal = attention_primal(q, k, v, bias=bias)
    assert primal.lse[0, 0, 5] == -torch.inf
    assert (primal.o[0, 0, 5] == 0).all()
    found = attention_tangent(primal, tangents["q"], tangents["k"], tangents["v"])
    assert (found[:, 0, 0, 5] == 0).all()
    assert found.isfinite().all()
    assert all(t.isfinite().all() for t in attention_cotangent(primal, u))


def test_large_scores_stay_finite(case):
    q, k, v, tangents, u = case((1, 1, 33, 70, 8, 8), torch.float32)
    check(100 * q, k, v, tangents, u, 1e-4)


def test_nan_stays_in_its_row(case):
    q, k, v, tangents, _ = case((1, 2, 40, 70, 8, 8), torch.float32)
    q[0, 1, 7, 3] = torch.nan
    primal = attention_primal(q, k, v)
    bad = primal.o.isnan().any(-1)
    assert bad[0, 1, 7]
    assert bad.sum() == 1
    found = attention_tangent(primal, tangents["q"], tangents["k"], tangents["v"]).isnan().any(-1)
    assert found[:, 0, 1, 7].all()
    assert found.sum() == len(found)


def test_one_tangent_for_all_queries(case, exact):
    q, k, v, t, _ = case((2, 3, 37, 70, 8, 5))
    primal = attention_primal(q, k, v)
    one = t["q"][:, :, :, :1].expand_as(t["q"])
    expected = attention_tangent(primal, one.contiguous())
    torch.testing.assert_close(attention_tangent(primal, one), expected, rtol=exact[1], atol=exact[1] / 10)


def test_arrays_may_be_strided(draw, exact):
    b, h, n, d, p = 2, 3, 35, 8, 4
    dtype, tolerance = exact
    whole, tangents = draw(b, n, 3, h, d, dtype=dtype), draw(p, b, n, 3, h, d, dtype=dtype)
    u = draw(p, b, n, h, d, dtype=dtype).transpose(2, 3)
    q, k, v = (whole[:, :, i].transpose(1, 2) for i in range(3))
    names = {name: tangents[:, :, :, i].transpose(2, 3) for i, name in enumerate("qkv")}
    check(q, k, v, names, u, tolerance)
    apart = {name: t.mT.contiguous().mT for name, t in names.items()}
    check(q.mT.contiguous().mT, k, v, apart, u.mT.contiguous().mT, tolerance)


def test_results_go_where_they_are_asked_for(case, draw, exact):
    q, k, v, t, u = case((1, 2, 35, 35, 8, 8))
    primal = attention_primal(q, k, v)
    expected = attention_tangent(primal, t["q"], t["k"], t["v"])
    start = draw(*expected.shape, dtype=exact[0])
    out = start.clone()
    assert attention_tangent(primal, t["q"], t["k"], t["v"], out=out, accumulate=True) is out
    torch.testing.assert_close(out, start + expected, rtol=exact[1], atol=exact[1])
    joint = q.new_empty(len(u), 1, 35, 3, 2, 8)
    buffers = tuple(joint[:, :, :, i].transpose(2, 3) for i in range(3))
    results = attention_cotangent(primal, u, out=buffers)
    assert all(a is b for a, b in zip(results, buffers, strict=True))
    for result, truth in zip(results, attention_cotangent(primal, u), strict=True):
        torch.testing.assert_close(result, truth, rtol=0, atol=0)


def test_tangent_and_cotangent_are_adjoint(case, exact):
    q, k, v, t, u = case((2, 3, 70, 45, 8, 5))
    primal = attention_primal(q, k, v)
    forward = (attention_tangent(primal, t["q"], t["k"], t["v"]) * u).flatten(1).sum(1)
    back = sum(
        (result * t[name]).flatten(1).sum(1) for name, result in zip("qkv", attention_cotangent(primal, u), strict=True)
    )
    assert ((forward - back).abs() < exact[1] * u.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("channels", [40, 80])
def test_tf32_is_for_cuda_kernels(case, on_cuda, channels):
    q, k, v, t, u = case((1, 2, 67, 45, channels, channels), torch.float32)
    results = []
    for allow in (False, True):
        primal = attention_primal(q, k, v, allow_tf32=allow)
        results.append((primal.o, attention_tangent(primal, t["q"], t["k"], t["v"]), *attention_cotangent(primal, u)))
    differences = [relative(rounded, whole.double()) for whole, rounded in zip(*results, strict=True)]
    if on_cuda:
        assert 1e-5 < min(differences) < max(differences) < 2e-3
    else:
        assert max(differences) == 0


def test_same_bits_for_any_number_of_threads(case):
    q, k, v, t, u = case((1, 2, 70, 70, 8, 8), torch.float32, 7)

    def run():
        primal = attention_primal(q, k, v)
        return primal.o, attention_tangent(primal, t["q"], t["k"], t["v"]), *attention_cotangent(primal, u)

    first, *others = with_threads(run)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)], indirect=True)
@pytest.mark.parametrize(
    ("sizes", "probes", "dtype"),
    pairwise(
        [(1, 6, 2, 8, 8), (2, 5, 3, 40, 40), (1, 4, 1, 5, 7), (1, 3, 2, 17, 33)],
        [1, 5, 17],
        [torch.float64, torch.float32],
    ),
    ids=str,
)
def test_rowwise_product(sizes, probes, dtype, draw):
    b, n, h, d, e = sizes
    matrices, t = draw(b, n, h, d, e, dtype=dtype), draw(probes, b, n, h, d, dtype=dtype).transpose(2, 3)
    truth = torch.einsum("pbhnd,bnhde->pbhne", t.double(), matrices.double())
    assert relative(rowwise_product(matrices, t), truth) < TOLERANCE[dtype]
    assert relative(rowwise_product(matrices, t.mT.contiguous().mT), truth) < TOLERANCE[dtype]
    out = draw(probes, b, h, n, e, dtype=dtype)
    assert rowwise_product(matrices, t, out=out) is out
    assert relative(out, truth) < TOLERANCE[dtype]
