"""How many probes a pass should carry: by rule, or by what passes cost on the operator in hand.

A pass over b probes costs ``c0 + c1 b``, and the solver's own work between two passes, mostly residual rows from all of
the bases, as much for any b: half of it counts towards c0. The vectors that block Krylov needs through J grow with b
about as ``ALPHA k + BETA b``: a part that any block size needs, and a few blocks that are half empty of news (fitted to
counts on four spectra and the built-in face model, k = 8 to 50, b = 2 to 32: docs/developers/solver-figures.md). The
cost of a run is then

    (ALPHA k / b + BETA) (c0 + c1 b),

least at ``b = sqrt(ALPHA k c0 / (BETA c1))``. It is taken to the nearest power of two, since a factor of two either way
costs little. At least 2, since a single probe finds only one copy of a multiple value.

By default ``c0 / c1`` is a constant of the kind of device, so that equal calls choose equal blocks. It is measured
where the caller asks for that: then timing noise chooses.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

import torch

from latentjac.kernels import combine_rows
from latentjac.solvers.operator import OperatorCache, Products

ALPHA, BETA = 2.1, 3.8
SMALLEST, LARGEST = 2, 32

# c0 / c1: what a pass costs beside its probes, in probes. On processors 1 to 2 was measured
# (docs/developers/solver-figures.md); elsewhere launches weigh more, and narrow products leave a device idle.
_OVERHEADS = {"cpu": 1.5}
_OVERHEAD_ELSEWHERE = 8.0

_measured: OperatorCache[CostCurve] = OperatorCache()


@dataclass(frozen=True)
class CostCurve:
    """Cost of a pass, ``c0 + c1 * probes``, in seconds or in probes.

    Attributes:
        c0: What every pass costs.
        c1: What each probe adds.
    """

    c0: float
    c1: float

    def best_block(self, k: int, own: float = 0.0) -> int:
        """The block size that makes k triplets cheapest, with so much other work a pass."""
        ideal = math.sqrt(ALPHA * k * (self.c0 + own) / (BETA * self.c1))
        return int(min(max(2 ** round(math.log2(max(ideal, 1.0))), SMALLEST), LARGEST))


def ruled(products: Products, k: int) -> int:
    """The block size for k triplets by rule; nothing is measured.

    Of a small operator a block is a large part, whatever passes cost.
    """
    if min(products.n, products.m) < 2 * LARGEST:
        return min(max(4, k), 8)
    overhead = getattr(products.operator, "pass_overhead", None)
    if overhead is None:
        overhead = _OVERHEADS.get(products.device.type, _OVERHEAD_ELSEWHERE)
    return CostCurve(float(overhead), 1.0).best_block(k)


def fit(sizes: list[int], seconds: list[float]) -> CostCurve:
    """Least squares of relative errors, with both parts positive."""
    design = torch.tensor(
        [[1 / t, b / t] for b, t in zip(sizes, seconds, strict=True)], dtype=torch.float64, device="cpu"
    )
    c0, c1 = torch.linalg.lstsq(design, design.new_ones(len(sizes), 1)).solution[:, 0].tolist()
    least = 1e-6 * max(seconds)
    if c1 <= least:  # all latency: the largest block seen costs as much as one probe
        return CostCurve(sum(seconds) / len(seconds), least)
    return CostCurve(max(c0, 0.0), c1)


def measured(products: Products, rows: torch.Tensor, k: int) -> tuple[int, CostCurve]:
    """The block size for k triplets by the cost curve of an operator in seconds, measured once for as long as it lives.

    Args:
        products: The operator; all that this takes counts as one pass.
        rows: Any rows ``[B, r, n]``: 1, 1, 2, 4, 8, ... of them go through J, until the best block for k is not larger
            than what was timed.
        k: Triplets wanted.
    """
    own = _time_own_work(products.points, products.n, k, products.dtype, products.device)
    curve = _measured.get(products.operator)
    if curve is None:
        passes = products.passes
        curve = _time_passes(products, rows, k, own)
        products.passes = passes + 1
        _measured.put(products.operator, curve)
    return min(curve.best_block(k, own), products.n), curve


@cache
def _time_own_work(points: int, n: int, k: int, dtype: torch.dtype, device: torch.device) -> float:
    """Seconds of residual rows from bases half as large as they get."""
    rows = torch.zeros(points, 2 * k, n, dtype=dtype, device=device)
    weights = torch.zeros(points, k, 2 * k, dtype=torch.float64, device=device)
    seconds = []
    for _ in range(3):  # the first also allocates
        _wait(device)
        started = time.perf_counter()
        combine_rows(weights, rows, weights, rows)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / 2


def _time_passes(products: Products, rows: torch.Tensor, k: int, own: float) -> CostCurve:
    sizes, seconds = [1, 1], [_seconds(products, rows[:, :1]) for _ in range(2)]
    while True:
        size = min(2 * sizes[-1], rows.shape[1])
        seconds.append(_seconds(products, rows[:, :size]))
        sizes.append(size)
        # One slow pass over one probe would make wide blocks look cheap; the first of the two also allocates.
        curve = fit(sizes[1:], [min(seconds[:2]), *seconds[2:]])
        if size >= min(curve.best_block(k, own), rows.shape[1]):
            return curve


def _seconds(products: Products, rows: torch.Tensor) -> float:
    products.prepare(rows.shape[1])
    started = time.perf_counter()
    products.forward(rows)
    _wait(products.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
