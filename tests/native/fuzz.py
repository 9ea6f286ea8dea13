"""Calls of the kernels' Python face with random arrays: `python tests/native/fuzz.py MODULE SECONDS SEED`.

MODULE is the native module that is used. Each call has to give what its reference implementation gives, or raise
ValueError, TypeError or nothing else; what else goes wrong a sanitizer finds (`python tests/native --fuzz`).
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

SIZES = (0, 1, 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 40)


def use(path: str) -> None:
    """Make latentjac take this module."""
    spec = importlib.util.spec_from_file_location("latentjac._native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["latentjac._native"] = module


class Draw:
    """Random numbers, sizes and tensors."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.dtype = torch.float32

    def size(self, *among: int) -> int:
        return self.random.choice(among or SIZES)

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def tensor(self, *shape: int) -> torch.Tensor:
        """Now and then of other strides, offset, type or shape than a kernel wants."""
        if self.chance(0.01):
            shape = tuple(n + 1 if self.chance(0.3) else n for n in shape)
        t = torch.randn(shape, dtype=torch.float64)
        t = t.to(torch.float16 if self.chance(0.005) else self.dtype)
        way = self.random.randrange(8)
        if way == 0 and t.dim() > 1:
            order = self.random.sample(range(t.dim()), t.dim())
            inverse = [order.index(i) for i in range(t.dim())]
            return t.permute(order).contiguous().permute(inverse)
        if way == 1:
            wide = torch.full((*shape[:-1], 2 * shape[-1] + 1), torch.nan, dtype=t.dtype)
            part = wide[..., 1::2] if self.chance(0.5) else wide[..., : shape[-1]]
            return part.copy_(t)
        if way == 2:
            memory = torch.full((t.numel() + 3,), torch.nan, dtype=t.dtype)
            return memory[3:].view(shape).copy_(t)
        if way == 3 and t.numel():
            dim = self.random.randrange(t.dim())
            return t.narrow(dim, 0, 1).expand(shape)
        if way == 4:
            return torch._neg_view(-t)
        if way == 5:
            size = t.itemsize
            odd = torch.frombuffer(bytearray(size * t.numel() + size + 1), dtype=t.dtype, offset=1)[: t.numel()]
            return odd.view(shape).copy_(t)
        return t

    def out(self, *shape: int) -> torch.Tensor | None:
        return self.tensor(*shape) if self.chance(0.3) else None


def norm(draw: Draw, kernels: object) -> Callable[[], object]:
    groups = draw.size(1, 1, 2, 3)
    shape = (draw.size(), draw.size(), groups * draw.size(0, 1, 2, 5, 8, 17, 33))
    probes, kind = draw.size(0, 1, 2, 4, 5, 9), draw.size(0, 1, 2)
    if kind == 0:
        x, gamma, beta = draw.tensor(*shape), draw.tensor(shape[2]), draw.tensor(shape[0], shape[2])
        settings = {"groups": groups, "activation": draw.random.choice(kernels.ACTIVATIONS), "rms": draw.chance(0.3)}
        settings["eps"] = 0.1  # values that are all the same stay near 0, whatever they are rounded to
        return lambda: kernels.norm_act_primal(x, gamma, beta, **settings)
    t, a, xhat = draw.tensor(probes, *shape), draw.tensor(*shape), draw.tensor(*shape)
    out = t if draw.chance(0.2) else draw.out(probes, *shape)
    function = kernels.norm_act_tangent if kind == 1 else kernels.norm_act_cotangent
    settings = {"groups": groups, "rms": draw.chance(0.3), "out": out, "accumulate": draw.chance(0.3)}
    return lambda: [function(t, a, xhat, **settings)]


def gated(draw: Draw, kernels: object) -> Callable[[], object]:
    probes, rows, channels = draw.size(0, 1, 2, 5), draw.size(), draw.size()
    a, b, u = draw.tensor(rows, channels), draw.tensor(rows, channels), draw.tensor(probes, rows, channels)
    if draw.chance(0.5):
        whole = draw.tensor(probes, rows, 2 * channels)
        value, gate = whole.chunk(2, -1) if channels and draw.chance(0.6) else (u, draw.tensor(*u.shape))
        out = draw.out(probes, rows, channels)
        return lambda: [kernels.gated_tangent(value, gate, a, b, out=out)]
    outs = None
    if channels and draw.chance(0.5):
        whole = torch.zeros(probes, rows, 2 * channels, dtype=draw.dtype)
        outs = whole.chunk(2, -1) if draw.chance(0.7) else (draw.tensor(*u.shape), draw.tensor(*u.shape))
    return lambda: kernels.gated_cotangent(u, a, b, out=outs)


