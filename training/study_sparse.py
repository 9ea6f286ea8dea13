"""Do directions mean more when their span is turned so that their effects overlap least?

At the posterior mean x0, the singular vectors of a local basis, their random rotation and their sparse one
(``latentjac.geometry.sparse_directions``) are followed to equal changes of the picture, on avatars that no other study
has seen; docs/factors.md says what is measured. The number stated before the study was run: one factor's part of the
sparse directions less that of the singular vectors, k = 5, t = 0.6, both ways, 24 avatars.

    python training/study_sparse.py --model latentjac/models/builtin/avatars && python benchmarks/readme_tables.py
    python training/study_sparse.py --model DIR --samples 2 --tables OUT      # a minute, to see that it runs
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factors.collecting import Collected, Collector, Plan, Site
from factors.directions import ROTATED, SINGULAR, SPARSE, TOLERANCE, Bank, span_arms
from factors.equal_effect import linear_move
from factors.reader import FactorReader
from factors.statistics import difference, shown, span_row, summary, tables

import latentjac
from latentjac.report import write_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

READER = ROOT / "latentjac/models/builtin/avatars/reader.safetensors"
MAIN_T, SEED = 0.6, 17


class SparseCollector(Collector):
    """The three bases of one span."""

    def _bank(self, point: latentjac.Point) -> Bank | None:
        return None

    def _visit(self, site: Site, bank: Bank | None) -> None:
        basis = latentjac.local_basis(self.model, site.point, self.plan.k, "x0", tol=TOLERANCE)
        arms = span_arms(basis, site.generator)
        self._edit(site, arms, linear_move(self.model, site.point), self.plan.start)


def results(found: Collected, target: float) -> dict[str, Any]:
    """Tables: the number stated before, differences, and every basis."""
    at = {arm: table for (arm, _, kind), table in tables(found.observations).items() if kind == "effect"}
    rows = []
    for arm in (SINGULAR, ROTATED, SPARSE):
        numbers = summary(at[arm], at[arm].moves.abs().amax(0), target)
        spans = span_row([span for span in found.spans if span.arm == arm])
        rows.append(
            {
                "directions": arm,
                "effect": numbers["effect"],
                "one_factor": shown(numbers["one_factor"]),
                "all_factors": shown(numbers["explained"]),
                "means_something": shown(numbers["means_something"]),
                "factors_named": shown(numbers["distinct"]),
                "best_in_the_span": shown(spans["best_in_span"]),
            }
        )
    less = []
    for control in (SINGULAR, ROTATED):
        pair = difference(at[SPARSE], at[control])
        better = int((at[SPARSE].one_factor() > at[control].one_factor()).sum())
        less.append(
            {
                "sparse directions less": control,
                "one_factor": shown(pair["student"]),
                "by_bootstrap": shown(pair["bootstrap"]),
                "better at": f"{better} of {len(at[SPARSE].names())} avatars",
            }
        )
    named = [name for row in at[SPARSE].names() for name in row]
    counts = {name: named.count(name) for name in sorted(set(named), key=named.count, reverse=True)}
    return {"rows": rows, "differences": less, "named": counts}


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="pipeline folder of avatars")
    parser.add_argument("--reader", type=Path, default=READER, help="file of the reader (default: that of avatars)")
    parser.add_argument("--samples", type=int, default=24, help="avatars (default 24; at least 2)")
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    if args.samples < 2:
        parser.error(f"--samples: expected at least 2, got {args.samples}")
    start = time.perf_counter()
    model = latentjac.load(args.model)
    plan = Plan(samples=args.samples, main_t=MAIN_T, other_ts=(), seed=SEED)
    found = SparseCollector(model, FactorReader.load(args.reader), plan).collect(progress=True)
    name = f"sparse_{args.model.name}"
    about = {"name": name, "machine": machine(), "avatars": plan.samples, "model_identity": model.identity()}
    numbers = results(found, plan.target)
    args.tables.mkdir(parents=True, exist_ok=True)
    write_json(args.tables / f"{name}.json", about | numbers)
    print(f"{len(found.observations)} edits in {time.perf_counter() - start:.0f} s: {numbers['differences'][0]}")


if __name__ == "__main__":
    main()
