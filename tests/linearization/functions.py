"""Functions as users write them, far from networks that the rules were made for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from networks import rand
from torch import nn

Tensor = torch.Tensor
Case = tuple[Callable[..., Tensor], tuple[int, ...], tuple[Any, ...]]

MASK = torch.tensor([True, True, False, True, False, True])
INDEX = torch.tensor([3, 1, 1])
CUT = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) < 0.5
W, W2 = rand(3, 4, seed=31), rand(6, 5, seed=32)
MULTIHEAD = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
LSTM = nn.LSTM(6, 3, batch_first=True).double()
GRU = nn.GRU(6, 3, batch_first=True, bidirectional=True).double()
ROWS, IMAGES, VOLUMES, HEADS = (4, 6), (4, 6, 6), (2, 4, 4, 4), (4, 6, 8)


def _in_place_on_constant(x: Tensor, c: Tensor) -> Tensor:
    c = c.expand(len(x), -1, -1).clone()
    c[:, 1:3] = x[:, :2, :4]
    c += 1
    return c * x[..., :4]


def _with_dict(x: Tensor) -> Tensor:
    parts = {"a": x.sin(), "b": (x, 2 * x)}
    return parts["a"] + parts["b"][1]


def _branch(x: Tensor, t: Tensor) -> Tensor:
    return x * t if t > 3 else x.sin()


def _heads(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _classic(x: Tensor, mask: Tensor | None = None, beta: int = 0) -> Tensor:
    q, k, v = _heads(x), _heads(x * 0.7), _heads(x.sin())
    start = torch.empty(len(q), q.shape[1], k.shape[1], dtype=x.dtype) if mask is None else mask.expand(len(q), -1, -1)
    scores = torch.baddbmm(start, q, k.transpose(-1, -2), beta=beta, alpha=0.3)
    return torch.bmm(scores.softmax(dim=-1), v).view(x.shape)


def _written_out(x: Tensor, mask: Tensor) -> Tensor:
    scores = torch.matmul(x, (2 * x).transpose(-1, -2)) / 8**0.5 + mask
    return torch.softmax(scores, -1) @ x.cos()


def _einsum_attention(x: Tensor) -> Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", x, x.sin()) * 0.4
    return torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), x)


class _Bound:
    def __init__(self) -> None:
        self.scale = 3.0

    def run(self, x: Tensor, *, power: int = 2) -> Tensor:
        return self.scale * x**power


def _attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, **options)


ATTENTION: dict[str, Case] = {
    "grouped queries": (lambda x: _attend(x, x[:, :2] * 2, x[:, :2] * 3, enable_gqa=True), HEADS, ()),
    "one head of keys": (lambda x: _attend(x, x[:, :1], x[:, :1].sin(), enable_gqa=True), HEADS, ()),
    "grouped, causal": (lambda x: _attend(x, x[:, 1:3], x[:, :2], enable_gqa=True, is_causal=True), HEADS, ()),
    "grouped keys alone": (lambda x, q: _attend(q, x[:, :2], x[:, 2:], enable_gqa=True), HEADS, (rand(1, 4, 3, 8),)),
    "broadcast heads": (lambda x: _attend(x, x[:, :1], x[:, :1] * 2), HEADS, ()),
    "broadcast batch": (lambda x, k: _attend(x, k, k.sin()), HEADS, (rand(1, 4, 5, 8),)),
    "broadcast batch of queries": (lambda x, q: _attend(q, x, x), HEADS, (rand(4, 5, 8),)),
    "the same thrice": (lambda x: _attend(x, x, x), HEADS, ()),
    "keys are values": (lambda x: _attend(2 * x, x, x, scale=0.2), HEADS, ()),
    "mask a head": (lambda x, m: _attend(x, x, x.sin(), attn_mask=m), HEADS, (rand(4, 6, 6),)),
    "boolean mask": (lambda x, m: _attend(x, x, x.sin(), attn_mask=m), HEADS, (torch.eye(6).bool() | (CUT[0] > 0),)),
    "mask of x": (lambda x: _attend(x, x, x, attn_mask=x[..., :6].sum(1, keepdim=True)), HEADS, ()),
    "no heads": (lambda x: _attend(x, 2 * x, x.sin()), ROWS, ()),
    "five dimensions": (lambda x: _attend(x, 2 * x, x.sin(), is_causal=True), (2, 2, 3, 4), ()),
    "classic processor": (_classic, HEADS, ()),
    "classic processor with mask": (functools.partial(_classic, beta=1), HEADS, (rand(1, 6, 6),)),
    "written out": (_written_out, HEADS, (rand(1, 1, 6, 6),)),
    "by einsum": (_einsum_attention, HEADS, ()),
    "multi-head module": (
        lambda x: MULTIHEAD(x, x, x, need_weights=False)[0],
        ROWS,
        (),
    ),
    "encoder layer": (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).double().eval(), ROWS, ()),
}

INDEXING: dict[str, Case] = {
    "boolean constant": (lambda x, k: x[..., k].sin(), ROWS, (MASK,)),
    "boolean closure": (lambda x: x[..., MASK] * 2, ROWS, ()),
    "boolean of two dimensions": (lambda x: x[:, CUT] ** 2, ROWS, ()),
    "whole numbers": (lambda x, k: x[:, k] * x[:, k].sum(), ROWS, (INDEX,)),
    "two indices": (lambda x: x[:, INDEX, INDEX], ROWS, ()),
    "gather": (lambda x: x.gather(1, INDEX[:, None].expand(len(x), 3, 6)) ** 2, ROWS, ()),
    "take_along_dim": (lambda x: torch.take_along_dim(x, INDEX[None, :, None], 1), ROWS, ()),
    "scatter": (
        lambda x: torch.zeros_like(x).scatter(1, INDEX[None, :1, None].expand_as(x[:, :1]), x[:, :1]),
        ROWS,
        (),
    ),
    "scatter over": (lambda x: x.scatter(1, INDEX[None, :1, None].expand_as(x[:, :1]), 2 * x[:, :1]), ROWS, ()),
    "scatter_add": (lambda x: x.scatter_add(1, INDEX[None, :, None].expand_as(x[:, :3]), x[:, :3].sin()), ROWS, ()),
    "scatter into constant": (
        lambda x, c: c.expand_as(x).scatter(1, INDEX[None, :1, None].expand_as(x[:, :1]), x[:, :1]),
        ROWS,
        (rand(4, 6),),
    ),
    "index_add": (lambda x: x.index_add(1, INDEX, x[:, :3].sin()), ROWS, ()),
    "index_copy": (lambda x: x.index_copy(1, INDEX[:2], x[:, :2].sin()), ROWS, ()),
    "index_copy into constant": (lambda x, c: c.expand_as(x).index_copy(1, INDEX[:2], x[:, :2]), ROWS, (rand(4, 6),)),
    "index_fill": (lambda x: x.index_fill(1, INDEX, 3.0) * x, ROWS, ()),
    "index_put": (
        lambda x: x.index_put((torch.arange(len(x))[:, None], INDEX[None, :2]), x[:, :2, :1].cos().expand(-1, -1, 6)),
        ROWS,
        (),
    ),
    "masked_fill": (lambda x: x.masked_fill(CUT, 2.0) * x.masked_fill(x > 0, -1.0), ROWS, ()),
    "masked_fill by tensor": (lambda x, c: x.masked_fill(CUT, c), ROWS, (torch.tensor(2.0).double(),)),
    "where": (lambda x: torch.where(x > 0, x**2, 0.1 * x) + torch.where(CUT, x, 0.0), ROWS, ()),
    "assignment": (_in_place_on_constant, ROWS, (rand(4, 4),)),
    "masked assignment": (lambda x: (y := x.clone(), y.masked_fill_(CUT, 0.0), y)[2] * x, ROWS, ()),
    "embedding": (lambda x, i, w: x * F.embedding(i, w), ROWS, (torch.tensor([0, 2, 1, 1]), rand(3, 6))),
    "one-hot": (lambda x, i: x * F.one_hot(i, 6).to(x.dtype), ROWS, (torch.tensor([0, 2, 1, 5]),)),
    "topk": (lambda x: x.topk(3, -1).values * 2, ROWS, ()),
    "sort": (lambda x: x.sort(-1).values, ROWS, ()),
    "strided": (lambda x: x[:, ::2, 1::2] * x[:, 1::2, ::2], ROWS, ()),
    "none and ellipsis": (lambda x: x[:, None, ..., -1:] + x[..., 0, None, None], ROWS, ()),
}

SHAPES: dict[str, Case] = {
    "view of a transposed constant": (lambda x, w: x * w.t().contiguous().view(1, -1), (12,), (W,)),
    "view of a permuted x": (lambda x: x.transpose(1, 2).contiguous().view(len(x), -1).sin(), ROWS, ()),
    "view of a detached x": (lambda x: x * x.detach().transpose(1, 2).contiguous().view(len(x), 4, 6), ROWS, ()),
    "stack and unbind": (lambda x: torch.stack([a * x[:, 0] for a in x.unbind(1)[::-1]], 1), ROWS, ()),
    "chunks and splits": (lambda x: torch.cat([x.chunk(3, -1)[2], *x.split([1, 2, 3], -1)[1:]], -1).exp(), ROWS, ()),
    "tensor_split": (lambda x: x.tensor_split((1, 4), -1)[1] * 2, ROWS, ()),
    "repeats": (lambda x: x.repeat(1, 2, 1) * x.repeat_interleave(2, 1), ROWS, ()),
    "repeat_interleave by constants": (
        lambda x, n: x.repeat_interleave(n, 1, output_size=5),
        ROWS,
        (INDEX.new_tensor([1, 2, 0, 2]),),
    ),
    "expand": (lambda x: x[:, None].expand(-1, 3, -1, -1) * 2, ROWS, ()),
    "triangles": (lambda x: x.tril() @ x.triu(1).mT + x.tril(-1).sum(-1, keepdim=True), ROWS, ()),
    "roll and flip": (lambda x: x.roll((1, -2), (1, 2)) * x.flip(-1), ROWS, ()),
    "rot90": (lambda x: torch.rot90(x, 1, (1, 2)), ROWS, ()),
    "diagonals": (lambda x: torch.diagonal(x, 0, 1, 2) * torch.diag_embed(x[:, 0]).sum(-1)[:, :4], ROWS, ()),
    "unfold dimension": (lambda x: x.unfold(2, 3, 2).sin(), ROWS, ()),
    "unfold and fold": (lambda x: F.fold(F.unfold(x, 3, padding=1) ** 2, (6, 6), 3, padding=1), IMAGES, ()),
    "pixels": (lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2).sin(), 2), IMAGES, ()),
    "reflect": (lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect") ** 2, IMAGES, ()),
    "replicate": (lambda x: F.pad(x, (1, 2, 0, 1), mode="replicate"), IMAGES, ()),
    "circular": (lambda x: F.pad(x, (1, 1, 2, 2), mode="circular"), IMAGES, ()),
    "constant": (lambda x: F.pad(x, (1, -1, 0, 2), value=3.0).sin(), IMAGES, ()),
    "meshgrid": (
        lambda x: torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")[0].expand(len(x), -1, -1) * x[:, :1, :1],
        (4, 6),
        (),
    ),
    "block_diag of rows": (lambda x: torch.cat([torch.block_diag(a, a)[None] for a in x]), (2, 3), ()),
    "kron": (lambda x, c: torch.stack([torch.kron(a, c) for a in x]), (2, 3), (W,)),
    "movedim and swapaxes": (lambda x: x.movedim(1, -1).swapaxes(1, 2).unflatten(-1, (3, 2)), ROWS, ()),
    "vector": (lambda x: x * x.sin(), (), ()),
    "squeeze": (lambda x: x[:, :1].squeeze(1).unsqueeze(-1) * 2, ROWS, ()),
}

ARITHMETIC: dict[str, Case] = {
    "number constants": (lambda x, a, b, c: x * a + b if c else x, ROWS, (2, 0.5, True)),
    "scalar tensors": (lambda x, a: x * a + a / (x**2 + a), ROWS, (torch.tensor(2.0).double(),)),
    "reading a constant": (lambda x, a: x * a.item() + float(a), ROWS, (torch.tensor(2.0).double(),)),
    "branch on a constant": (_branch, ROWS, (torch.tensor(5.0).double(),)),
    "logsumexp": (lambda x: x.logsumexp(-1) * torch.logsumexp(x, (1, 2))[:, None], ROWS, ()),
    "log_softmax": (lambda x: F.log_softmax(x, 1) * F.softmin(x, -1), ROWS, ()),
    "var and std": (
        lambda x: x.var(-1) + x.std((1, 2), keepdim=True)[..., 0] + x.var(1, unbiased=False).sum(-1, True),
        ROWS,
        (),
    ),
    "var_mean": (lambda x: (p := torch.var_mean(x, -1, keepdim=True), (x - p[1]) / (p[0] + 1))[1], ROWS, ()),
    "amax and amin": (lambda x: x.amax(-1) - x.amin((1, 2))[:, None] + x.max(-1).values * x.min(-1)[0], ROWS, ()),
    "maximum": (lambda x: torch.maximum(x, x.flip(-1)) * torch.minimum(x, torch.tensor(0.3).double()), ROWS, ()),
    "cumulative": (lambda x: x.cumsum(1) * x.cumprod(-1) + x.logcumsumexp(-1), ROWS, ()),
    "prod": (lambda x: x.prod(-1) + x.prod(1).sum(-1, keepdim=True), ROWS, ()),
    "clamp": (lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=x.detach() * 0.5), ROWS, ()),
    "powers": (lambda x: (x.abs() + 1) ** x + 2**x + (x.abs() + 0.5) ** 0.3, ROWS, ()),
    "atan2 and hypot": (lambda x: torch.atan2(x, x.roll(1, -1)) + torch.hypot(x, x + 2), ROWS, ()),
    "lerp and addcmul": (
        lambda x: torch.lerp(x, x.sin(), 0.3) + torch.addcmul(x, x, x.cos(), value=2) + torch.addcdiv(x, x, x**2 + 1),
        ROWS,
        (),
    ),
    "steps": (lambda x: x.round() + x.floor() * x + torch.sign(x), ROWS, ()),
    "remainder": (lambda x: torch.remainder(x, 0.7) + torch.fmod(x, 0.6) + x % 2, ROWS, ()),
    "normalize": (lambda x: F.normalize(x, dim=-1) * F.cosine_similarity(x, x.roll(1, 1), -1)[..., None], ROWS, ()),
    "norms of other orders": (
        lambda x: x.norm(p=1, dim=-1) + x.norm(p=3, dim=-1) + x.abs().norm(p=float("inf"), dim=-1),
        ROWS,
        (),
    ),
    "fft": (lambda x: torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.fftshift(CUT.double())).real, ROWS, ()),
    "rfft": (
        lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=-1) ** 2, n=6) + torch.fft.rfft2(x).abs()[..., :1],
        ROWS,
        (),
    ),
    "complex": (lambda x: torch.polar(x.abs() + 1, x).imag * torch.complex(x, x.sin()).angle(), ROWS, ()),
    "logical": (lambda x: x * ((x > 0) & (x < 1)) + x * (~CUT).to(x.dtype), ROWS, ()),
    "sums of nothing": (lambda x: x.sum((1, 2), keepdim=True) + 0 * x, ROWS, ()),
    "short types": (lambda x: x.float().sin().double() * x, ROWS, ()),
    "gradient inside": (lambda x: torch.func.grad(lambda z: (z**3).sum())(x), ROWS, ()),
    "special": (
        lambda x: torch.special.i0(x) + torch.lgamma(x.abs() + 1) + torch.digamma(x.abs() + 1) + torch.sinc(x),
        ROWS,
        (),
    ),
}

ALGEBRA: dict[str, Case] = {
    "broadcast matmul": (lambda x, w: (x[:, None] @ w).sum(1) + torch.matmul(x, w[0]), ROWS, (rand(3, 6, 5),)),
    "vectors": (lambda x, w: (x @ w[:, 0]) * torch.mv(x[0], w[:, 1]).sum(), ROWS, (W2,)),
    "x is the second factor": (lambda x, w: w @ x + torch.matmul(w[0], x)[:, None], ROWS, (rand(3, 4),)),
    "outer": (lambda x: torch.einsum("bi,bj->bij", x, x.sin()), (4,), ()),
    "bmm": (lambda x: torch.bmm(x, x.mT), ROWS, ()),
    "baddbmm": (lambda x, c: torch.baddbmm(c, x, x.mT, beta=0.3, alpha=2), ROWS, (rand(4, 4),)),
    "baddbmm of x": (lambda x: torch.baddbmm(x[..., :4], x, x.mT, beta=0.3, alpha=2), ROWS, ()),
    "addmm": (lambda x, w: torch.addmm(x[:, 0, :5], x[:, 1], w, beta=2, alpha=0.5), ROWS, (W2,)),
    "addbmm": (lambda x, w: torch.addbmm(x[:, 0, :1], x[None, :, 0], w[None], beta=2), ROWS, (W2,)),
    "einsum": (lambda x, w: torch.einsum("bij,jk,bik->bk", x, w, x[..., :5]), ROWS, (W2,)),
    "einsum with an ellipsis": (lambda x: torch.einsum("...ij,...kj->...ik", x, x.sin()), ROWS, ()),
    "einsum that sums": (lambda x: torch.einsum("bij->b", x)[:, None] * torch.einsum("bij->bj", x), ROWS, ()),
    "einsum with a diagonal": (lambda x: torch.einsum("bii->bi", x[..., :4]) ** 2, ROWS, ()),
    "einsum without an arrow": (lambda x, w: torch.einsum("abc,cd", x, w), ROWS, (W2,)),
    "tensordot": (lambda x, w: torch.tensordot(x, w, 1) + torch.inner(x, w.T), ROWS, (W2,)),
    "solve": (lambda x: torch.linalg.solve(x @ x.mT + 3 * torch.eye(4, dtype=x.dtype), x), ROWS, ()),
    "inverse and det": (
        lambda x: torch.linalg.inv(x @ x.mT + torch.eye(4).double()) * torch.linalg.det(x @ x.mT)[:, None, None],
        ROWS,
        (),
    ),
    "singular values": (lambda x: torch.linalg.svdvals(x), ROWS, ()),
    "linear": (nn.Linear(6, 3).double(), ROWS, ()),
    "bilinear": (lambda x, w: F.bilinear(x, x.sin(), w), ROWS, (rand(2, 6, 6),)),
    "conv1d": (nn.Conv1d(4, 3, 3, padding=1, groups=1).double(), ROWS, ()),
    "conv2d of x by x": (lambda x: F.conv2d(x, x[:1, :, :3, :3], padding=1), IMAGES, ()),
    "conv3d": (nn.Conv3d(2, 3, 3, padding=1, stride=2).double(), VOLUMES, ()),
    "transposed convolution": (nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1, padding=1).double(), IMAGES, ()),
    "lstm": (lambda x: LSTM(x)[0], ROWS, ()),
    "gru": (lambda x: GRU(x)[0], ROWS, ()),
}

LAYERS: dict[str, Case] = {
    "group norm": (nn.GroupNorm(2, 4, affine=False).double(), IMAGES, ()),
    "layer norm": (lambda x: F.layer_norm(x, (4, 6)) * F.layer_norm(x, (6,)), ROWS, ()),
    "rms norm": (lambda x: F.rms_norm(x, (6,)) + F.rms_norm(x, (4, 6)), ROWS, ()),
    "instance norm": (lambda x: F.instance_norm(x).sin(), IMAGES, ()),
    "batch norm": (nn.BatchNorm2d(4).double().eval(), IMAGES, ()),
    "local response": (lambda x: F.local_response_norm(x, 3), IMAGES, ()),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)).double(), ROWS, ()),
    "norm with weights of x": (lambda x: F.layer_norm(x, (6,), weight=x[0, 0], bias=x[0, 1]), (4, 6), ()),
    "dropout in eval mode": (
        nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 6), nn.Dropout(0.3)).double().eval(),
        ROWS,
        (),
    ),
    "gated": (lambda x: F.glu(x, -1) * F.silu(x[..., :3]), ROWS, ()),
    "activations": (lambda x: F.mish(x) + F.hardswish(x) + F.celu(x) + F.softplus(x, 2.0) + F.rrelu(x), ROWS, ()),
    "threshold": (lambda x: F.threshold(x, 0.1, 2.0) + F.hardtanh(x, -0.3, 0.4) + F.relu6(3 * x), ROWS, ()),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), IMAGES, ()),
    "bilinear": (lambda x: F.interpolate(x, size=(9, 5), mode="bilinear", align_corners=True), IMAGES, ()),
    "bicubic": (lambda x: F.interpolate(x, scale_factor=0.5, mode="bicubic"), IMAGES, ()),
    "area": (lambda x: F.interpolate(x, size=(4, 5), mode="area"), IMAGES, ()),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), (1, 2, 3, 2), ()),
    "linear interpolation": (lambda x: F.interpolate(x, size=4, mode="linear"), ROWS, ()),
    "grid sample": (
        lambda x, g: F.grid_sample(x, g.expand(len(x), -1, -1, -1), align_corners=False),
        IMAGES,
        (rand(1, 3, 3, 2) / 3,),
    ),
    "average pools": (lambda x: F.avg_pool2d(x, 3, 2, 1) + F.adaptive_avg_pool2d(x, 3) ** 2, IMAGES, ()),
    "maximum pools": (lambda x: F.max_pool2d(x, 2) + F.adaptive_max_pool2d(x, 3), IMAGES, ()),
    "other pools": (lambda x: F.lp_pool2d(x.abs() + 1, 2, 2), IMAGES, ()),
    "losses": (lambda x: F.mse_loss(x, x.sin(), reduction="none") + F.huber_loss(x, 0 * x, reduction="none"), ROWS, ()),
}

CALLABLES: dict[str, Case] = {
    "its argument": (lambda x: x, ROWS, ()),
    "a view of its argument": (lambda x: x.view(len(x), -1), ROWS, ()),
    "a constant": (lambda x, c: c.expand(len(x), -1), ROWS, (rand(1, 5),)),
    "a new tensor": (lambda x: torch.ones_like(x) * 3, ROWS, ()),
    "a part": (lambda x: x[:, 0], ROWS, ()),
    "containers": (_with_dict, ROWS, ()),
    "partial": (functools.partial(lambda w, x: x @ w, W2), ROWS, ()),
    "keywords": (functools.partial(_Bound().run, power=3), ROWS, ()),
    "bound method": (_Bound().run, ROWS, ()),
    "module": (nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Flatten()).double(), ROWS, ()),
    "recursive closure": (lambda x: functools.reduce(lambda a, _: a + a.sin() / 2, range(4), x), ROWS, ()),
    "module constant": (lambda x, net, c: net(x) * c, ROWS, (nn.Linear(6, 5).double(), rand(5))),
    "dictionary constant": (
        lambda x, d: x * d["scale"] + d["more"][0],
        ROWS,
        ({"scale": rand(6), "more": [rand(4, 1)]},),
    ),
    "no constant": (lambda x, c: x * 2 if c is None else x, ROWS, (None,)),
    "string constant": (lambda x, c: getattr(x, c)(), ROWS, ("sin",)),
    "unused constant": (lambda x, c: x * 2, ROWS, (rand(3),)),
}

FAMILIES = {
    "attention": ATTENTION, "indexing": INDEXING, "shapes": SHAPES, "arithmetic": ARITHMETIC, "algebra": ALGEBRA,
    "layers": LAYERS, "callables": CALLABLES,
}  # fmt: skip
