"""Gated activations: tangents and cotangents of many probes, against the copy limit and against torch.

The floor. A tangent pass reads 2 * P*R*C values and writes P*R*C, a cotangent pass the other way round: 3 * P*R*C * 4
bytes in float32, what a copy of 1.5 * P*R*C values moves. a and b are read too, 2 * R*C * 4 bytes, 2/(3P) of that.
`copy` below is torch's own copy of as many values, timed in the same rounds.

    python benchmarks/bench_gated.py [--threads 1] [--device cpu|cuda] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from kernel_benchmark import begin, command_line, measure, report

from latentjac import kernels

# name, P, rows, channels (of the output; the input has twice as many)
SHAPES = [
    ("sd1.5 64x64", 8, 4096, 1280),
    ("sd1.5 32x32", 8, 1024, 2560),
    ("sd1.5 16x16", 8, 256, 5120),
    ("sd1.5 8x8", 8, 64, 5120),
    ("small", 8, 64, 256),
    ("one probe 32x32", 1, 1024, 2560),
]


def cases(probes: int, rows: int, channels: int, device: str) -> dict[str, Callable[[], object]]:
    """Everything that is timed for one shape."""
    t, u = (torch.randn(probes, rows, n * channels, device=device) for n in (2, 1))
    a, b = (torch.randn(rows, channels, device=device) for _ in range(2))
    out, whole = torch.empty_like(u), torch.empty_like(t)
    value, gate = t.split(channels, -1)
    halves = whole.split(channels, -1)
    source = torch.randn(3 * u.numel() // 2, device=device)
    target = torch.empty_like(source)

    def torch_cotangent() -> None:
        torch.mul(u, a, out=halves[0])
        torch.mul(u, b, out=halves[1])

    return {
        "copy": lambda: target.copy_(source),
        "tangent": lambda: kernels.gated_tangent(value, gate, a, b, out=out),
        "cotangent": lambda: kernels.gated_cotangent(u, a, b, out=halves),
        "torch tangent": lambda: torch.mul(value, a, out=out).addcmul_(gate, b),
        "torch cotangent": torch_cotangent,
        # A plain activation: one factor, in place.
        "in-place product": lambda: out.mul_(a),
        "copy in place": lambda: out.neg_(),
    }


def row(name: str, sizes: tuple[int, ...], seconds: dict[str, float]) -> dict[str, Any]:
    """Ratios of one shape; below 1 against torch is a win, 1 against copy is the floor."""
    probes, rows, channels = sizes
    return {
        "shape": name,
        "P,R,C": ",".join(map(str, sizes)),
        "copy GB/s": 12 * probes * rows * channels / seconds["copy"] / 1e9,
        "tangent ms": seconds["tangent"] * 1e3,
        "tangent/copy": seconds["tangent"] / seconds["copy"],
        "cotangent/copy": seconds["cotangent"] / seconds["copy"],
        "tangent/torch": seconds["tangent"] / seconds["torch tangent"],
        "cotangent/torch": seconds["cotangent"] / seconds["torch cotangent"],
        "activation/floor": seconds["in-place product"] / seconds["copy in place"],
    }


def main() -> None:
    options = begin(command_line(__doc__, quick="the small shape"))
    shapes = SHAPES[4:5] if options.quick else SHAPES
    if options.device == "cuda":  # so many probes that what they take does not fit a cache
        shapes = [(name, 50 if probes > 1 else 1, *sizes) for name, probes, *sizes in shapes]
    medians = measure(shapes, cases, options)
    rows = [row(name, tuple(sizes), medians[name]) for name, *sizes in shapes]
    report("gated", rows, options, median_seconds=medians)


if __name__ == "__main__":
    main()
