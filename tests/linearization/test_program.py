"""The program backend around its rules: tracing, memory, chunks, guards and what it says of itself."""

from __future__ import annotations

import functools
import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad

from latentjac import NonFiniteError, linearize
from latentjac.linearization import ProgramLinearization, TraceError

Tensor = torch.Tensor


class Block(nn.Module):
    """A residual block with attention, in which buffers are overwritten, split and added to."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(2, channels)
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor, t: Tensor | float = 1.0) -> Tensor:
        h = x + self.second(F.silu(self.norm(self.first(x)) * t))
        tokens = h.flatten(2).transpose(1, 2)
        q, k, v = (z.unflatten(-1, (2, -1)).transpose(1, 2) for z in self.qkv(tokens).chunk(3, -1))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return h + (tokens + self.out(attended)).transpose(1, 2).reshape(h.shape)


@pytest.fixture
def block() -> Block:
    torch.manual_seed(0)
    return Block().double().requires_grad_(False)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 8, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_every_way_to_write_a_function_is_the_same(block: Block, x: Tensor) -> None:
    class Holder:
        def __init__(self) -> None:
            self.inner = {"net": [block]}

        def run(self, z: Tensor) -> Tensor:
            return self.inner["net"][0](z)

    v = torch.randn(3, *x.shape, dtype=x.dtype)
    expected = linearize(block, x, backend="autodiff").jvp(v)
    for f in (
        block,
        block.forward,
        lambda z: block(z),
        functools.partial(lambda net, z: net(z), block),
        functools.partial(block, t=torch.ones((), dtype=x.dtype)),
        Holder().run,
        nn.Sequential(block),
    ):
        torch.testing.assert_close(linearize(f, x, backend="program").jvp(v), expected, rtol=1e-10, atol=1e-12)


def test_networks_are_left_as_they_were(block: Block, x: Tensor) -> None:
    block.train().requires_grad_(True)
    before = {name: (p, p.clone()) for name, p in block.named_parameters()}
    lin = linearize(block, x, backend="program")
    assert not lin.jvp(torch.ones(1, *x.shape, dtype=x.dtype)).requires_grad
    assert block.training
    for name, parameter in block.named_parameters():
        assert parameter is before[name][0]
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name][1])


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7])
def test_chunks_change_nothing(block: Block, x: Tensor, chunk_size: int) -> None:
    whole = ProgramLinearization(block, x, chunk_size=7)
    parts = ProgramLinearization(block, x, chunk_size=chunk_size)
    v, u = (torch.randn(7, *x.shape, dtype=x.dtype) for _ in range(2))
    torch.testing.assert_close(parts.jvp(v), whole.jvp(v))
    torch.testing.assert_close(parts.vjp(u), whole.vjp(u))


def test_a_memory_limit_makes_chunks(block: Block, x: Tensor) -> None:
    lin = ProgramLinearization(block, x, memory_limit=1)
    assert lin.program.chunk_size(1) == 1
    v = torch.randn(3, *x.shape, dtype=x.dtype)
    torch.testing.assert_close(lin.jvp(v), ProgramLinearization(block, x).jvp(v))


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_halves_the_chunk_and_says_so_once(
    block: Block, x: Tensor, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lin = ProgramLinearization(block, x, chunk_size=8)
    v = torch.randn(8, *x.shape, dtype=x.dtype)
    expected, tangent, sizes = lin.jvp(v), lin.program.tangent, []

    def limited(probes: Tensor) -> Tensor:
        sizes.append(len(probes))
        if len(probes) > 3:
            raise error
        return tangent(probes)

    monkeypatch.setattr(lin.program, "tangent", limited)
    with caplog.at_level(logging.WARNING, "latentjac"):
        torch.testing.assert_close(lin.jvp(v), expected)
        lin.jvp(v)
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert sum("out of memory" in r.getMessage() for r in caplog.records) == 2  # to 4, then to 2


def test_errors_of_other_kinds_are_not_taken_for_a_lack_of_memory(block: Block, x: Tensor) -> None:
    lin = ProgramLinearization(block, x)

    def broken(probes: Tensor) -> Tensor:
        raise RuntimeError("something else")

    lin.program.tangent = broken
    with pytest.raises(RuntimeError, match="something else"):
        lin.jvp(torch.ones(1, *x.shape, dtype=x.dtype))


def test_probes_and_points_are_never_written_to(block: Block, x: Tensor) -> None:
    for f in (block, lambda z: z.reshape(2, -1), lambda z: z, lambda z: F.silu(z), lambda z: z + block.first(z)):
        point = x.clone()
        lin = ProgramLinearization(f, point)
        v, u = torch.randn(2, *x.shape, dtype=x.dtype), torch.randn(2, *lin.y.shape, dtype=x.dtype)
        kept = v.clone(), u.clone()
        first = lin.jvp(v), lin.vjp(u)
        again = lin.jvp(v), lin.vjp(u)
        assert torch.equal(v, kept[0])
        assert torch.equal(u, kept[1])
        assert torch.equal(point, x)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        first[0].zero_()
        assert torch.equal(v, kept[0])


def test_results_belong_to_the_caller(block: Block, x: Tensor) -> None:
    lin = ProgramLinearization(block, x)
    v, y = torch.randn(2, *x.shape, dtype=x.dtype), lin.y.clone()
    first = lin.jvp(v)
    kept = first.clone()
    lin.jvp(2 * v)
    lin.y.clone()
    assert torch.equal(first, kept)
    first.zero_()
    torch.testing.assert_close(lin.jvp(v), kept, rtol=0, atol=0)
    assert torch.equal(lin.y, y)
    assert first.is_contiguous()


def test_memory_does_not_grow(block: Block, x: Tensor) -> None:
    lin = ProgramLinearization(block, x)
    v = torch.randn(4, *x.shape, dtype=x.dtype)
    lin.jvp(v)
    peak = lin.program.arena.peak_bytes
    for _ in range(50):
        lin.jvp(v)
        lin.vjp(v)
        lin.rebase(x)
    assert 0 < peak <= lin.program.arena.peak_bytes < 12 * v.nbytes


def test_the_layout_of_the_point_does_not_matter(block: Block, x: Tensor) -> None:
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    expected = ProgramLinearization(block, x).jvp(v)
    strange = x.transpose(2, 3).contiguous().transpose(2, 3)
    for point in (x.to(memory_format=torch.channels_last), strange):
        torch.testing.assert_close(ProgramLinearization(block, point).jvp(v), expected)
    probes = v.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 2))
    torch.testing.assert_close(ProgramLinearization(block, x).jvp(probes), expected)


def test_rebase_takes_numbers_and_checks_shapes(block: Block, x: Tensor) -> None:
    lin = ProgramLinearization(block, x, 2.0)
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    lin.rebase(x, 3.0)
    torch.testing.assert_close(lin.jvp(v), ProgramLinearization(block, x, 3.0).jvp(v))
    with pytest.raises(ValueError, match=r"rebase: x must be \[2, 8, 6, 5\]"):
        lin.rebase(x[:1])
    with pytest.raises(ValueError, match="rebase: constants must be 1 values or none, got 2"):
        lin.rebase(x, 1.0, 2.0)
    with pytest.raises(ValueError, match="rebase: x must be finite"):
        lin.rebase(x * torch.nan)


def test_the_table_shows_what_was_fused(block: Block, x: Tensor) -> None:
    text = linearize(block, x, torch.ones((), dtype=x.dtype), backend="program").program.describe()
    assert "norm_act" in text
    assert "+= residual" in text
    assert "group_norm + mul + silu" in text
    assert "FLOP a probe and pass" in text
    assert "without a rule" not in text


def test_bad_arguments_are_named(x: Tensor) -> None:
    with pytest.raises(ValueError, match="linearize: chunk_size must be at least 1, got 0"):
        ProgramLinearization(torch.sin, x, chunk_size=0)
    with pytest.raises(ValueError, match="linearize: f must return a batch of 2 points"):
        ProgramLinearization(lambda z: z.sum(), x)
    with pytest.raises(TypeError, match=r"linearize: f must return one floating-point torch.Tensor, got tuple"):
        ProgramLinearization(lambda z: (z, z), x)
    with pytest.raises(TraceError, match=r"torch.export failed"):
        linearize(lambda z: z.sin() if z.sum() > 0 else z, x, backend="program")
    with pytest.raises(TraceError, match="cannot be part of a trace"):
        linearize(lambda z: z + torch.randn_like(z), x, backend="program")
    with pytest.raises(TraceError):
        linearize(nn.Sequential(nn.Dropout(0.5)).train(), x, backend="program")
    with pytest.raises(NonFiniteError, match="linearize: f must be finite at x"):
        linearize(lambda z: (z - z).log(), x, backend="program")


def test_products_refuse_to_be_differentiated(block: Block, x: Tensor) -> None:
    lin = linearize(block, x, backend="program")
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    for product in (lin.jvp, lin.vjp):
        with pytest.raises(RuntimeError, match="requires grad"):
            product(v.clone().requires_grad_())
        with torch.no_grad():
            product(v.clone().requires_grad_())
        with pytest.raises(RuntimeError, match=r"torch.func"):
            torch.func.jvp(product, (v,), (v,))
        with pytest.raises(RuntimeError, match=r"torch.func"):
            torch.func.vmap(product)(v[None])
        with forward_ad.dual_level(), pytest.raises(RuntimeError, match="forward-mode"):
            product(forward_ad.make_dual(v, v))
    with pytest.raises(RuntimeError, match=r"torch.func"):
        torch.func.jvp(lambda z: linearize(block, z).y, (x,), (x,))


def test_products_refuse_to_be_compiled(block: Block, x: Tensor) -> None:
    lin = linearize(block, x, backend="program")
    v = torch.randn(2, *x.shape, dtype=x.dtype)
    with pytest.raises(Exception, match="cannot be traced"):
        torch.compile(lambda z: lin.jvp(z * 2), backend="eager", fullgraph=True)(v)
