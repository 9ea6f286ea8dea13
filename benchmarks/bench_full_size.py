"""Published networks at their full size, with random weights in bfloat16: are they traced, and in how much memory.

    python benchmarks/bench_full_size.py                            # one after the other, each in a process of its own
    python benchmarks/bench_full_size.py --network sd15 --size 16   # one, in this process

Each is built, traced as a whole prediction at a small latent, and gives one tangent and one cotangent; `rounding` is
how far the two are from being each other's transpose. Flux is cut to a quarter of its depth: its weights are 24 GB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from typing import Any

import torch
from record import RESULTS, peak_bytes, table, write
from topologies import FURTHER, TOPOLOGIES, described, traced

import latentjac
from latentjac.files import read_json

_MARK = "RESULT "
NETWORKS = {**TOPOLOGIES, **FURTHER}


def measured(name: str, size: int, layer: str) -> dict[str, Any]:
    """Seconds and gigabytes of one network."""
    kind = "cut" if NETWORKS[name].cut else "full"
    times = [time.perf_counter()]

    def passed() -> float:
        times.append(time.perf_counter())
        return round(times[-1] - times[-2], 2)

    p = traced(name, kind, layer, torch.bfloat16, size)
    row: dict[str, Any] = {"network": name, "size": described(name, kind), "latent": size, "layer": layer}
    row |= {"billion parameters": round(p.parameters / 1e9, 2), "weights GB": round(2 * p.parameters / 1e9, 2)}
    row["built s"] = passed()
    with torch.no_grad():
        p.f(p.x, *p.constants)
        row["forward s"] = passed()
        row["peak of a forward GB"] = peak()
        lin = latentjac.linearize(p.f, p.x, *p.constants)
        row |= {"traced s": passed(), "backend": lin.backend}
        v, u = torch.randn(1, *lin.x.shape).to(lin.x), torch.randn(1, *lin.y.shape).to(lin.y)
        jv = lin.jvp(v)
        row["tangent s"] = passed()
        ju = lin.vjp(u)
        row["cotangent s"] = passed()
    left, right = ((a.double() * b.double()).sum() for a, b in ((jv, u), (v, ju)))
    row["rounding"] = float((left - right).abs() / (jv.double().norm() * u.double().norm()))
    return {**row, "peak GB": peak()}


def peak() -> float:
    """Most memory that this process has had."""
    return round(peak_bytes() / 1e9, 2)


def in_a_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own; why not, where that fails."""
    command = [sys.executable, __file__, "--network", name, "--size", str(options.size), "--layer", options.layer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if lines:
        return json.loads(lines[-1].removeprefix(_MARK))
    why = (done.stderr.strip().splitlines() or ["no memory"])[-1]
    return {"network": name, "size": f"fails ({done.returncode}): {why[:200]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=list(NETWORKS))
    parser.add_argument(
        "--only", choices=list(NETWORKS), nargs="+", default=list(NETWORKS), help="others stay as they are"
    )
    parser.add_argument("--size", type=int, default=16, help="height and width of the latent")
    parser.add_argument("--layer", choices=["whole", "mid"], default="whole")
    parser.add_argument("--seconds", type=float, default=900.0, help="most time of one")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.network:
        print(_MARK + json.dumps(measured(options.network, options.size, options.layer)))
        return
    path = RESULTS / "full_size.json"
    known = {row["network"]: row for row in read_json("bench_full_size", path)["rows"]} if path.exists() else {}
    for name in options.only:
        try:
            row = in_a_process(name, options)
        except subprocess.TimeoutExpired:
            row = {"network": name, "size": f"more than {options.seconds:.0f} s"}
        print(table([row]), flush=True)
        known[name] = row
        rows = [known[each] for each in NETWORKS if each in known]
        heads = dict.fromkeys(head for row in rows for head in row)
        print(write("full_size", [{head: row.get(head, "") for head in heads} for row in rows]))


if __name__ == "__main__":
    main()
