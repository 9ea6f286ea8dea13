"""Each operator's tangent and transpose against dense float64 Jacobians."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.activations import ACT2CLS
from networks import rand
from torch import nn
from truth import check, fallbacks

from latentjac.linearization.autodiff import AutodiffLinearization
from latentjac.linearization.compiled import ProgramLinearization
from latentjac.linearization.rules import attention

Tensor = torch.Tensor


CONVOLUTIONS = {
    "plain": dict(padding=1),
    "no padding": dict(),
    "stride 2": dict(stride=2, padding=1),
    "stride (2, 1)": dict(stride=(2, 1), padding=(1, 0)),
    "dilation": dict(dilation=2, padding=2),
    "dilation and stride": dict(dilation=2, padding=1, stride=2),
    "groups": dict(groups=2, padding=1),
    "depthwise": dict(groups=4, padding=1),
    "wide padding": dict(padding=4),
    "same": dict(padding="same"),
    "valid": dict(padding="valid"),
}


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolution(options: dict) -> None:
    check(nn.Conv2d(4, 8, 3, **options).double(), rand(2, 4, 7, 6))


def test_convolutions_of_other_sizes() -> None:
    check(nn.Conv2d(4, 6, 1).double(), rand(2, 4, 5, 5))
    check(nn.Conv2d(4, 6, 5, padding=2, bias=False).double(), rand(1, 4, 6, 6))
    check(nn.Conv2d(4, 6, (1, 3), padding=(0, 1)).double(), rand(2, 4, 5, 5))
    check(nn.Conv2d(4, 4, 2, stride=2).double(), rand(2, 4, 7, 5))
    check(nn.Conv1d(4, 6, 3, stride=2, padding=1).double(), rand(2, 4, 9))
    check(nn.Conv3d(2, 4, 3, padding=1).double(), rand(2, 2, 3, 4, 4))
    check(nn.Conv2d(4, 6, 2, padding="same").double(), rand(2, 4, 5, 5), fallback=True)


def test_residual_convolutions_add_in_place_only_where_that_is_safe() -> None:
    a, b = nn.Conv2d(4, 4, 3, padding=1).double(), nn.Conv2d(4, 4, 1).double()
    x = rand(2, 4, 5, 5)
    check(lambda z: z + a(z), x)
    check(lambda z: a(z) + b(z), x)
    check(lambda z: a(z) + a(z).relu(), x)
    check(lambda z: (h := a(z)) + b(h) + h.sin(), x)
    check(lambda z: (h := a(z)) + b(F.silu(h)) + b(h), x)
    check(lambda z: z.tanh() + a(z), x)
    check(lambda z: (h := a(z)) * (h + b(z)), x)


@pytest.mark.parametrize("name", [*ACT2CLS, "gelu tanh"])
def test_activations(name: str) -> None:
    module = nn.GELU(approximate="tanh") if name == "gelu tanh" else ACT2CLS[name]()
    check(module, rand(2, 3, 4))


@pytest.mark.parametrize(
    "f",
    [torch.sigmoid, torch.tanh,
     F.softplus, F.elu, F.leaky_relu, F.hardswish, torch.exp, torch.sin, torch.cos, torch.abs,
     torch.square, torch.neg, lambda x: x**3, lambda x: (x * x + 1).sqrt(), lambda x: (x * x + 1).rsqrt(),
     lambda x: torch.clamp(x, -0.5, 0.5), lambda x: (x * x + 0.1).log(), lambda x: (x * x + 1).reciprocal(),
     lambda x: torch.erf(x), lambda x: x.relu().round() + x],
)  # fmt: skip
def test_functions_of_each_entry(f: Callable) -> None:
    check(f, rand(2, 3, 4))


def test_arithmetic() -> None:
    x, c, column = rand(2, 3, 4), rand(3, 4), rand(2, 3, 1)
    for f in (
        lambda z: z + z * c,
        lambda z: z - 2 * z.sin(),
        lambda z: 1 - z,
        lambda z: torch.rsub(z, c, alpha=3),
        lambda z: torch.add(z, z.cos(), alpha=0.5) / 3,
        lambda z: torch.sub(c, z, alpha=2),
        lambda z: z * z,
        lambda z: z / (z * z + 1),
        lambda z: c / (z.exp() + 1),
        lambda z: z / z.exp(),
        lambda z: z[:, :, :1] * z + z[:, :1],
        lambda z: z[:, :, :1] + z[:, :1],
        lambda z: z[:, :, :1] + c,
        lambda z: z[:, :, :1] * c,
        lambda z: column * z + column,
        lambda z: z.mean(dim=(1, 2)),
        lambda z: z.mean(-1, keepdim=True) * z,
        lambda z: z.sum(1) - z.sum((1, 2), keepdim=True)[:, 0],
        lambda z: (z - z.mean(-1, keepdim=True)) * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + 1e-3),
        lambda z: z + z,
        lambda z: torch.where(c > 0, z, 2 * z),
        lambda z: torch.where(z > 0, z[:, :1], 1.0) + torch.where(c > 0, c, z) * torch.where(c > 0, 2.0, z[:, :, :1]),
        lambda z: torch.linalg.norm(z, dim=-1) + torch.linalg.norm(z, 2, dim=1).sum(-1, keepdim=True),
        lambda z: F.normalize(z, dim=1) + F.normalize(z * (c > 0), dim=2),
        lambda z: F.prelu(z, c[0, :3]),
    ):
        check(f, x)


def test_values_of_two_precisions_meet() -> None:
    torch.manual_seed(0)
    layer, linear, c = nn.LayerNorm(4), nn.Linear(4, 4).requires_grad_(False), rand(4)
    w, wide = rand(4).float(), rand(4, 4)

    def f(z: Tensor) -> Tensor:
        h = layer(z.float()) * (1 + c) + c  # what is behind a norm of another precision stays behind it
        # Sums and products between layers that take one precision each.
        mixed = (linear(z.float() * 2) + c) @ wide + (linear(z.float()) * z) @ wide
        return h.float() * w * z + (z.float() * c + w) * 2.0 + (z - h.float()) + mixed

    x = rand(2, 3, 4)
    lin, truth = ProgramLinearization(f, x), AutodiffLinearization(f, x)
    assert not fallbacks(lin)
    v = rand(3, *x.shape, seed=2)
    torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lin.vjp(v), truth.vjp(v), rtol=1e-5, atol=1e-5)


def test_matrix_products() -> None:
    x, w, stack, left, wide = rand(2, 4, 3), rand(3, 5), rand(2, 3, 5), rand(2, 5, 4), rand(12, 5)
    zero = torch.zeros(5, dtype=x.dtype)
    check(nn.Linear(3, 5).double(), x)
    check(lambda z: z @ w, x)
    check(lambda z: z @ z.mT, x)
    check(lambda z: torch.bmm(z, z.mT), x)
    check(lambda z: torch.bmm(z, stack), x)
    check(lambda z: left @ z, x)
    check(lambda z: left[0] @ z, x)
    check(lambda z: torch.baddbmm(zero, z, stack), x)
    check(lambda z: torch.addmm(zero, z.flatten(1), wide), x)
    check(lambda z: torch.einsum("bnc,cd->bdn", z, w), x)
    check(lambda z: z[:, 0] @ w, x)


def test_linear_layers_of_one_input_are_one_product() -> None:
    q, k, v, out = (nn.Linear(6, n).double() for n in (6, 6, 4, 6))

    def f(x: Tensor) -> Tensor:
        return x + out(q(x) * k(x).sigmoid()) + F.pad(v(x), (1, 1))

    lin = check(f, rand(2, 5, 6))
    assert "matmul of 3 as one" in lin.program.describe()


@pytest.mark.parametrize("shape", [(1, 3), (2, 5, 16), (2, 1, 1, 7)])
def test_single_precision_takes_packed_weights(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(shape[-1], 9).requires_grad_(False), nn.Linear(9, shape[-1]).requires_grad_(False)
    f = lambda x: x.sin() + second(F.silu(first(x.tanh())))  # noqa: E731
    x = rand(*shape).float()
    lin, truth = ProgramLinearization(f, x), AutodiffLinearization(f, x)
    assert not fallbacks(lin)
    for k in (1, 6):
        v = rand(k, *shape, seed=2).float()
        torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(lin.vjp(v), truth.vjp(v), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_single_precision_convolutions(options: dict) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(4, 8, 3, **options).requires_grad_(False)
    second = nn.Conv2d(8, 8, 1).requires_grad_(False)
    f = lambda x: (h := first(x)) + second(F.silu(h))  # noqa: E731
    x = rand(2, 4, 7, 6).float()
    lin, truth = ProgramLinearization(f, x), AutodiffLinearization(f, x)
    assert not fallbacks(lin)
    for k in (1, 5):
        v, u = rand(k, *x.shape, seed=2).float(), rand(k, *lin.y.shape, seed=3).float()
        torch.testing.assert_close(lin.jvp(v), truth.jvp(v), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(lin.vjp(u), truth.vjp(u), rtol=1e-5, atol=1e-5)


def test_norms() -> None:
    image, rows, scale, shift = rand(2, 8, 4, 3), rand(2, 5, 8), rand(2, 1, 8), rand(2, 1, 8, seed=4)
    for affine in (True, False):
        group = nn.GroupNorm(4, 8, affine=affine).double()
        layer = nn.LayerNorm(8, elementwise_affine=affine).double()
        rms = nn.RMSNorm(8, eps=1e-6, elementwise_affine=affine).double()
        for p in (*group.parameters(), *layer.parameters(), *rms.parameters()):
            p.data = rand(*p.shape)
        check(group, image)
        check(group, image.flatten(2))
        check(group, image.mean((2, 3)))
        check(layer, rows)
        check(rms, rows)
        check(lambda x, g=group: x + F.silu(g(x)), image)
        check(lambda x, g=layer: F.gelu(g(x) * scale + shift) + x, rows)
    check(lambda x: F.layer_norm(x, (5, 8)), rows)
    check(nn.BatchNorm2d(8).double().eval(), image)
    check(nn.InstanceNorm2d(8).double(), image)
    check(nn.InstanceNorm1d(8, affine=True).double(), image.flatten(2))
    check(nn.InstanceNorm2d(8, track_running_stats=True).double().eval(), image)


def test_what_is_behind_a_norm_is_fused_with_it() -> None:
    norm, scale, shift = nn.GroupNorm(2, 8).double(), rand(2, 8, 1, 1), rand(2, 8, 1, 1)
    lin = check(lambda x: F.silu(norm(x) * (1 + scale) + shift), rand(2, 8, 4, 4))
    assert len(lin.program.instructions) == 1
    lin = check(lambda x: (h := norm(x)) + F.silu(h), rand(2, 8, 4, 4))
    assert len(lin.program.instructions) > 1


ATTENTIONS = {
    "small heads": ((2, 3, 6, 2), (2, 3, 6, 2), {}),
    "large heads": ((2, 2, 3, 9), (2, 2, 4, 9), {}),
    "other lengths": ((2, 2, 5, 4), (2, 2, 7, 4), {}),
    "causal": ((2, 2, 5, 4), (2, 2, 5, 4), {"is_causal": True}),
    "scale": ((2, 2, 5, 4), (2, 2, 5, 4), {"scale": 0.3}),
    "mask": ((2, 2, 5, 4), (2, 2, 6, 4), {"attn_mask": rand(2, 1, 5, 6, seed=9)}),
    "boolean mask": ((2, 2, 5, 4), (2, 2, 6, 4), {"attn_mask": rand(5, 6, seed=9) < 1}),
    "no heads": ((2, 5, 4), (2, 6, 4), {}),
}


@pytest.mark.parametrize("covariance", [False, True])
@pytest.mark.parametrize(("q", "k", "options"), ATTENTIONS.values(), ids=ATTENTIONS.keys())
def test_attention(q: tuple, k: tuple, options: dict, covariance: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not covariance:
        monkeypatch.setattr(attention, "_KEPT_BYTES", 0)
    keys, values = rand(*k, seed=5), rand(*k[:-1], 3, seed=6)
    wk, wv = rand(q[-1], k[-1], seed=7), rand(q[-1], 3, seed=8)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, **options)

    x = rand(*q)
    check(lambda z: attend(z, keys, values), x)  # cross-attention
    check(lambda z: attend(keys[..., : k[-1]], z @ wk, keys) if q == k else attend(z, keys, values), x)
    if q == k:
        check(lambda z: attend(z, z @ wk, z @ wv), x)
        check(lambda z: attend(keys, z @ wk, z @ wv), x)
        check(lambda z: attend(z, z @ wk, values), x)
        check(lambda z: attend(z, keys, z @ wv), x)


def test_a_single_probe_of_attention_waits_for_no_matrices_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a training step, where each point has one; what it gives does not depend on passes before it."""
    passes, tangent = [], attention.attention_tangent

    def counted(kept: object, dq: Tensor, *more: object, **own: object) -> Tensor:
        passes.append(len(dq))
        return tangent(kept, dq, *more, **own)

    monkeypatch.setattr(attention, "attention_tangent", counted)
    x, keys, probes = rand(2, 2, 5, 4), rand(2, 2, 16, 4, seed=5), rand(3, 2, 2, 5, 4, seed=6)
    lin = ProgramLinearization(lambda z: F.scaled_dot_product_attention(z, keys, keys), x)
    for point in (x, 2 * x):
        lin.rebase(point)
        passes.clear()
        alone = lin.jvp(probes[:1])
        back = lin.vjp(alone)
        assert passes == [1]
        several = lin.jvp(probes)
        assert passes == [1, 4]  # as many as there are channels
        torch.testing.assert_close(several[:1], alone)
        torch.testing.assert_close(lin.vjp(several)[:1], back)
        assert torch.equal(lin.jvp(probes[:1]), alone)
        assert torch.equal(lin.vjp(alone), back)


