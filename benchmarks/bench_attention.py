"""Attention: tangents and cotangents of many probes, against the matmul limit and against torch.

The floor. Per pair of a query and a key, and per probe, a tangent of queries, keys and values takes 2 (D + D) products
for the scores and 2 (E + E) for what they weigh; P itself is formed once for all probes. The limit is the best rate of
a matrix product or convolution on the same machine. `torch` is the same formulas in batched products of torch;
`vmap(jvp)` and `vmap(vjp)` differentiate torch's math attention. On a GPU the Triton kernel of the package
jvp_flash_attention is timed as well, where it is installed and takes the shape: values and one tangent at a time, so
its time is that of all probes as one batch.

float32 forbids tf32 to all, but for the Triton kernel, which decides for itself; --tf32 allows it to all, the limit and
torch's math attention among them.

    python benchmarks/bench_attention.py [--threads 1] [--device cpu|cuda] [--dtype float32 [--tf32]] [--quick]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from kernel_benchmark import begin, command_line, report
from peers.products import reason
from record import alternate
from torch.autograd import forward_ad

from latentjac import kernels
from latentjac.kernels import attention_reference
from latentjac.linearization.precision import allows_tf32, arithmetic

# name, P, heads, queries, keys, channels; cross-attention takes tangents of the queries alone
SHAPES = [
    ("u-net 16x16", 25, 16, 256, 256, 8),
    ("faces 16x16", 25, 4, 256, 256, 32),
    ("faces 8x8", 25, 6, 64, 64, 32),
    ("sd1.5 32x32", 4, 8, 1024, 1024, 80),
    ("sd1.5 32x32 text", 8, 8, 1024, 77, 80),
    ("ddpm-256 16x16", 8, 1, 256, 256, 512),
]
TRITON_HEADS = (16, 32, 64, 128, 256)
CUDA_SHAPES = [
    ("sd1.5 64x64", 8, 8, 4096, 4096, 40),
    ("sd1.5 64x64 text", 8, 8, 4096, 77, 40),
    ("sd2.1 64x64", 8, 5, 4096, 4096, 64),
    *SHAPES,
]


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.softmax(q @ k.mT * q.shape[-1] ** -0.5, -1) @ v


def cases(sizes: tuple[int, ...], cross: bool, device: str, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Everything that is timed for one shape; arrays lie as projections leave them, heads behind rows."""
    allow_tf32 = allows_tf32(torch.device(device))
    probes, heads, n, m, d = sizes

    def draw(rows: int, *lead: int) -> torch.Tensor:
        return torch.randn(*lead, 1, rows, heads, d, device=device, dtype=dtype).transpose(-2, -3)

    q, k, v = draw(n), draw(m), draw(m)
    dq, dk, dv, u = draw(n, probes), draw(m, probes), draw(m, probes), draw(n, probes)
    wanted = (True, not cross, not cross)
    tangents = (dq, None, None) if cross else (dq, dk, dv)
    primal = kernels.attention_primal(q, k, v, allow_tf32=allow_tf32)
    point = (q,) if cross else (q, k, v)
    directions = (dq,) if cross else (dq, dk, dv)

    def f(*at: torch.Tensor) -> torch.Tensor:
        return attend(*at, k, v) if cross else attend(*at)

    _, pull = torch.func.vjp(f, *point)
    return {
        "tangent": lambda: kernels.attention_tangent(primal, *tangents),
        "cotangent": lambda: kernels.attention_cotangent(primal, u, wanted=wanted),
        "primal": lambda: kernels.attention_primal(q, k, v, allow_tf32=allow_tf32),
        "torch tangent": lambda: attention_reference.tangent(primal, *tangents),
        "torch cotangent": lambda: attention_reference.cotangent(primal, u, wanted),
        "vmap(jvp)": lambda: torch.func.vmap(lambda *w: torch.func.jvp(f, point, w)[1])(*directions),
        "vmap(vjp)": lambda: torch.func.vmap(pull)(u),
        "torch primal": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
    }


