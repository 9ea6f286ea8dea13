"""How much of a decomposition is the solver's own work: what another language could make faster at the most.

    python benchmarks/bench_solver_share.py

An operator counts the processor seconds of its products; the rest of a run is the solver's. Of the smallest operator
nearly all of that is what Python and torch take to be called, since there is nothing to compute.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import record
import torch

import latentjac


class Counted:
    """An operator, and the seconds that its products took."""

    def __init__(self, operator: Any) -> None:
        self.operator, self.seconds, self.passes = operator, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operator, name)

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        return self._timed(self.operator.jvp, v)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        return self._timed(self.operator.vjp, u)

    def _timed(self, product: Any, probes: torch.Tensor) -> torch.Tensor:
        start = time.process_time()
        out = product(probes)
        self.seconds += time.process_time() - start
        self.passes += 1
        return out


class Matrix:
    """A dense matrix."""

    def __init__(self, rows: int, columns: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.matrix = torch.randn(rows, columns, generator=generator)
        self.x, self.y = torch.zeros(1, columns), torch.zeros(1, rows)

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        return v @ self.matrix.T

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        return u @ self.matrix


def of_model(name: str, layer: str) -> Any:
    """The Jacobian of a layer of a built-in model."""
    model = latentjac.load(name)
    point = latentjac.noise_point(model, generator=torch.Generator().manual_seed(0))
    return latentjac.diffusion.linearization_at(model, point, layer)


OPERATORS = {
    "faces, mid": lambda: of_model("faces", "mid"),
    "faces, x0": lambda: of_model("faces", "x0"),
    "avatars-text, mid": lambda: of_model("avatars-text", "mid"),
    "matrix of 24 x 24": lambda: Matrix(24, 24),
}


def one(operator: Any, k: int) -> dict[str, float]:
    """Seconds of a run, and those of the solver."""
    counted = Counted(operator)
    start = time.process_time()
    latentjac.svd(counted, k, tol=1e-3)
    total = time.process_time() - start
    return {"total": total, "own": total - counted.seconds, "passes": counted.passes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    operators = {name: make() for name, make in OPERATORS.items()}
    for operator in operators.values():
        one(operator, args.k)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in operators}
    for _ in range(args.rounds):
        for name, operator in operators.items():
            found[name].append(one(operator, args.k))
    rows = []
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rows.append(
            {
                "operator": name,
                "passes": int(middle["passes"]),
                "processor_s": middle["total"],
                "solver's part": f"{middle['own'] / middle['total']:.1%}",
                "solver, ms a pass": 1e3 * middle["own"] / middle["passes"],
            }
        )
    record.write("solver_share", rows, k=args.k, rounds=args.rounds)
    print(record.table(rows))


if __name__ == "__main__":
    main()
