"""Norm and activation: tangents of many probes, against the copy limit and against torch.

The floor. The kernel has to read P*N*S*C tangents and write as many: 2 * P*N*S*C * 4 bytes in float32, what a copy
moves. xhat and a are read too, 2 * N*S*C * 4 bytes, 1/P of that if each is read once. `copy` below is torch's own
copy of t into out, timed in the same rounds.

    python benchmarks/bench_norm.py [--threads 1] [--device cpu|cuda] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from kernel_benchmark import begin, command_line, measure, report

from latentjac import kernels
from latentjac.kernels import reference

# name, P, N, S, C, G
SHAPES = [
    ("faces 32x32", 8, 1, 1024, 64, 8),
    ("sd1.5 64x64", 8, 1, 4096, 320, 32),
    ("sd1.5 32x32", 8, 1, 1024, 640, 32),
    ("sd1.5 16x16", 8, 1, 256, 1280, 32),
    ("ddpm 128x128", 8, 1, 16384, 128, 32),
    ("layer norm 4096", 8, 4096, 1, 320, 1),
    ("layer norm 1024", 8, 1024, 1, 640, 1),
]


def cases(p: int, n: int, s: int, c: int, g: int, device: str) -> dict[str, Callable[[], object]]:
    """Everything that is timed for one shape."""
    x, t = torch.randn(n, s, c, device=device), torch.randn(p, n, s, c, device=device)
    gamma, beta = torch.randn(c, device=device), torch.randn(c, device=device)
    primal = kernels.norm_act_primal(x, gamma, beta, groups=g, activation="silu")
    out, same = torch.empty_like(t), t.clone()
    batch = t.reshape(p * n, s, c).transpose(1, 2)  # a channels-last image of one row

    def forward(v: torch.Tensor) -> torch.Tensor:
        if s == 1 and g == 1:
            return F.silu(F.layer_norm(v, (c,), gamma, beta))
        return F.silu(F.group_norm(v, g, gamma, beta))

    # torch's own favourite layouts for its own operators.
    own_x = x if s == 1 and g == 1 else x.transpose(1, 2).contiguous()
    own_t = t if s == 1 and g == 1 else t.transpose(2, 3).contiguous()
    many = t.reshape(p * n, s, c) if s == 1 and g == 1 else batch[..., None]
    jvp = torch.func.vmap(lambda v: torch.func.jvp(forward, (own_x,), (v,))[1])

    def without_grad(f: Callable[[], object]) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return f()

        return call

    run: dict[str, Callable[[], object]] = {
        "copy": lambda: out.copy_(t),
        "tangent": lambda: kernels.norm_act_tangent(t, primal.a, primal.xhat, groups=g, out=out),
        "in place": lambda: kernels.norm_act_tangent(same, primal.a, primal.xhat, groups=g, out=same),
        "cotangent": lambda: kernels.norm_act_cotangent(t, primal.a, primal.xhat, groups=g, out=out),
        "torch unfused": lambda: reference.norm_act_linear(t, primal.a, primal.xhat, g, False, False),
        "torch vmap(jvp)": lambda: jvp(own_t),
        "torch forward": lambda: forward(many),
        "primal": lambda: kernels.norm_act_primal(x, gamma, beta, groups=g, activation="silu", out=primal),
        "torch forward, 1 probe": lambda: forward(x if s == 1 and g == 1 else x.transpose(1, 2)[..., None]),
    }
    return {name: without_grad(call) for name, call in run.items()}


def row(name: str, sizes: tuple[int, ...], seconds: dict[str, float]) -> dict[str, Any]:
    """Ratios of one shape; below 1 against torch is a win, 1 against copy is the floor."""
    p, n, s, c, _ = sizes
    tangent = seconds["tangent"]
    return {
        "shape": name,
        "P,N,S,C,G": ",".join(map(str, sizes)),
        "copy GB/s": 2 * 4 * p * n * s * c / seconds["copy"] / 1e9,
        "tangent ms": tangent * 1e3,
        "tangent/copy": tangent / seconds["copy"],
        "in place/copy": seconds["in place"] / seconds["copy"],
        "cotangent/copy": seconds["cotangent"] / seconds["copy"],
        "tangent/unfused": tangent / seconds["torch unfused"],
        "tangent/vmap(jvp)": tangent / seconds["torch vmap(jvp)"],
        "tangent/forward": tangent / seconds["torch forward"],
        "primal/forward": seconds["primal"] / seconds["torch forward, 1 probe"],
    }


def main() -> None:
    options = begin(command_line(__doc__, quick="the two smallest shapes"))
    shapes = SHAPES[:1] + SHAPES[-1:] if options.quick else SHAPES
    if options.device == "cuda":  # so many probes that what they take does not fit a cache
        shapes = [(name, 50, *sizes) for name, _, *sizes in shapes]
    medians = measure(shapes, cases, options)
    rows = [row(name, tuple(sizes), medians[name]) for name, *sizes in shapes]
    report("norm", rows, options, median_seconds=medians)


if __name__ == "__main__":
    main()
