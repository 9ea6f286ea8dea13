"""csrc/cuda/attention_*.cu, run on the CPU, against torch.func in float64."""

import itertools
import math

import pytest
import torch
from truth import relative

from latentjac.kernels import attention_cotangent, attention_primal, attention_tangent

# batch, heads, queries, keys, channels, value channels, probes: the head sizes of diffusion networks, then odd ones.
SHAPES = [
    pytest.param((1, 2, 70, 70, 40, 40, 3), id="40"),
    pytest.param((2, 1, 64, 128, 64, 64, 2), id="64"),
    pytest.param((1, 1, 65, 33, 80, 80, 2), id="80"),
    pytest.param((1, 1, 40, 130, 128, 128, 2), id="128"),
    pytest.param((1, 1, 35, 70, 160, 160, 3), id="160"),
    pytest.param((1, 1, 20, 16, 512, 512, 1), id="512"),
    pytest.param((1, 2, 67, 13, 5, 7, 3), id="odd-channels"),
    pytest.param((2, 2, 17, 77, 24, 50, 2), id="more-value-channels"),
    pytest.param((1, 1, 30, 66, 136, 20, 2), id="fewer-value-channels"),
    pytest.param((1, 1, 1, 1, 1, 1, 1), id="one"),
]
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 6e-4}
TF32 = 1e-3
NAMES = ("dq", "dk", "dv")
# Types, and whether factors may be rounded to tf32.
KINDS = [
    *(pytest.param(dtype, False, id=str(dtype)) for dtype in TOLERANCE),
    pytest.param(torch.float32, True, id="tf32"),
]


class Case:
    """Inputs, their primal, and the kernels' results."""

    def __init__(self, shape, dtype, bias=None, causal=False, allow_tf32=False, seed=5):
        self.dtype, self.causal = dtype, causal
        self.allow_tf32, self.tolerance = allow_tf32, TF32 if allow_tf32 else TOLERANCE[dtype]
        batch, heads, n, m, d, e, self.probes = shape
        self.generator = torch.Generator().manual_seed(seed)
        self.scale = 1 / math.sqrt(d)
        self.sizes = {"q": (n, d), "k": (m, d), "v": (m, e), "o": (n, e)}
        self.batch, self.heads = batch, heads
        self.q, self.k, self.v = (self.draw(name) for name in "qkv")
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        self.bias = None if bias is None else bias.to(wide)
        self.attend()

    def attend(self):
        self.primal = attention_primal(
            self.q, self.k, self.v, bias=self.bias, causal=self.causal, allow_tf32=self.allow_tf32
        )
        self.o, self.lse = self.primal.o, self.primal.lse

    def draw(self, name, *probes):
        """[(probe,) batch, head, row, channel], stored with the heads of a row side by side."""
        rows, channels = self.sizes[name]
        shape = (*probes, self.batch, rows, self.heads, channels)
        return torch.randn(shape, generator=self.generator, dtype=torch.float64).to(self.dtype).transpose(-3, -2)

    def tangent(self, dq=None, dk=None, dv=None, into=None):
        return attention_tangent(self.primal, dq, dk, dv, out=into, accumulate=into is not None)

    def cotangent(self, u, wanted=NAMES):
        found = attention_cotangent(self.primal, u, wanted=tuple(name in wanted for name in NAMES))
        return {name: t for name, t in zip(NAMES, found, strict=True) if t is not None}

    # ---- The oracle ----

    def scores(self, q, k):
        s = self.scale * q @ k.transpose(-1, -2)
        if self.bias is not None:
            s = s + self.bias.double()
        if self.causal:
            hidden = torch.ones(s.shape[-2:], dtype=torch.bool).triu(1)
            s = s.masked_fill(hidden, -math.inf)
        return s

    def oracle(self):
        """The float64 map and its arguments."""
        arguments = tuple(x.double() for x in (self.q, self.k, self.v))
        shift = self.scores(*arguments[:2]).amax(-1, keepdim=True)
        shift = torch.where(shift == -math.inf, 0.0, shift)

        def attend(q, k, v):
            weights = torch.exp(self.scores(q, k) - shift)
            return weights @ v / weights.sum(-1, keepdim=True).clamp_min(1e-300)

        return attend, arguments

    def expected_tangent(self, dq, dk, dv):
        attend, arguments = self.oracle()
        return torch.stack([
            torch.func.jvp(attend, arguments, tuple(
                torch.zeros_like(a) if t is None else t[i].double()
                for a, t in zip(arguments, (dq, dk, dv), strict=True)
            ))[1]
            for i in range(self.probes)
        ])  # fmt: skip

    def expected_cotangent(self, u):
        attend, arguments = self.oracle()
        pullback = torch.func.vjp(attend, *arguments)[1]
        return {name: torch.stack(parts) for name, parts in
                zip(NAMES, zip(*(pullback(w.double()) for w in u), strict=True), strict=True)}  # fmt: skip