def test_softmax() -> None:
    check(lambda x: torch.softmax(x, -1), rand(2, 3, 4))
    check(lambda x: torch.softmax(x, 1) * x, rand(2, 3, 4))
    check(lambda x: torch.log_softmax(x, -1), rand(2, 3, 4))


def test_shapes() -> None:
    x, ones = rand(2, 4, 6), torch.ones(6)
    for f in (
        lambda z: z.view(2, 2, 2, 6).flatten(1, 2).unsqueeze(1).squeeze(1),
        lambda z: z.transpose(1, 2).reshape(2, 3, 8).permute(0, 2, 1),
        lambda z: z.movedim(-1, 1).unflatten(1, (2, 3)),
        lambda z: z[:, :1].expand(2, 4, 6) * 2 + z,
        lambda z: z[:, 1:3, ::2],
        lambda z: z[..., -1] + z[:, 2].sum(-1, keepdim=True),
        lambda z: torch.cat([z, z.sin()], 1),
        lambda z: torch.cat([z, z, torch.ones(2, 1, 6).double()], 1),
        lambda z: torch.stack([z, z.cos()], 2),
        lambda z: z.split([1, 3], 1)[1] * z.split(3, 1)[0],
        lambda z: z.chunk(2, -1)[0] * F.gelu(z.chunk(2, -1)[1]),
        lambda z: torch.stack(z.unbind(1)[1:], 1),
        lambda z: z.narrow(2, 1, 3).contiguous().clone(),
        lambda z: z.flip(1, -1).roll(2, -1).roll((1, -2), (1, 2)) + z.roll(5),
        lambda z: z.repeat(1, 2, 1) + z.repeat_interleave(2, dim=1),
        lambda z: z.repeat(3, 1, 2, 1)[0, :, 1:] * z.repeat_interleave(2).reshape(2, 8, 6)[:, 1:],
        lambda z: z[:, :1].expand_as(z) + z.flatten(1).view_as(z) * ones.expand_as(z) + ones.type_as(z),
        lambda z: torch.tile(z, (3, 1)) + torch.tile(z, (2, 1, 3, 1))[1],
        lambda z: z.tril(),
        lambda z: z.index_select(1, torch.tensor([0, 2, 2])),
        lambda z: z[:, torch.tensor([3, 1])],
        lambda z: z.cumsum(-1),
        lambda z: F.pad(z, (1, 2, 0, 1)),
        lambda z: F.pad(z, (1, 1), value=3.0),
        lambda z: F.pad(z, (1, 2), mode="reflect"),
        lambda z: F.pad(z, (1, 2), mode="replicate"),
        lambda z: z.to(torch.float64).masked_fill(torch.eye(4, 6).bool(), 3.0),
    ):
        check(f, x)
    image = rand(2, 8, 4, 4)
    check(lambda z: F.pixel_shuffle(z, 2), image)
    check(lambda z: F.pixel_unshuffle(z, 2), image)
    check(lambda z: F.pad(z, (0, 1, 0, 1)), image)
    check(lambda z: F.pad(z, (1, 1, 1, 1), mode="circular"), image)
    check(lambda z: torch.cat([z, z[:, :2]], 1), image)
    check(lambda z: z[:, :2] * z[:, 6:], image)


