"""Passes over few probes, recorded as CUDA graphs against launched one by one: what the launches cost.

    python benchmarks/bench_graphs.py [--probes 8] [--model unet|faces]

Needs a GPU. ``rebase`` is the primal, ``basis`` as many singular triplets to 1e-3, where the solver's own work between
passes is recorded too. Recording is what the first passes over so many probes take longer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from networks import network
from record import alternate, table, write

from latentjac.linearization import ProgramLinearization
from latentjac.models.layers import Tap
from latentjac.solvers import Krylov, svd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--model", choices=["unet", "faces"], default="unet")
    options = parser.parse_args()
    net = network(options.model).to("cuda")
    x, t = torch.randn(1, 3, 64, 64, device="cuda"), torch.tensor(500, device="cuda")
    rows = []
    for precision in ("fp32", "tf32", "bf16"):
        cases: dict[str, Callable[[], object]] = {}
        recording = 0.0
        for name, mode in (("launched", False), ("recorded", True)):
            lin = ProgramLinearization(Tap(net, "mid_block"), x, t, cuda_graphs=mode, precision=precision)
            v, u = (torch.randn(options.probes, *like.shape, device="cuda") for like in (lin.x, lin.y))
            start = time.perf_counter()
            lin.prepare(options.probes)
            torch.cuda.synchronize()
            recording = time.perf_counter() - start
            cases |= {
                f"tangent {name}": lambda lin=lin, v=v: lin.jvp(v),
                f"cotangent {name}": lambda lin=lin, u=u: lin.vjp(u),
                f"rebase {name}": lambda lin=lin: lin.rebase(x),
                f"basis {name}": lambda lin=lin: svd(lin, k=options.probes, solver=Krylov(block_size=options.probes)),
            }
            for _ in range(2):  # the second run records what the solver does
                cases[f"basis {name}"]()
        seconds = alternate(cases, device="cuda")
        for what in ("tangent", "cotangent", "rebase", "basis"):
            launched, recorded = (seconds[f"{what} {name}"] for name in ("launched", "recorded"))
            rows.append(
                {
                    "precision": precision,
                    "what": what,
                    "launched ms": round(1e3 * launched, 3),
                    "recorded ms": round(1e3 * recorded, 3),
                    "launched of recorded": round(launched / recorded, 2),
                    "recording both ms": round(1e3 * recording, 1),
                }
            )
    print(table(rows))
    print(write(f"graphs_{options.model}_cuda", rows, "cuda", probes=options.probes))


if __name__ == "__main__":
    main()