def attention(draw: Draw, kernels: object) -> Callable[[], object]:
    batch, heads, probes = draw.size(0, 1, 1, 2), draw.size(1, 1, 3), draw.size(0, 1, 2, 5)
    queries, keys, size, width = draw.size(), draw.size(0, 1, 5, 33, 64, 70), draw.size(), draw.size()
    q, k, v = (
        draw.tensor(batch, heads, rows, channels) for rows, channels in ((queries, size), (keys, size), (keys, width))
    )
    shape = [n if draw.chance(0.6) else 1 for n in (batch, heads, queries, keys)]
    bias = draw.tensor(*shape) if draw.chance(0.4) else None
    settings = {"bias": bias, "causal": draw.chance(0.3)}
    dq, dk, dv = (draw.tensor(probes, *t.shape) if draw.chance(0.6) else None for t in (q, k, v))
    out, u = draw.out(probes, batch, heads, queries, width), draw.tensor(probes, batch, heads, queries, width)
    results = tuple(draw.out(probes, *t.shape) for t in (q, k, v))
    wanted = tuple(draw.chance(0.7) for _ in range(3))
    accumulate, kind = draw.chance(0.2), draw.size(0, 1, 2)

    def call() -> object:
        primal = kernels.attention_primal(q, k, v, **settings)
        if kind == 0:
            return [primal.o, primal.lse]
        if kind == 1:
            return [kernels.attention_tangent(primal, dq, dk, dv, out=out, accumulate=accumulate)]
        return kernels.attention_cotangent(primal, u, wanted=wanted, out=results)

    return call


def rowwise(draw: Draw, kernels: object) -> Callable[[], object]:
    batch, rows, heads, size, width = draw.size(0, 1, 2), draw.size(), draw.size(0, 1, 3), draw.size(), draw.size()
    probes = draw.size(0, 1, 4, 9)
    matrices, t = draw.tensor(batch, rows, heads, size, width), draw.tensor(probes, batch, heads, rows, size)
    matrices = matrices.contiguous() if draw.chance(0.9) else matrices
    out = draw.out(probes, batch, heads, rows, width)
    return lambda: [kernels.rowwise_product(matrices, t, out=out)]


def copied(results: object) -> list[torch.Tensor]:
    return [] if results is None else [t.clone() for t in results if t is not None]


def difference(found: list | str, expected: list | str, tolerance: float) -> str:
    """In what a kernel and its reference implementation differ; "" where they do not."""
    if isinstance(found, str) or isinstance(expected, str):
        # Addresses differ between the two, and are named in a refusal.
        alike = type(found) is type(expected) and found.split(", got")[0] == expected.split(", got")[0]
        return "" if alike else f"the kernel gave {found}, its reference implementation {expected}"
    for a, b in zip(found, expected, strict=True):
        scale = max(1.0, b.abs().nan_to_num(0, 0, 0).max().item() if b.numel() else 0.0)
        if not torch.allclose(a.double() / scale, b.double() / scale, 0, tolerance, equal_nan=True):
            return f"relative error {((a.double() - b.double()).abs().max() / scale).item():.1e} of {list(a.shape)}"
    return ""


def main(path: str, seconds: float, seed: int) -> None:
    """Call until the time is over; say how many calls gave results and how many were refused."""
    use(path)
    from latentjac import kernels
    from latentjac.kernels import native

    if not kernels.build_info().native:
        raise SystemExit(f"{path} is not in use: {kernels.build_info().why_not}")
    loaded, counts, draw = native.LOADED, Counter(), Draw(seed)
    torch.manual_seed(seed)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        draw.dtype = draw.random.choice((torch.float32, torch.float64))
        family = draw.random.choice((norm, gated, attention, rowwise))
        state = draw.random.getstate(), torch.get_rng_state()
        outcomes = []
        for use_native in (True, False):
            # The same arrays for both: a call may write into them.
            draw.random.setstate(state[0])
            torch.set_rng_state(state[1])
            native.LOADED = loaded if use_native else native.Loaded(None, "compared", "torch")
            call = family(draw, kernels)
            try:
                outcomes.append(copied(call()))
            except (ValueError, TypeError) as error:
                outcomes.append(f"{type(error).__name__}: {error}")
        trouble = difference(*outcomes, 1e-3 if draw.dtype == torch.float32 else 1e-9)
        if trouble:
            raise SystemExit(f"{family.__name__}, call {sum(counts.values())} of seed {seed}: {trouble}")
        counts[f"{family.__name__} {'refused' if isinstance(outcomes[0], str) else 'right'}"] += 1
    print("fuzz:", ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