RESAMPLING = {
    "nearest": lambda z: F.interpolate(z, scale_factor=2.0, mode="nearest"),
    "nearest to a size": lambda z: F.interpolate(z, size=(7, 9), mode="nearest"),
    "nearest down": lambda z: F.interpolate(z, scale_factor=0.5, mode="nearest"),
    "nearest exact": lambda z: F.interpolate(z, scale_factor=1.5, mode="nearest-exact"),
    "bilinear": lambda z: F.interpolate(z, scale_factor=2.0, mode="bilinear"),
    "bilinear with corners": lambda z: F.interpolate(z, size=(5, 9), mode="bilinear", align_corners=True),
    "bilinear antialiased": lambda z: F.interpolate(z, size=(3, 3), mode="bilinear", antialias=True),
    "bicubic": lambda z: F.interpolate(z, scale_factor=2.0, mode="bicubic"),
    "average": lambda z: F.avg_pool2d(z, 2),
    "average, uneven": lambda z: F.avg_pool2d(z, 3, stride=2, padding=1, count_include_pad=False),
    "adaptive": lambda z: F.adaptive_avg_pool2d(z, 3),
    "nearest 1d": lambda z: F.interpolate(z.flatten(2), scale_factor=2.0),
    "nearest 3d": lambda z: F.interpolate(z.unsqueeze(2), scale_factor=2.0),
}


