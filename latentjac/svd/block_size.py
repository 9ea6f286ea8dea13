"""How many probes a pass should carry, from what passes cost on the operator in hand.

A pass over b probes costs ``c0 + c1 b``, and the solver's own work between two passes, mostly residual rows from all of
the bases, as much for any b: half of it counts towards c0. The vectors that block Krylov needs through J grow with b
about as ``ALPHA k + BETA b``: a part that any block size needs, and a few blocks that are half empty of news (fitted to
counts on four spectra and the built-in face model, k = 8 to 50, b = 2 to 32: docs/solver.md). The cost of a run is then

    (ALPHA k / b + BETA) (c0 + c1 b),

least at ``b = sqrt(ALPHA k c0 / (BETA c1))``. It is taken to the nearest power of two: a factor of two either way
costs little, and timing noise then seldom changes the choice. At least 2, since a single probe finds only one copy
of a multiple value.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache

import torch

from latentjac.kernels import combine_rows
from latentjac.svd.operator import Products
from latentjac.svd.remembered import Remembered

ALPHA, BETA = 2.1, 3.8
SMALLEST, LARGEST = 2, 32

_measured: Remembered[CostCurve] = Remembered()


@dataclass(frozen=True)
class CostCurve:
    """Seconds of a pass, ``c0 + c1 * probes``.

    Attributes:
        c0: Seconds that every pass costs.
        c1: Seconds that each probe adds.
    """

    c0: float
    c1: float

    def best_block(self, k: int, own: float = 0.0) -> int:
        """The block size that makes k triplets cheapest, with ``own`` seconds of other work a pass."""
        ideal = math.sqrt(ALPHA * k * (self.c0 + own) / (BETA * self.c1))
        return int(min(max(2 ** round(math.log2(max(ideal, 1.0))), SMALLEST), LARGEST))


def own_cost(products: Products, k: int) -> float:
    """Seconds a pass of the solver's own work; timed once a size, so that equal calls choose equal blocks."""
    return _time_own_work(products.points, products.n, k, products.dtype, products.device)


@cache
def _time_own_work(points: int, n: int, k: int, dtype: torch.dtype, device: torch.device) -> float:
    """Residual rows from bases half as large as they get."""
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


def known_curve(products: Products) -> CostCurve | None:
    """The curve measured before on this operator, if any."""
    return _measured.get(products.operator)


def pieces(count: int) -> list[int]:
    """Sizes 1, 1, 2, 4, 8 … that add up to count: how a start block is taken through J.

    Always in the same pieces, whether they are timed or not, so that both give the same bits.
    """
    sizes, size = [1], 1
    while sum(sizes) < count:
        sizes.append(min(size, count - sum(sizes)))
        size *= 2
    return sizes


def first_images(
    products: Products, rows: torch.Tensor, block: int | None, k: int
) -> tuple[CostCurve | None, int, torch.Tensor]:
    """J times the rows of the start block; where the block size is not settled, passes on them are timed to choose it.

    Args:
        products: The operator; all this counts as one pass.
        rows: Start rows ``[B, r, n]``, the block is taken from the front.
        block: Size of the block, or None to choose it by the operator's cost curve.
        k: Triplets wanted; larger passes are timed only while the best block may be larger than those.

    Returns:
        The cost curve, if known, the block size and the products ``[B, block, m]``.
    """
    curve = known_curve(products)
    own = own_cost(products, k) if block is None else 0.0
    if block is None and curve is not None:
        block = curve.best_block(k, own)
    images, seconds, passes = [], [], products.passes
    sizes = pieces(rows.shape[1] if block is None else block)
    for i, size in enumerate(sizes):
        used = sum(sizes[:i])
        if block is None and curve is not None and curve.best_block(k, own) <= used:
            break
        if block is None:
            products.prepare(size)
        started = time.perf_counter()
        images.append(products.forward(rows[:, used : used + size]))
        _wait(products.device)
        seconds.append(time.perf_counter() - started)
        if block is None and i > 1:
            # One slow pass over one probe would make wide blocks look cheap; the first of the two also allocates.
            curve = fit(sizes[1 : i + 1], [min(seconds[:2]), *seconds[2:]])
    if block is None and curve is not None:
        block = min(curve.best_block(k, own), rows.shape[1])
        _measured.put(products.operator, curve)
    products.passes = passes + 1
    assert block is not None
    return curve, block, torch.cat(images, dim=1)[:, :block]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
