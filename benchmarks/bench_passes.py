"""Tangent and cotangent passes against a plain forward, the floor of matmuls and what PyTorch offers.

    python benchmarks/bench_passes.py                  # the U-Net of the tables, 25 probes, all threads
    python benchmarks/bench_passes.py --model faces    # the built-in model
    python benchmarks/bench_passes.py --threads 1      # processor time, steady on a busy machine
    python benchmarks/bench_passes.py --compile        # peers also through torch.compile: minutes more

The network is cut off at its tap in all cases: `forward` is the function that is linearized, on a batch of as many
images as there are probes; `whole forward` runs the network to its end. The floor is its convolutions, linear layers
and attention matmuls alone, channels last.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from networks import network
from peers.products import compiled, peers
from record import times, write

from latentjac.linearization import ProgramLinearization
from latentjac.linearization.describe import nbytes
from latentjac.models.layers import Tap

Cases = dict[str, Callable[[], object]]


def floor(lin: ProgramLinearization, k: int) -> Cases:
    """The network's matmuls, family by family, on a batch of k."""
    last = torch.channels_last
    jobs: dict[str, list[Callable[[], object]]] = {"convolutions": [], "linear layers": [], "attention": []}
    for instruction in lin.program.instructions:
        for call in instruction.calls:
            operator = call.target.split(".")[1]
            shape = [lin.program.metas[slot].shape for slot in call.reads[:3]]
            if operator == "conv2d":
                x = torch.randn(k, *shape[0][1:]).contiguous(memory_format=last)
                w = torch.randn(shape[1]).contiguous(memory_format=last)
                settings = (call.arguments["stride"], call.arguments["padding"])
                jobs["convolutions"].append(lambda x=x, w=w, settings=settings: F.conv2d(x, w, None, *settings))
            elif operator == "linear":
                x, w = torch.randn(k, *shape[0][1:]), torch.randn(shape[1])
                jobs["linear layers"].append(lambda x=x, w=w: F.linear(x, w))
            elif operator == "scaled_dot_product_attention":
                q, p = torch.randn(k, *shape[0][1:]), torch.randn(k, *shape[0][1:-1], shape[1][-2])
                jobs["attention"].append(lambda q=q, p=p: (q @ q.mT, p @ q))
    return {name: lambda family=family: [job() for job in family] for name, family in jobs.items()}


def profile(lin: ProgramLinearization, v: torch.Tensor, u: torch.Tensor, rounds: int, clock: Callable) -> list[dict]:
    """Median milliseconds of each instruction, both ways, beside its bytes and FLOPs for all probes."""
    times: dict[tuple[int, str], float] = {}

    def timed(index: int, name: str, apply: Callable) -> Callable:
        def run(*args: Any) -> Any:
            start = clock()
            result = apply(*args)
            times[index, name] = times.get((index, name), 0.0) + clock() - start
            return result

        return run

    instructions = lin.program.instructions
    for index, instruction in enumerate(instructions):
        for name in ("tangent", "cotangent"):
            setattr(instruction, name, timed(index, name, getattr(instruction, name)))
    samples: dict[tuple[int, str], list[float]] = {}
    for _ in range(rounds):
        times.clear()
        lin.jvp(v)
        lin.vjp(u)
        for key, seconds in times.items():
            samples.setdefault(key, []).append(seconds)
    rows = []
    for index, instruction in enumerate(instructions):
        ms = {name: 1e3 * statistics.median(samples.get((index, name), [0.0])) for name in ("tangent", "cotangent")}
        rows.append(
            {
                "instruction": instruction.call.name,
                "kernel": instruction.kernel,
                "output": "x".join(map(str, instruction.shape(instruction.outs[0]))),
                **{f"{name} ms": round(value, 2) for name, value in ms.items()},
                "GB": round(nbytes(instruction, lin.program.metas) * len(v) / 1e9, 4),
                "GFLOP": round(instruction.flops() * len(v) / 1e9, 3),
            }
        )
    return rows


def limits(clock: Callable[[], float]) -> dict[str, float]:
    """Best GFLOP/s of a product, by whatever computes it fastest, and GB/s of a copy larger than the caches."""
    a, source = torch.randn(2048, 2048), torch.randn(2**26)
    packed = torch.ops.mkldnn._reorder_linear_weight(a)
    image, weight = torch.randn(8, 256, 16, 16), torch.randn(256, 256, 3, 3)
    image, weight = (v.contiguous(memory_format=torch.channels_last) for v in (image, weight))
    target = torch.empty_like(source)
    cases: Cases = {
        "MKL": lambda: a @ a,
        "oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""),
        "convolution": lambda: F.conv2d(image, weight, None, 1, 1),
        "copy": lambda: target.copy_(source),
    }
    found = times(cases, 5, math.inf, clock=clock)
    flops = {"MKL": 2 * 2048**3, "oneDNN": 2 * 2048**3, "convolution": 2 * 9 * 256 * 256 * 8 * 256}
    return {
        "GFLOP/s": round(max(count / min(found[name]) for name, count in flops.items()) / 1e9),
        "GB/s": round(2 * source.nbytes / min(found["copy"]) / 1e9, 1),
    }