@pytest.mark.parametrize("f", RESAMPLING.values(), ids=RESAMPLING.keys())
def test_resampling(f: Callable) -> None:
    check(f, rand(2, 3, 6, 4))


def test_operators_without_a_rule() -> None:
    lin = check(lambda z: torch.cummax(z, 2).values + torch.cumprod(z, 2), rand(2, 3, 4, 4), fallback=True)
    assert "without a rule, computed by torch.func" in lin.program.describe()
    check(lambda z: torch.linalg.norm(z, 1, dim=-1), rand(2, 3, 4), fallback=True)
    check(lambda z: torch.linalg.norm(z, 2, dim=(1, 2)), rand(2, 3, 4), fallback=True)
    check(lambda z: torch.sort(z, -1).values * 2, rand(2, 3, 4), fallback=True)
    check(lambda z: z.std(-1) + z.amax(-1), rand(2, 3, 4), fallback=True)


def test_distances_have_both_passes() -> None:
    """In torch they have neither a forward mode nor, over several probes at once, a right backward pass."""
    x = rand(2, 4, 3)
    for f in (lambda z: torch.cdist(z, z.roll(1, 1) * 2 + 1), lambda z: torch.cdist(z, z[:, :2] + 3, p=1.0)):
        lin = ProgramLinearization(f, x)
        jacobian = torch.autograd.functional.jacobian(f, x).reshape(-1, x.numel())
        v, u = rand(5, *x.shape, seed=2), rand(4, *lin.y.shape, seed=3)
        torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T)
        torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian)


