"""Passes through networks with all kinds of blocks of published ones, narrow, beside plain forwards and torch.func.

    python benchmarks/bench_topologies.py                # all, about twenty minutes on a core
    python benchmarks/bench_topologies.py dit flow-map   # these alone, the others' figures stay
    python benchmarks/bench_topologies.py --quick        # one round of few probes, no file

The file is written after each network. What is linearized is the whole prediction, or with ``--layer mid`` what comes
out of the middle block. `forward` is the same on as many samples as there are probes; ratios are to it. ``flow-map``
is the total derivative in (z, t, r) that losses of flow maps need: one step is a new point and one tangent.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import record
import torch
from peers.products import Failures, peers
from topologies import TOPOLOGIES, described, traced

import latentjac
from latentjac.files import read_json
from latentjac.linearization.autodiff import differentiable

OURS = ("tangent", "cotangent")
FLOW_MAP = "flow-map"
PEERS = ("vmap(jvp)", "vmap(linearize)", "vmap(vjp)", "batched grad")


def passes(name: str, options: argparse.Namespace) -> tuple[list[dict[str, Any]], Failures]:
    """A row: seconds of a forward, and ratios to it; and why those ways fail that do."""
    p = traced(name, "narrow", options.layer)
    start = time.perf_counter()
    lin = latentjac.linearize(p.f, p.x, *p.constants)
    seconds = time.perf_counter() - start
    v, u = torch.randn(options.probes, *lin.x.shape), torch.randn(options.probes, *lin.y.shape)
    batch = p.batch(options.probes)
    cases, failed = peers(lambda z: p.f(z, *p.constants), p.x, v, u)
    cases |= {"forward": lambda: p.f(*batch), "tangent": lambda: lin.jvp(v), "cotangent": lambda: lin.vjp(u)}
    cases["forward of one"] = lambda: p.f(p.x, *p.constants)
    found = record.alternate(cases, options.rounds, options.seconds)
    ratios = {case: found[case] / found["forward"] if case in found else "fails" for case in (*OURS, *PEERS)}
    best = (
        min(found[case] for case in PEERS[:2] if case in found),
        min(found[case] for case in PEERS[2:] if case in found),
    )
    row = {
        "network": name,
        "million parameters": round(p.parameters / 1e6, 1),
        "forward of one s": found["forward of one"],
        **ratios,
        "tangents: best peer of ours": best[0] / found["tangent"],
        "cotangents: best peer of ours": best[1] / found["cotangent"],
        "traced in s": seconds,
        "backend": lin.backend,
    }
    return [row], failed


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
    found = record.alternate(cases, options.rounds, options.seconds)
    rows = []
    for what, ours, peer in (
        ("a new point and one tangent", "a step", "jvp"),
        (f"{options.probes} tangents at a point", "tangents", "vmap(jvp)"),
    ):
        ratios = {"ours, of a forward": found[ours] / found["forward"]}
        ratios["torch.func.jvp, of a forward"] = found[peer] / found["forward"]
        rows.append({"derivative in (z, t, r)": what, **ratios, "torch.func of ours": found[peer] / found[ours]})
    return rows


class Results:
    """The file: rows of networks by name, of which each part of a run replaces its own.

    Args:
        layer: What is linearized.
        settings: Of the measurement; rows that were measured with others are not kept.
    """

    def __init__(self, layer: str, **settings: Any) -> None:
        self._name, self._settings = f"topologies_{layer}", {"layer": layer, **settings}
        self._held: dict[str, Any] = {"rows": [], "flow_map": [], "failed": {}, "configurations": {}}
        path = record.RESULTS / f"{self._name}.json"
        if path.exists():
            held = read_json("bench_topologies", path)
            if all(held.get(key) == value for key, value in self._settings.items()):
                self._held = {key: held[key] for key in self._held}

    def add(self, name: str, row: dict[str, Any], failed: Failures) -> None:
        """A row of a network, and write."""
        rows = {old["network"]: old for old in self._held["rows"]} | {name: row}
        self._held["rows"] = [rows[known] for known in TOPOLOGIES if known in rows]
        self._held["failed"][name] = failed
        self._held["configurations"][name] = described(name, "narrow")
        self._write()

    def add_flow_map(self, rows: list[dict[str, Any]]) -> None:
        """Those of the derivative in (z, t, r), and write."""
        self._held["flow_map"] = rows
        self._write()

    def _write(self) -> None:
        print(record.write(self._name, **{**self._settings, **self._held}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TOPOLOGIES)} and {FLOW_MAP}; all by default")
    parser.add_argument("--layer", choices=["whole", "mid"], default="whole")
    parser.add_argument("--probes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=90.0, help="most time of one network's rounds, beyond three")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one round of two probes, no file")
    options = parser.parse_args()
    names = options.names or [*TOPOLOGIES, FLOW_MAP]
    if unknown := set(names) - {*TOPOLOGIES, FLOW_MAP}:
        parser.error(f"names must be of {[*TOPOLOGIES, FLOW_MAP]}, got {sorted(unknown)}")
    if options.quick:
        options.probes, options.rounds = 2, 1
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    results = Results(options.layer, probes=options.probes, rounds=options.rounds, threads=options.threads)
    for name in names:
        with torch.no_grad():
            rows, failed = (flow_map(options), {}) if name == FLOW_MAP else passes(name, options)
        print(record.table(rows), *(f"{name}: {case} fails: {why}" for case, why in failed.items()), sep="\n")
        if options.quick:
            continue
        results.add_flow_map(rows) if name == FLOW_MAP else results.add(name, rows[0], failed)


if __name__ == "__main__":
    main()