def triton_jvp(sizes: tuple[int, ...], dtype: torch.dtype) -> Callable[[], object]:
    """The package's values and tangents, all probes as one batch, heads filled up to a size that it has."""
    from jvp_flash_attention.jvp_attention import JVPAttn

    probes, heads, n, m, d = sizes
    width = next((size for size in TRITON_HEADS if size >= d), d)
    point, directions = (
        [torch.randn(probes, heads, rows, width, device="cuda", dtype=dtype) for rows in (n, m, m)] for _ in range(2)
    )

    def run() -> object:
        with forward_ad.dual_level():
            out = JVPAttn.fwd_dual(*map(forward_ad.make_dual, point, directions))
            return forward_ad.unpack_dual(out).tangent

    return run


def with_triton(
    timed: dict[str, Callable[[], object]], sizes: tuple[int, ...], dtype: torch.dtype
) -> tuple[dict[str, Callable[[], object]], str]:
    """The cases with the Triton package's, or what is wrong with it."""
    try:
        case = triton_jvp(sizes, dtype)
        case()
    except ModuleNotFoundError as error:
        return timed, "not installed" if error.name == "jvp_flash_attention" else reason(error)
    except Exception as error:  # such as a head size that it does not have
        return timed, reason(error)
    return {**timed, "triton jvp": case}, ""


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Best FLOP/s of a product or, on a processor, of a convolution."""
    a = torch.randn(2048, 2048, device=device, dtype=dtype)
    image = torch.randn(8, 256, 16, 16, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    seconds = alternate({"a": lambda: a @ a, "b": lambda: torch.conv2d(image, weight, padding=1)}, 9, 5.0, device)
    return max(2 * 2048**3 / seconds["a"], 2 * 9 * 256 * 256 * 8 * 256 / seconds["b"])


def row(name: str, sizes: tuple[int, ...], cross: bool, seconds: dict[str, float], rate: float) -> dict[str, Any]:
    """Rates and ratios of one shape; below 1 against torch is a win, 1 of the limit is the floor."""
    probes, heads, n, m, d = sizes
    product = 2 * probes * heads * n * m * d
    flops = (2 if cross else 4) * product
    return {
        "shape": name,
        "P,heads,N,M,D": ",".join(map(str, sizes)),
        "tangent ms": seconds["tangent"] * 1e3,
        "tangent GFLOP/s": flops / seconds["tangent"] / 1e9,
        "tangent of limit": flops / seconds["tangent"] / rate,
        "cotangent of limit": flops / seconds["cotangent"] / rate,
        "tangent/torch": seconds["tangent"] / seconds["torch tangent"],
        "cotangent/torch": seconds["cotangent"] / seconds["torch cotangent"],
        "tangent/vmap(jvp)": seconds["tangent"] / seconds["vmap(jvp)"],
        "cotangent/vmap(vjp)": seconds["cotangent"] / seconds["vmap(vjp)"],
        "primal/torch": seconds["primal"] / seconds["torch primal"],
    }


def main() -> None:
    parser = command_line(__doc__, quick="one small shape")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--tf32", action="store_true", help="allow tf32 to float32 products; on CUDA alone")
    arguments = begin(parser)
    if arguments.tf32 and (arguments.device, arguments.dtype) != ("cuda", "float32"):
        parser.error("--tf32 must come with --device cuda and --dtype float32")
    with arithmetic("tf32" if arguments.tf32 else "fp32", torch.device(arguments.device)):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Time all shapes, print the table and write the results."""
    dtype, device = getattr(torch, arguments.dtype), arguments.device
    rate = matmul_rate(device, dtype)
    rows, medians, failed = [], {}, {}
    shapes = SHAPES if device == "cpu" else CUDA_SHAPES
    for name, *sizes in SHAPES[2:3] if arguments.quick else shapes:
        timed = cases(tuple(sizes), "text" in name, device, dtype)
        if device == "cuda":
            timed, failed[name] = with_triton(timed, tuple(sizes), dtype)
        seconds = alternate(timed, 3 if arguments.quick else 21, 4.0 if device == "cuda" else 20.0, device)
        rows.append(row(name, tuple(sizes), "text" in name, seconds, rate))
        if device == "cuda":
            triton = seconds.get("triton jvp")
            rows[-1]["tangent/triton"] = seconds["tangent"] / triton if triton else ""
        medians[name] = seconds
    name = "attention" if device == "cpu" else f"attention_{'tf32' if arguments.tf32 else arguments.dtype}"
    report(name, rows, arguments, limit_gflops=rate / 1e9, median_seconds=medians, triton=failed)
    for name, why in failed.items():
        if why:
            print(f"jvp_flash_attention, {name}: {why}")


if __name__ == "__main__":
    main()