def test_complex_values() -> None:
    x, c = rand(2, 4, 6), torch.view_as_complex(rand(4, 3, 2))

    def pairs(z: Tensor) -> Tensor:
        return torch.view_as_complex(z.unflatten(-1, (3, 2)))

    for f in (
        lambda z: torch.view_as_real(pairs(z) * c).flatten(2),
        lambda z: torch.view_as_real((pairs(z) + z[..., ::2] * c) * pairs(z.sin()) / c).transpose(1, 2),
        lambda z: torch.view_as_real(torch.cat([pairs(z), c.expand(2, 4, 3)], 1)[:, 2:] - (1 + 2j) * z[..., :3][:, :1]),
    ):
        check(f, x)
    check(lambda z: torch.view_as_real(pairs(z).exp() @ c.T).flatten(2), x, fallback=True)
    check(
        lambda z: torch.fft.fft(z).abs() + torch.view_as_complex(z.unflatten(-1, (3, 2))).real.sum(), x, fallback=True
    )


def test_what_does_not_depend_on_x_has_no_tangent() -> None:
    check(lambda z: z * (z > 0) + z.detach() + z.argmax(-1, keepdim=True), rand(2, 3, 4))
    lin = ProgramLinearization(lambda z: torch.ones(2, 3).double() + z.detach().sum(-1), rand(2, 3, 4))
    assert not lin.jvp(rand(3, 2, 3, 4)).any()
    assert not lin.vjp(rand(3, 2, 3)).any()
    lin = ProgramLinearization(lambda z: z, rand(2, 3))
    torch.testing.assert_close(lin.jvp(rand(4, 2, 3)), rand(4, 2, 3))
    torch.testing.assert_close(lin.vjp(rand(4, 2, 3)), rand(4, 2, 3))


def test_in_place_operators() -> None:
    def f(z: Tensor) -> Tensor:
        h = z.sin()
        h += z
        h.mul_(3)
        return F.relu(h, inplace=True)

    def g(z: Tensor) -> Tensor:
        h = z.sin()
        h[:, :1] = z[:, 1:2] * 2
        return h

    def h(z: Tensor) -> Tensor:
        out = torch.zeros_like(z)
        out[:, 1] = z[:, 0]
        out[..., ::2] = 3
        return out + z

    check(f, rand(2, 3, 4))
    check(g, rand(2, 3, 4))
    check(h, rand(2, 3, 4))