def roofline(table: list[dict], limit: dict[str, float]) -> list[dict]:
    """Instructions of one kind together: their time beside the least that their bytes and FLOPs allow."""
    kinds: dict[str, dict[str, Any]] = {}
    for row in table:
        row["limit ms"] = round(1e3 * max(row["GB"] / limit["GB/s"], row["GFLOP"] / limit["GFLOP/s"]), 3)
        names = {"onednn conv": "convolutions", "onednn linear": "linear layers", "attention": "attention"}
        names |= {"norm_act": "norms with their activation"}
        kind = next((name for start, name in names.items() if row["kernel"].startswith(start)), "views and others")
        into = kinds.setdefault(kind, {"instructions": kind, "count": 0})
        into["count"] += 1
        for key in ("tangent ms", "cotangent ms", "limit ms", "GB", "GFLOP"):
            into[key] = into.get(key, 0.0) + row[key]
    for row in kinds.values():
        row["tangent of limit"] = round(row["tangent ms"] / row["limit ms"], 2) if row["limit ms"] else ""
        row["cotangent of limit"] = round(row["cotangent ms"] / row["limit ms"], 2) if row["limit ms"] else ""
    return sorted(kinds.values(), key=lambda row: -row["tangent ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--model", choices=["unet", "faces"], default="unet")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--compile", action="store_true", help="peers through torch.compile too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    net, k = network(options.model), options.probes
    f, x, t = Tap(net, "mid_block"), torch.randn(1, 3, 64, 64), torch.tensor(500)
    start = time.perf_counter()
    lin = ProgramLinearization(f, x, t)
    traced = time.perf_counter() - start
    v, u, batch = torch.randn(k, *x.shape), torch.randn(k, *lin.y.shape), torch.randn(k, *x.shape[1:])
    matmuls = floor(lin, k)
    with torch.no_grad():
        cases: Cases = {
            "forward": lambda: f(batch, t),
            "whole forward": lambda: net(batch, t),
            "floor": lambda: [family() for family in matmuls.values()],
            "tangent": lambda: lin.jvp(v),
            "cotangent": lambda: lin.vjp(u),
            "rebase": lambda: lin.rebase(x),
            "forward of one": lambda: f(x, t),
        }
        found = times(cases, options.rounds, math.inf, clock=clock)
        families: Cases = {f"floor: {name}": case for name, case in matmuls.items()}
        found |= times(families, options.rounds, math.inf, clock=clock)
        failed: dict[str, str] = {}
        if not options.no_peers:
            others, failed = peers(lambda z: f(z, t), x, v, u)
            more, more_failed = compiled(others) if options.compile else ({}, {})
            failed |= more_failed
            found |= times(others | more, max(2, options.rounds // 3), math.inf, clock=clock)
        table = profile(lin, v, u, options.rounds, clock)
    medians = {name: statistics.median(values) for name, values in found.items()}
    rows = [
        {
            "case": name,
            "median s": round(seconds, 4),
            "least s": round(min(found[name]), 4),
            "of forward": round(seconds / medians["forward"], 3),
            "of whole forward": round(seconds / medians["whole forward"], 3),
            "of floor": round(seconds / medians["floor"], 3),
        }
        for name, seconds in medians.items()
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    limit = limits(clock)
    kinds = roofline(table, limit)
    for row in sorted(table, key=lambda row: row["limit ms"] - row["tangent ms"])[:15]:
        print("  ".join(f"{value}" for value in row.values()))
    for name, why in failed.items():
        print(name, "fails:", why)
    widths = tuple(net.config.block_out_channels)
    path = write(
        f"passes_{options.model}_{options.threads}_threads",
        rows,
        network=f"UNet2DModel {widths}, 64x64, tap mid_block",
        failed=failed,
        probes=k,
        clock="processor time" if options.threads == 1 else "wall time",
        limits=limit,
        roofline=kinds,
        trace_and_first_point_s=round(traced, 2),
        chunk_size=lin.program.chunk_size(),
        instructions=table,
    )
    print(path)


if __name__ == "__main__":
    main()
