"""Drives a block Krylov iteration over a batch of points until each is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch

from latentjac.kernels import combine_rows, gram
from latentjac.solvers.krylov import BlockKrylov, Ritz
from latentjac.solvers.operator import Deflated, Products
from latentjac.solvers.orthonormal import orthonormalize
from latentjac.solvers.outcome import Found, SolverState, Status

# Beside the residuals of wanted triplets the next ones' count this little: they fill a block, and they let a
# value that is still missing rise.
_GUARD_WEIGHT = 1e-3


@dataclass
class Limits:
    """When to stop.

    Attributes:
        tol: Largest residual that counts as converged.
        max_passes: Most passes.
        deadline: Time of ``time.perf_counter`` after which no pass begins.
        callback: Called after each expansion; True stops.
        patience: Expansions that must confirm a result before it counts: a warm start can hide larger values
            behind its own for a while.
        stalls: Expansions without progress near the rounding level that end a run.
    """

    tol: float
    max_passes: int
    deadline: float = float("inf")
    callback: Callable[[SolverState], Any] | None = None
    patience: int = 0
    stalls: int = 8


@dataclass
class _Point:
    """Bookkeeping of one point."""

    index: int
    wait: int
    best: float = float("inf")
    stalled: int = 0
    status: Status | None = None
    s: list[float] = field(default_factory=list)
    searched: bool = False  # for hidden copies, in vain
    disagreed: bool = False  # jvp and vjp, on the last block


class _Facts(NamedTuple):
    """What the host decides by, of one point.

    Attributes:
        worst: Largest residual of the wanted triplets.
        rank: Singular values that are not zero to rounding.
        live: Rows of the next block that are not zero.
        exhausted: Whether J is known to vanish outside the right basis.
        mismatch: Of the last block, relative to the largest product.
    """

    worst: float
    rank: int
    live: int
    exhausted: bool
    mismatch: float


class Iteration:
    """One run of :class:`BlockKrylov` on a batch of points.

    Args:
        krylov: The bases.
        products: The operator; where it is :class:`Restrictable`, points that are done leave the batch.
        limits: When to stop.
    """

    def __init__(self, krylov: BlockKrylov, products: Products, limits: Limits) -> None:
        self.krylov, self.products, self.limits = krylov, products, limits
        self.points = [_Point(i, limits.patience) for i in range(products.points)]
        self.all = list(self.points)
        self.found: dict[int, Found] = {}
        self.ritz: Ritz | None = None
        self._residuals = torch.full((products.points, krylov.k), float("inf"), dtype=torch.float64, device="cpu")
        self._s = torch.zeros_like(self._residuals)
        self._units = torch.ones(products.points, 1, dtype=torch.float64, device="cpu")
        self._closed = torch.zeros(products.points, dtype=torch.bool, device=products.device)
        self._told = [False] * products.points
        self._wasted = 0.0  # vectors through all points that those already done took along

    def run(self, live: int) -> list[Found]:
        """Iterate; the outcome of each point.

        Args:
            live: Rows of the first block.

        Raises:
            KeyboardInterrupt: If interrupted before there is anything to hand back.
        """
        try:
            while live:
                live = self._step(live)
        except KeyboardInterrupt:
            if not self.krylov.p:
                raise
            self.products.interrupted = True
            for point in self._open() or self.points:  # all were done, but for the search for hidden copies
                point.status = Status.INTERRUPTED
            self.ritz = self._ritz()[0]
        self._collect(self.points)
        return [self.found[point.index] for point in self.all]

    def _step(self, live: int) -> int:
        """One expansion; how many rows the next block has, 0 when all points are done."""
        krylov, limits = self.krylov, self.limits
        self._wasted += 2 * live * (1 - len(self._open()) / len(self.points))
        krylov.expand(live)
        key = ("look", krylov.p, live, krylov.k, krylov.block, limits.tol)
        self.ritz, facts = krylov.workspace.run(key, partial(self._look, live), self._closed, waits=krylov.waits)
        self._read(facts)
        if self._callback():
            self._finish(Status.INTERRUPTED)
            return 0
        self._settle()
        self._seek_hidden(self.ritz)
        if len(self.points) > 1:  # now, so that what a point gives does not depend on how long others take
            self._collect([point for point in self.points if point.status is not None])
        if krylov.products.passes >= limits.max_passes:
            self._finish(Status.OUT_OF_PASSES)
        if time.perf_counter() >= limits.deadline:
            self._finish(Status.OUT_OF_TIME)
        if not self._open():
            return 0
        self._leave()
        return self._prepare()

    def _ritz(self) -> tuple[Ritz, torch.Tensor]:
        return self.krylov.ritz(max(self.krylov.k, self.krylov.block) + self.krylov.block)

    def _look(self, live: int, closed: torch.Tensor) -> tuple[Ritz, torch.Tensor]:
        """Triplets after an expansion, and all that the host decides by; chooses the next block.

        Runs on the device alone, so that it can be recorded.
        """
        krylov, k = self.krylov, self.krylov.k
        krylov.notice(live)
        ritz, rows = self._ritz()
        residuals = krylov.residuals(ritz)
        krylov.plan(ritz, rows, self._weights(ritz, residuals, closed))
        s = torch.cat([ritz.s[:, :k], ritz.s.new_zeros(len(residuals), max(0, k - ritz.s.shape[1]))], dim=1)
        rank = (ritz.s > krylov.floor(ritz.s)).sum(dim=1)
        facts = torch.stack([rank, krylov.live(), krylov.exhausted, krylov.disagreement(live)], dim=1)
        return ritz, torch.cat([residuals, s, facts], dim=1)

    def _weights(self, ritz: Ritz, residuals: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
        """How much each residual row counts for the next block, ``[B, e]``."""
        count, k = ritz.residuals.shape[1], self.krylov.k
        weights = torch.full_like(ritz.residuals, _GUARD_WEIGHT)
        weights[:, :k] = torch.where(residuals[:, : min(k, count)] > self.limits.tol, 1.0, _GUARD_WEIGHT)
        return weights.masked_fill(closed[:, None], 0.0)

    def _read(self, facts: torch.Tensor) -> None:
        """Bring what decides to the host, in one transfer."""
        k = self.krylov.k
        self._facts: list[_Facts] = []
        for point, row in zip(self.points, self.products.fetch(facts), strict=True):
            worst, point.s = max(row[:k]), row[k : 2 * k]
            self._residuals[point.index], self._s[point.index] = self._s.new_tensor(row[: 2 * k]).reshape(2, k)
            rank, live, exhausted, mismatch = row[2 * k :]
            self._facts.append(_Facts(worst, int(rank), int(live), bool(exhausted), mismatch))

    def _callback(self) -> bool:
        if self.limits.callback is None:
            return False
        self._units[[point.index for point in self.points], 0] = self.products.units.cpu()
        residuals, s = self._residuals, self._s * self._units
        if len(self.all) == 1:
            s, residuals = s[0], residuals[0]
        products = self.krylov.products
        converged = int((residuals <= self.limits.tol).sum())
        state = SolverState(products.passes, products.jvps, products.vjps, s, residuals.clone(), converged)
        return self.limits.callback(state) is True

    def _settle(self) -> None:
        """Decide which points are done."""
        rounding = self.products.rounding
        for point, (worst, rank, _, exhausted, mismatch) in zip(self.points, self._facts, strict=True):
            if point.status is not None:
                continue
            before, point.disagreed = point.disagreed, mismatch > allowed_mismatch(self.products, self.limits.tol)
            # Twice, since the first products may be far smaller than the largest, which rounding is relative to.
            if before and point.disagreed:
                point.status = Status.NOT_ADJOINT
                continue
            if worst <= self.limits.tol and (rank >= self.krylov.k or exhausted):
                if point.wait <= 0 or exhausted:
                    point.status = Status.CONVERGED
                point.wait -= 1
                continue
            # Far larger again: a value that was missing has come in.
            risen = worst > 100 * point.best
            point.stalled = 0 if worst < 0.9 * point.best or risen else point.stalled + 1
            point.best = worst if risen else min(point.best, worst)
            # At the rounding level residuals stop falling for good; above it clusters can take a while.
            if exhausted or (point.stalled >= self.limits.stalls and point.best < 1e3 * rounding):
                point.status = Status.STAGNATED

    def _seek_hidden(self, ritz: Ritz) -> None:
        """Reopen points whose converged values may have further copies that the Krylov space cannot hold."""
        doubtful = [
            point.status is Status.CONVERGED
            and not (facts.exhausted or point.searched or point.index in self.found)
            and largest_cluster(point.s) >= self.krylov.block
            for point, facts in zip(self.points, self._facts, strict=True)
        ]
        if not any(doubtful):
            return
        hidden = find_hidden(self.krylov, ritz, doubtful, self.limits)
        for i, point in enumerate(self.points):
            point.searched = doubtful[i] and not hidden[i]
            if hidden[i]:
                point.status, self._facts[i] = None, self._facts[i]._replace(live=self.krylov.block)

    def _open(self) -> list[_Point]:
        return [point for point in self.points if point.status is None]

    def _finish(self, status: Status) -> None:
        for point in self._open():
            point.status = status

    def _leave(self) -> None:
        """Take points that are done out of the batch, once they have cost as much as that costs."""
        stay = [i for i, point in enumerate(self.points) if point.status is None]
        products = self.products
        if len(stay) == len(self.points) or not products.restrictable:
            return
        if self._wasted < products.restriction_cost(len(stay)):
            return
        if not products.restrict(stay):
            return
        self._wasted = 0.0
        self.krylov.workspace.select(stay)
        assert self.ritz is not None
        self.ritz = self.ritz.select(stay)
        self.points = [self.points[i] for i in stay]
        self._facts = [self._facts[i] for i in stay]

    def _prepare(self) -> int:
        """Refill empty blocks and make room; rows of the next block."""
        krylov = self.krylov
        empty = [p.status is None and not f.live for p, f in zip(self.points, self._facts, strict=True)]
        live = max(f.live for f in self._facts)
        if any(empty):
            krylov.refresh(torch.tensor(empty, device=self.products.device))
            live = krylov.block
        self._close()
        assert self.ritz is not None
        krylov.restart(self.ritz, live)
        return live

    def _close(self) -> None:
        """Tell the device which points are done, if that has changed."""
        done = [point.status is not None for point in self.points]
        if done != self._told:
            self._closed, self._told = torch.tensor(done, device=self.products.device), done

    def _collect(self, points: list[_Point]) -> None:
        """Take the triplets of points out of the bases, once."""
        points = [point for point in points if point.index not in self.found]
        if not points:
            return
        assert self.ritz is not None
        statuses = [point.status or Status.INTERRUPTED for point in self.points]
        all_found = harvest(self.krylov, self.ritz, statuses, allowed_mismatch(self.products, self.limits.tol))
        for point, found in zip(self.points, all_found, strict=True):
            if point in points:
                self.found[point.index] = found


def allowed_mismatch(products: Products, tol: float) -> float:
    """Adjoint mismatch, relative to the largest singular value, above which jvp and vjp are no pair.

    It is far more than rounding, and enough to spoil what was asked for.
    """
    return max(products.not_adjoint, tol / 10)


def harvest(krylov: BlockKrylov, ritz: Ritz, statuses: list[Status], allowed: float) -> list[Found]:
    """The k leading triplets of each point with what their certificate needs.

    Args:
        krylov: The bases.
        ritz: Their triplets.
        statuses: How each point ended; one whose adjoint mismatch is larger than allowed has ended by that.
        allowed: From :func:`allowed_mismatch`.
    """
    k, rank = krylov.k, ritz.s.shape[1]
    known = krylov.known().tolist()
    u, s, v = krylov.triplets(ritz, k)
    residuals = krylov.residuals(ritz)
    count = min(k, rank)
    difference = krylov.core - gram(krylov.right, krylov.backward).mT
    mismatch = difference.abs().amax(dim=(1, 2)) / ritz.s[:, 0].clamp_min(1e-300)
    left = combine_rows(ritz.c[:, :, :count].mT, krylov.forward).double() - s[:, :count, None] * u[:, :count].double()
    left = left.norm(dim=2) / s[:, :count].clamp_min(1e-300)
    left = torch.cat([left, left.new_zeros(len(left), k - count)], dim=1)
    left = torch.where(s > 0, left, residuals)
    units = krylov.products.units.tolist()
    found = []
    for i, status in enumerate(statuses):
        disagree = mismatch[i].item() > allowed and status is not Status.INTERRUPTED
        status = Status.NOT_ADJOINT if disagree else status
        # The value after the last: as computed; none, once all of J has been seen; or unknown.
        following = (0.0, 0.0 if bool(krylov.exhausted[i]) or k == min(krylov.n, krylov.m) else float("inf"))
        if known[i] > k and ritz.residuals.shape[1] > k:
            following = (ritz.s[i, k].item(), ritz.residuals[i, k].item())
        found.append(Found(u[i], s[i], v[i], residuals[i], left[i], status, *following, mismatch[i].item(), units[i]))
    return found


def largest_cluster(s: list[float]) -> int:
    """Size of the largest group of descending values that agree to 1e-4."""
    edges = [-1, *(i for i, (a, b) in enumerate(pairwise(s)) if a - b > 1e-4 * a), len(s) - 1]
    return max(b - a for a, b in pairwise(edges))


def find_hidden(krylov: BlockKrylov, ritz: Ritz, doubtful: list[bool], limits: Limits) -> list[bool]:
    """Look for values that belong to the top k but hide from the Krylov space; says which points have one.

    A Krylov space holds at most ``block`` copies of a multiple value. A second iteration, on J with the top k
    projected out, shows whether a larger value is left. If so, its vectors become the next block.

    Args:
        krylov: The bases.
        ritz: Their triplets.
        doubtful: Which points to look at.
        limits: Tolerance and most passes.
    """
    products, block = krylov.products, krylov.block
    known = combine_rows(ritz.c[:, :, : krylov.k].mT, krylov.right)
    least = ritz.s[:, krylov.k - 1].tolist()
    deflated = Deflated(products, known)
    start = orthonormalize(products.random(block, krylov.generator), known)
    probe = BlockKrylov(deflated, start, 1, block, krylov.generator)
    undecided, hidden, live = list(doubtful), [False] * len(doubtful), block
    while any(undecided) and live and products.passes < limits.max_passes:
        probe.expand(live)
        found, rows = probe.ritz(block)
        probe.plan(found, rows, torch.ones_like(found.residuals))
        facts = torch.stack([found.s[:, 0], found.residuals[:, 0], probe.live().amax().expand(len(found.s))], dim=1)
        for i, (s, residual, rows) in enumerate(products.fetch(facts)):
            live = int(rows)
            if undecided[i] and s * (1 + residual) < least[i]:
                undecided[i] = False
            elif undecided[i] and residual <= limits.tol:
                hidden[i], undecided[i] = s > least[i] * (1 + 0.1 * limits.tol), False
        if any(undecided) and live:
            probe.restart(found, live)
    if any(hidden):
        rows = combine_rows(found.c[:, :, :block].mT, probe.right)
        rows = orthonormalize(rows, krylov.right)
        krylov.put_next(rows * torch.tensor(hidden, device=rows.device)[:, None, None])
    return hidden