def check(case, tolerance=None):
    tolerance = case.tolerance if tolerance is None else tolerance
    attend, arguments = case.oracle()
    assert relative(case.o, attend(*arguments)) < tolerance
    lse = torch.logsumexp(case.scores(*arguments[:2]), -1)
    seen = lse > -math.inf
    assert torch.equal(case.lse == -math.inf, ~seen)
    assert relative(case.lse[seen], lse[seen]) < (TF32 if case.allow_tf32 else 1e-6)
    tangents = [case.draw(name, case.probes) for name in "qkv"]
    assert relative(case.tangent(*tangents), case.expected_tangent(*tangents)) < tolerance
    u = case.draw("o", case.probes)
    wanted = case.expected_cotangent(u)
    # dq and dk of one key are 0: nothing to be relative to.
    names = NAMES if case.sizes["k"][0] > 1 else ("dv",)
    for name, found in case.cotangent(u).items():
        if name in names:
            assert relative(found, wanted[name]) < tolerance, name


WIDE = ("128", "160", "512")
# float32's tiles are tf32's with factors of two parts: many channels are tested with those alone, a third of the work.
CASES = [
    pytest.param(*shape.values, *kind.values, id=f"{shape.id}-{kind.id}")
    for shape in SHAPES
    for kind in KINDS
    if not (shape.id in WIDE and kind.id == "torch.float32")
]


@pytest.mark.parametrize(("shape", "dtype", "allow_tf32"), CASES)
def test_against_torch_func(emulated, shape, dtype, allow_tf32):
    check(Case(shape, dtype, allow_tf32=allow_tf32))


@pytest.mark.parametrize(("dtype", "channels"), [(torch.float32, 64), (torch.bfloat16, 128)], ids=str)
def test_a_device_with_less_shared_memory(emulated, dtype, channels):
    """Consumer GPUs give a block 99 KB, less than tiles of whole rows take."""
    case = Case((1, 1, 40, 33, channels, channels, 2), dtype)
    tangents = [case.draw(name, case.probes) for name in "qkv"]
    emulated.products()
    case.tangent(*tangents)
    whole = emulated.products()
    with emulated.shared_limit(99):
        check(case)
        emulated.products()
        case.tangent(*tangents)
    assert emulated.products() != whole, "other tiles"


@pytest.mark.parametrize(("channels", "keys"), [(40, 67), (80, 13)])
def test_tf32_takes_a_third_of_the_products_and_rounds_all(emulated, channels, keys):
    errors, products = {}, {}
    for allow in (False, True):
        emulated.products()
        case = Case((1, 1, 67, keys, channels, channels, 2), torch.float32, allow_tf32=allow)
        attend, arguments = case.oracle()
        tangents, u = [case.draw(name, 2) for name in "qkv"], case.draw("o", 2)
        given = [[t if i == j else None for j, t in enumerate(tangents)] for i in range(3)]
        wanted = case.expected_cotangent(u)
        errors[allow], products[allow] = [relative(case.o, attend(*arguments))], [emulated.products()]
        for each in given:
            errors[allow].append(relative(case.tangent(*each), case.expected_tangent(*each)))
            products[allow].append(emulated.products())
        errors[allow] += [relative(found, wanted[name]) for name, found in case.cotangent(u).items()]
        products[allow].append(emulated.products())
    assert max(errors[False]) < 1e-6
    assert 1e-4 < min(errors[True]) < max(errors[True]) < TF32
    assert products[False] == [3 * n for n in products[True]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_other_types_take_no_notice_of_tf32(emulated, dtype):
    plain, allowed = (Case((1, 1, 20, 33, 24, 24, 2), dtype, allow_tf32=allow) for allow in (False, True))
    u = plain.draw("o", 2)
    assert torch.equal(plain.o, allowed.o)
    found = [case.cotangent(u) for case in (plain, allowed)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in NAMES)


@pytest.mark.parametrize(("channels", "keys"), [(40, 13), (80, 67)])
def test_adjoint_in_tf32(emulated, channels, keys):
    case = Case((1, 1, 67, keys, channels, channels, 2), torch.float32, allow_tf32=True)
    tangents, u = [case.draw(name, case.probes) for name in "qkv"], case.draw("o", case.probes)
    do, back = case.tangent(*tangents).double(), case.cotangent(u).values()
    pulled = sum((t.double() * b.double()).sum() for t, b in zip(tangents, back, strict=True))
    difference = (u.double() * do).sum() - pulled
    assert abs(difference) < 5e-5 * u.double().norm() * do.norm()


@pytest.mark.parametrize("channels", [40, 80])
def test_what_rounding_does_to_slopes_counts_times_v_minus_o(emulated, channels):
    case = Case((1, 1, 70, 70, channels, channels, 1), torch.float32, allow_tf32=True)
    case.v.mul_(4).round_().add_(256)  # tf32 holds these
    attend, arguments = case.oracle()
    case.o.copy_(attend(*arguments))
    tangents = [case.draw("q", 1), case.draw("k", 1), None]
    assert relative(case.tangent(*tangents), case.expected_tangent(*tangents)) < TF32
    u = case.draw("o", 1)
    wanted = case.expected_cotangent(u)
    for name, found in case.cotangent(u).items():
        assert relative(found, wanted[name]) < TF32, name


@pytest.mark.parametrize(("channels", "dtype"), [(16, torch.float64), (130, torch.bfloat16)], ids=str)
def test_causal(emulated, channels, dtype):
    check(Case((1, 1, 100, 90, channels, channels, 2), dtype, causal=True))


@pytest.mark.parametrize("channels", [16, 130])
def test_causal_with_keys_that_no_query_sees(emulated, channels):
    case = Case((1, 1, 20, 140, channels, channels, 1), torch.bfloat16, causal=True)
    check(case)
    found = case.cotangent(case.draw("o", 1))
    assert all((found[name][..., 20:, :] == 0).all() for name in ("dk", "dv"))


@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((2, 2, 20, 70), torch.float64),
        ((2, 2, 20, 70), torch.bfloat16),
        ((1, 1, 1, 70), torch.bfloat16),
        ((2, 1, 20, 1), torch.float64),
        ((1, 2, 1, 1), torch.bfloat16),
    ],
    ids=str,
)
def test_bias_is_broadcast_and_forbids(emulated, size, dtype):
    generator = torch.Generator().manual_seed(7)
    bias = torch.randn(size, generator=generator)
    if size[-1] > 1:
        bias[..., 3:9] = -math.inf
    if size[-2] > 1:
        bias[-1, -1, 5] = -math.inf  # a row that sees no key
    case = Case((2, 2, 20, 70, 24, 24, 2), dtype, bias=bias)
    check(case)
    if size[-2] > 1:
        assert (case.o[-1, -1, 5] == 0).all()


