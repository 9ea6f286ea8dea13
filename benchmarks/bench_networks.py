"""Passes and bases of whole networks on any device, beside plain forwards, PyTorch's own products and the paper.

    python benchmarks/bench_networks.py --network sd15 --device cuda                     # 50 probes, float32
    python benchmarks/bench_networks.py --network sd15 --device cuda --precision bf16    # or tf32
    python benchmarks/bench_networks.py --network ddpm256 --device cuda --compile
    python benchmarks/bench_networks.py --network sd15 --quick                           # a narrow one, anywhere

Passes are in the precision asked for; a basis from passes in tf32 or bf16 is refined in float32, and true residuals are
always those of float32. `forward` is the feature map on as many images as there are probes, channels last and in the
same precision. An iteration of the paper is one of benchmarks/peers/park2023.py; how many it needs is counted on the
fast operator. Peers that fail, or run out of memory, are listed with the reason. Passes are timed first, the
instructions last, one by one.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from bench_passes import profile
from networks import NAMES, Problem, problem
from peers import park2023
from peers.products import Failures, compiled, peers, reason
from peers.solvers import triplet_residuals
from record import alternate, synchronize, table, write

import latentjac
from latentjac.linearization import PRECISIONS
from latentjac.models.layers import Tap
from latentjac.solvers import Subspace

TOLERANCES = (1e-2, 1e-3)


def passes(p: Problem, lin: Any, probes: int, rounds: int, device: str) -> dict[str, float]:
    """Seconds of ours and of plain forwards."""
    v, u = probes_of(lin, probes)
    dtype = torch.bfloat16 if lin.precision == "bf16" else torch.float32
    # Weights too: torch's own derivatives do not take them so, which is why the network itself stays as it is.
    fastest = Tap(copy.deepcopy(p.network).to(dtype, memory_format=torch.channels_last), "mid_block")
    x, *rest = (c.to(dtype) if c.is_floating_point() else c for c in p.batch(probes))
    batch = (x.contiguous(memory_format=torch.channels_last), *rest)
    cases: dict[str, Callable[[], object]] = {
        "forward": lambda: fastest(*batch),
        "tangent": lambda: lin.jvp(v),
        "cotangent": lambda: lin.vjp(u),
        "rebase": lambda: lin.rebase(p.x),
        "forward of one": lambda: p.f(p.x, *p.constants),
    }
    return alternate(cases, rounds, 60.0, device)


def probes_of(lin: Any, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probes for both directions."""
    return torch.randn(count, *lin.x.shape).to(lin.x), torch.randn(count, *lin.y.shape).to(lin.y)


