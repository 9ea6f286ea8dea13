"""Passes through networks with all the blocks of published ones, narrow, beside plain forwards and torch.func.

    python benchmarks/bench_topologies.py                          # all, about ten minutes on two quiet cores
    python benchmarks/bench_topologies.py --network dit --rounds 3
    python benchmarks/bench_topologies.py --quick                  # one round of few probes, no file

What is linearized is the whole prediction, or with ``--layer mid`` what comes out of the middle block. `forward` is the
same on as many samples as there are probes; ratios are to it. Beside that, the total derivative in (z, t, r) that
losses of flow maps need: one step is a new point and one tangent.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import torch
from peers.products import Failures, peers
from record import alternate, table, write
from topologies import TOPOLOGIES, described, traced

import latentjac
from latentjac.linearization.autodiff import differentiable

OURS = ("tangent", "cotangent")
PEERS = ("vmap(jvp)", "vmap(linearize)", "vmap(vjp)", "batched grad")


def passes(name: str, options: argparse.Namespace) -> tuple[dict[str, Any], Failures]:
    """A row: seconds of a forward, and ratios to it."""
    p = traced(name, "narrow", options.layer)
    start = time.perf_counter()
    lin = latentjac.linearize(p.f, p.x, *p.constants)
    seconds = time.perf_counter() - start
    v, u = torch.randn(options.probes, *lin.x.shape), torch.randn(options.probes, *lin.y.shape)
    batch = p.batch(options.probes)
    cases, failed = peers(lambda z: p.f(z, *p.constants), p.x, v, u)
    cases |= {"forward": lambda: p.f(*batch), "tangent": lambda: lin.jvp(v), "cotangent": lambda: lin.vjp(u)}
    cases["forward of one"] = lambda: p.f(p.x, *p.constants)
    found = alternate(cases, options.rounds, options.seconds)
    ratios = {case: found[case] / found["forward"] if case in found else "fails" for case in (*OURS, *PEERS)}
    best = (
        min(found[case] for case in PEERS[:2] if case in found),
        min(found[case] for case in PEERS[2:] if case in found),
    )
    return {
        "network": name,
        "million parameters": round(p.parameters / 1e6, 1),
        "forward of one s": found["forward of one"],
        **ratios,
        "tangents: best peer of ours": best[0] / found["tangent"],
        "cotangents: best peer of ours": best[1] / found["cotangent"],
        "traced in s": seconds,
        "backend": lin.backend,
    }, failed


def flow_map(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The derivative of u(z, t, r) along (v, 1, 0) and along k such: ours beside torch.func.jvp."""
    p = traced("dit", "narrow", "whole")
    _, *tensors = p.constants

    def u(z: torch.Tensor, t: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
        return p.f(z, 1000 * (t - r)[:, 0], *tensors)

    z, t, r = p.x, torch.full((1, 1), 0.8), torch.full((1, 1), 0.3)
    v = torch.randn(options.probes, *z.shape)
    one, zero = torch.ones(options.probes, 1, 1), torch.zeros(options.probes, 1, 1)
    lin = latentjac.linearize(u, (z, t, r))

    def step() -> None:
        lin.rebase((z, t, r))
        lin.jvp((v[:1], one[:1], zero[:1]))

    def theirs(count: int) -> None:
        with differentiable():
            push = lambda *tangents: torch.func.jvp(u, (z, t, r), tangents)[1]  # noqa: E731
            push(v[0], one[0], zero[0]) if count == 1 else torch.func.vmap(push)(v, one, zero)

    cases = {
        "forward": lambda: u(z, t, r),
        "a step": step,
        "jvp": lambda: theirs(1),
        "tangents": lambda: lin.jvp((v, one, zero)),
        "vmap(jvp)": lambda: theirs(options.probes),
    }
    found = alternate(cases, options.rounds, options.seconds)
    rows = []
    for what, ours, peer in (
        ("a new point and one tangent", "a step", "jvp"),
        (f"{options.probes} tangents at a point", "tangents", "vmap(jvp)"),
    ):
        ratios = {"ours, of a forward": found[ours] / found["forward"]}
        ratios["torch.func.jvp, of a forward"] = found[peer] / found["forward"]
        rows.append({"derivative in (z, t, r)": what, **ratios, "torch.func of ours": found[peer] / found[ours]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--network", choices=list(TOPOLOGIES), action="append", help="may be given again; all by default"
    )
    parser.add_argument("--layer", choices=["whole", "mid"], default="whole")
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0, help="most time of one network's rounds, beyond three")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="one round of two probes, no file")
    options = parser.parse_args()
    if options.quick:
        options.probes, options.rounds = 2, 1
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    rows, failed = [], {}
    names = options.network or [name for name in TOPOLOGIES if name != "pixart"]
    with torch.no_grad():
        for name in names:
            row, why = passes(name, options)
            rows.append(row)
            failed |= {f"{name}: {case}": text for case, text in why.items()}
            print(table(rows[-1:]), flush=True)
        joint = flow_map(options)
    print(table(joint))
    for case, why in failed.items():
        print(f"{case} fails: {why}")
    if not options.quick:
        about = [{"network": name, "narrow in": described(name, "narrow")} for name in names]
        more = {"layer": options.layer, "probes": options.probes, "failed": failed, "configurations": about}
        print(write(f"topologies_{options.layer}", rows, **more, flow_map=joint))


if __name__ == "__main__":
    main()