@pytest.mark.parametrize(
    ("channels", "dtype", "allow_tf32"),
    [(40, torch.float64, False), (160, torch.float32, True), (40, torch.float16, False)],
    ids=str,
)
def test_every_subset_of_arrays(emulated, channels, dtype, allow_tf32):
    case = Case((1, 1, 70, 10, channels, channels, 1), dtype, allow_tf32=allow_tf32)
    tangents = [case.draw(name, 1) for name in "qkv"]
    u = case.draw("o", 1)
    wanted = case.expected_cotangent(u)
    for kept in itertools.product([False, True], repeat=3):
        if not any(kept):
            continue
        given = [t if keep else None for t, keep in zip(tangents, kept, strict=True)]
        assert relative(case.tangent(*given), case.expected_tangent(*given)) < case.tolerance
        names = [name for name, keep in zip(NAMES, kept, strict=True) if keep]
        for name, found in case.cotangent(u, names).items():
            assert relative(found, wanted[name]) < case.tolerance, name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_tangent_is_added(emulated, dtype):
    case = Case((1, 2, 33, 20, 18, 22, 3), dtype)
    tangents = [case.draw(name, case.probes) for name in "qkv"]
    start = case.draw("o", case.probes)
    expected = start.double() + case.expected_tangent(*tangents)
    assert relative(case.tangent(*tangents, into=start), expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("size", [2.0**-8, 2.0**4], ids=str)
def test_float16_keeps_the_precision_of_small_and_large_probes(emulated, size):
    case = Case((1, 1, 40, 300, 16, 16, 1), torch.float16)
    tangents = [case.draw(name, 1).mul_(size) for name in "qkv"]
    assert relative(case.tangent(*tangents), case.expected_tangent(*tangents)) < TOLERANCE[torch.float16]
    u = case.draw("o", 1).mul_(size)
    wanted = case.expected_cotangent(u)
    # dv of so many keys is small enough to lose bits when it is stored.
    for name, found in case.cotangent(u).items():
        assert relative(found, wanted[name]) < 4 * TOLERANCE[torch.float16], name


def test_rows_that_are_not_aligned(emulated):
    """q, k and v out of one array, behind an odd channel: no 16-byte access fits."""
    case = Case((1, 1, 40, 40, 24, 24, 1), torch.bfloat16)
    stored = torch.randn(1, 1, 40, 73, generator=case.generator).bfloat16()
    case.q, case.k, case.v = stored[..., 1:25], stored[..., 25:49], stored[..., 49:]
    case.attend()
    check(case)


def test_a_nan_stays_in_its_row_in_tf32(emulated):
    case = Case((1, 1, 70, 70, 16, 16, 1), torch.float32, allow_tf32=True)
    case.q[0, 0, 7, 3] = math.nan
    case.attend()
    bad = case.o.isnan().any(-1)[0, 0]
    assert bad[7]
    assert bad.sum() == 1


def test_errors_name_the_shapes(emulated):
    q, k = torch.randn(1, 1, 4, 8), torch.randn(1, 1, 1, 8)
    with pytest.raises(RuntimeError, match=r"attention: a size is out of range \(probes=1, .*keys=1099511627775"):
        attention_primal(q, k.expand(1, 1, (1 << 40) - 1, 8), k.expand(1, 1, (1 << 40) - 1, 8))