def others(
    p: Problem, lin: Any, probes: int, rounds: int, with_compile: bool, device: str
) -> tuple[dict[str, float], Failures]:
    """Seconds of PyTorch's ways, and why some fail."""
    v, u = probes_of(lin, probes)
    cases, failed = peers(lambda z: p.f(z, *p.constants), p.x, v, u)
    if with_compile:
        more, more_failed = compiled(cases)
        cases, failed = cases | more, failed | more_failed
    return alternate(cases, max(3, rounds // 3), 60.0, device), failed


def bases(lin: Any, exact: Any, k: int, device: str) -> list[dict[str, Any]]:
    """Ours to each residual: the fourth run, since the first measures what passes cost and others record on a GPU."""
    rows = []
    for tol in TOLERANCES:
        for _ in range(4):
            start = time.perf_counter()
            basis = latentjac.svd(lin, k, tol, refine_with=None if exact is lin else exact)
            synchronize(device)
            seconds = time.perf_counter() - start
        passes, vectors = basis.metadata["passes"], basis.jvps + basis.vjps
        rows.append(
            {
                "solver": "latentjac",
                "residual": tol,
                "seconds": seconds,
                "passes": passes,
                "vectors": vectors,
                "of them refining": sum(basis.metadata.get(f"refine_{way}", 0) for way in ("jvps", "vjps")),
                "true residual": float(triplet_residuals(exact, basis.u, basis.s, basis.v).max()),
                "of it in products": in_products(lin, passes, vectors, device) / seconds if exact is lin else None,
            }
        )
    return rows


def in_products(lin: Any, passes: int, vectors: int, device: str) -> float:
    """Seconds that as many passes of the average size take by themselves."""
    v, u = probes_of(lin, max(1, round(vectors / passes)))
    seconds = alternate({"tangent": lambda: lin.jvp(v), "cotangent": lambda: lin.vjp(u)}, 5, 5.0, device)
    return passes / 2 * sum(seconds.values())


def papers(p: Problem, lin: Any, k: int, most_seconds: float, device: str) -> list[dict[str, Any]]:
    """The paper's iteration: seconds of one, and how many it takes to each residual."""
    steps = park2023.iterate(lambda z: p.f(z, *p.constants), p.x, k)
    next(steps)
    synchronize(device)
    start = time.perf_counter()
    next(steps)
    synchronize(device)
    each = time.perf_counter() - start
    curve: list[float] = []

    def watch(state: latentjac.solvers.SolverState) -> None:
        curve.append(float(state.residuals.max()))

    last = latentjac.svd(lin, k, TOLERANCES[-1], solver=Subspace(), max_seconds=most_seconds, callback=watch)
    curve.append(float(last.residuals.max()))
    rows = []
    for tol in TOLERANCES:
        count = next((i + 1 for i, value in enumerate(curve) if value <= tol), None)
        rows.append(
            {
                "solver": "paper",
                "residual": tol,
                "seconds": each * count if count else None,
                "iterations": count or f"more than {len(curve)}",
                "seconds an iteration": each,
            }
        )
    return rows


def instructions(lin: Any, probes: int, device: str) -> list[dict[str, Any]]:
    """Median milliseconds of each instruction; waits for each, so their sum is more than a pass."""

    def clock() -> float:
        synchronize(device)
        return time.perf_counter()

    v, u = probes_of(lin, probes)
    rows = profile(lin, v, u, 3, clock)
    return sorted(rows, key=lambda row: -row["tangent ms"] - row["cotangent ms"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NAMES, default="faces")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS, help="of passes and of torch's forwards")
    parser.add_argument("--probes", type=int, default=50)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--paper-seconds", type=float, default=60.0, help="most time for counting its iterations")
    parser.add_argument("--compile", action="store_true", help="peers through torch.compile too: minutes")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--no-bases", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a narrow network, 4 probes, no file")
    options = parser.parse_args()
    if options.quick:
        options.probes, options.k, options.rounds, options.paper_seconds = 4, 4, 3, 2.0
    warnings.simplefilter("ignore")
    device = options.device
    for settings in (torch.backends.cuda.matmul, torch.backends.cudnn):
        settings.allow_tf32 = options.precision == "tf32"
    with torch.no_grad():
        report(options, problem(options.network, device, torch.float32, options.quick), device)


def report(options: argparse.Namespace, p: Problem, device: str) -> None:
    """Measure, print, write."""
    start = time.perf_counter()
    lin = latentjac.linearize(p.f, p.x, *p.constants, precision=options.precision)
    synchronize(device)
    traced = time.perf_counter() - start
    seconds = passes(p, lin, options.probes, options.rounds, device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    failed: Failures = {}
    if not options.no_peers:
        more, failed = others(p, lin, options.probes, options.rounds, options.compile, device)
        seconds |= more
    rows = [
        {"case": name, "ms": 1e3 * value, "of forward": value / seconds["forward"]} for name, value in seconds.items()
    ]
    print(f"{options.network}, {lin.backend}, {options.probes} probes, {options.precision}, traced in {traced:.1f} s")
    print(table(rows))
    for name, why in failed.items():
        print(f"{name} fails: {why}")
    solvers: list[dict[str, Any]] = []
    exact = lin
    if options.precision != "fp32" and not options.no_bases:
        exact = latentjac.linearize(p.f, p.x, *p.constants, precision="fp32")
    parts = [
        lambda: bases(lin, exact, options.k, device),
        lambda: papers(p, exact, options.k, options.paper_seconds, device),
    ]
    for part in [] if options.no_bases else parts:
        try:
            found = part()
        except Exception as error:  # such as memory for the paper's iteration
            failed["bases"] = reason(error)
            print("bases fail:", failed["bases"])
        else:
            print(table(found))
            solvers += found
    families: list[dict[str, Any]] = []
    if lin.backend == "program":
        # Recorded passes are one launch each, and a clock between instructions would break a recording.
        launched = latentjac.linearize(p.f, p.x, *p.constants, precision=options.precision, cuda_graphs=False)
        families = instructions(launched, options.probes, device)
    for row in families[:12]:
        print("  ".join(map(str, row.values())))
    if options.quick:
        return
    name = f"network_{options.network}_{options.precision}_{device}"
    print(
        write(
            name, rows, device, probes=options.probes, k=options.k, backend=lin.backend, failed=failed, solvers=solvers,
            traced_s=traced, peak_gb=memory, instructions=families,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
