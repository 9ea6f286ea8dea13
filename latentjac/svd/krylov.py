"""Block Golub-Kahan bidiagonalisation with full reorthogonalisation and thick restart, for a batch of points.

Golub & Kahan 1965; Golub, Luk & Overton 1981 (blocks); Baglama & Reichel 2005 (thick restart); Sleijpen & van der
Vorst 1996 (expansion by residuals). The raw products J V and J^T U are kept beside the bases, so every residual
is computed from products that were really taken and not from a recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from latentjac.kernels import combine_rows, gram
from latentjac.svd.operator import Deflated, Products
from latentjac.svd.orthonormal import orthonormalize, polish
from latentjac.svd.small import eigenvectors, singular_triplets

_FEWEST_ROWS = 40  # of the bases: restarts sooner cost more vectors than they save


@dataclass(frozen=True)
class Ritz:
    """Rayleigh-Ritz triplets of the bases, largest first.

    Attributes:
        d: Coefficients of u in the left basis ``[B, q, r]``, float64.
        s: Singular values ``[B, r]``, float64.
        c: Coefficients of v in the right basis ``[B, p, r]``, float64.
        rows: ``J^T u - s v`` of the leading triplets ``[B, e, n]``.
        residuals: Their lengths over s, ``[B, e]``; over the largest s where s is zero to rounding.
    """

    d: torch.Tensor
    s: torch.Tensor
    c: torch.Tensor
    rows: torch.Tensor
    residuals: torch.Tensor


class BlockKrylov:
    """The growing pair of bases. Vectors are rows; storage is allocated once.

    Args:
        products: The operator.
        start: First block ``[B, b0, n]``.
        k: How many triplets are wanted.
        block: Most rows of a later block.
        generator: Source of fresh directions once the Krylov space is exhausted.
        images: J times the start rows, where that is known; the rows must then be independent.
    """

    def __init__(
        self,
        products: Products | Deflated,
        start: torch.Tensor,
        k: int,
        block: int,
        generator: torch.Generator,
        images: torch.Tensor | None = None,
    ) -> None:
        self.products, self.k, self.block, self.generator = products, k, block, generator
        points, first, n = start.shape
        self.n, self.m = n, products.m
        self.capacity = max(3 * k, k + 4 * block, _FEWEST_ROWS) + first
        new = start.new_zeros
        self._right, self._forward = new(points, self.capacity, n), new(points, self.capacity, self.m)
        self._left, self._backward = new(points, self.capacity, self.m), new(points, self.capacity, n)
        self._core = new(points, self.capacity, self.capacity, dtype=torch.float64)
        self.p = self.q = 0  # rows of the right and of the left basis
        self.next = orthonormalize(start)
        self._images = None if images is None else _mapped(start, images, self.next)
        self.fresh = torch.ones(points, dtype=torch.bool, device=start.device)  # next holds random directions
        self.exhausted = torch.zeros(points, dtype=torch.bool, device=start.device)  # proven: J vanishes outside
        self.scale = new(points, 1, dtype=torch.float64)  # largest product so far: the norm of J from below

    @property
    def right(self) -> torch.Tensor:
        """Orthonormal rows ``[B, p, n]``."""
        return self._right[:, : self.p]

    @property
    def forward(self) -> torch.Tensor:
        """J times the right basis, ``[B, p, m]``."""
        return self._forward[:, : self.p]

    @property
    def left(self) -> torch.Tensor:
        """Orthonormal rows ``[B, q, m]``."""
        return self._left[:, : self.q]

    @property
    def backward(self) -> torch.Tensor:
        """The transpose times the left basis, ``[B, q, n]``."""
        return self._backward[:, : self.q]

    @property
    def core(self) -> torch.Tensor:
        """The left basis against J times the right one, ``[B, q, p]``, float64."""
        return self._core[:, : self.q, : self.p]

    def expand(self, live: int) -> None:
        """Take the next block through J and what is new of it through the transpose.

        Args:
            live: Rows of the next block that are not zero, in any point; at least 1.
        """
        rows = self.next[:, :live]
        images = self.products.forward(rows) if self._images is None else self._images
        self._images = None
        scale = torch.maximum(self.scale, images.double().norm(dim=2).amax(dim=1, keepdim=True))
        new = orthonormalize(images, self.left, scale)
        nonzero = new.abs().amax(dim=2) > 0
        count = int(self.products.fetch(nonzero.any(dim=0).sum()))
        pulled = self.products.backward(new[:, :count]) if count else rows[:, :0]
        if not count and not self.q:  # J vanishes; one row of zeros spares every later step the empty case
            count, pulled = 1, torch.zeros_like(rows[:, :1])
        new = new[:, :count]
        p, q = self.p + live, self.q + count
        self._right[:, self.p : p], self._forward[:, self.p : p] = rows, images
        self._left[:, self.q : q], self._backward[:, self.q : q] = new, pulled
        self._core[:, self.q : q, :p] = gram(new, self._forward[:, :p])
        self._core[:, : self.q, self.p : p] = gram(self.left, images)
        # Nothing counts before this line, so that an interruption leaves whole bases behind.
        self.p, self.q, self.scale = p, q, scale
        # Random directions outside the basis that J takes into the span of known images: the rank is reached.
        full = (self.right.abs().amax(dim=2) > 0).sum(dim=1) >= self.n
        self.exhausted |= full | (self.fresh & ~nonzero.any(dim=1))

    def ritz(self, count: int) -> Ritz:
        """Rayleigh-Ritz triplets, with residuals of the first ``count``."""
        d, s, ct = singular_triplets(self.core)
        c = ct.mT
        count = min(count, s.shape[1])
        rows = combine_rows(d[:, :, :count].mT, self.backward, (c[:, :, :count] * -s[:, None, :count]).mT, self.right)
        floor = self.floor(s)
        relative = torch.where(s[:, :count] > floor, s[:, :count], s[:, :1])
        residuals = rows.double().norm(dim=2) / relative.clamp_min(1e-300)
        return Ritz(d, s, c, rows, residuals)

    def floor(self, s: torch.Tensor) -> torch.Tensor:
        """Size ``[B, 1]`` below which singular values ``[B, r]`` are zero to rounding."""
        if not s.shape[1]:
            return s.new_zeros(len(s), 1)
        return s[:, :1] * self.products.eps * max(self.n, self.m) ** 0.5

    def residuals(self, ritz: Ritz) -> torch.Tensor:
        """``|J^T u - s v| / s`` of the k wanted triplets, ``[B, k]``.

        Triplets that were not found count as exact zeros once nothing is left to find, and as unknown (inf) before.
        """
        found = ritz.residuals[:, : self.k]
        unknown = torch.where(self.exhausted, 0.0, float("inf")).double()[:, None]
        missing = unknown.expand(-1, self.k - found.shape[1])
        # Values that are zero to rounding are found only if nothing else is left.
        live = ritz.s[:, : found.shape[1]] > self.floor(ritz.s)
        known = torch.where(live, found, torch.maximum(found.nan_to_num(0.0), unknown))
        if missing.shape[1]:
            return torch.cat([known, missing], dim=1)
        return torch.where(self.exhausted.any(), known, found)  # asked on the device, which is not waited for

    def plan(self, ritz: Ritz, wanted: torch.Tensor, room: int) -> None:
        """Choose the next block: the main directions in which the wanted triplets' residuals leave the basis.

        For a full block after a cold start these span what the Krylov space grows by.

        Args:
            ritz: From :meth:`ritz`.
            wanted: Which of its residual rows count, ``[B, e]``.
            room: Most rows.
        """
        weights = wanted.double() / ritz.s[:, :1].clamp_min(1e-300)
        rows = principal(ritz.rows.double() * weights[:, :, None], room)
        self.next = orthonormalize(rows.to(self.right.dtype), self.right, 1.0)
        self.fresh = torch.zeros_like(self.fresh)

    def refresh(self, points: torch.Tensor) -> None:
        """Random directions outside the basis for points whose Krylov space is used up.

        Args:
            points: Which, ``[B]``.
        """
        rows = orthonormalize(self.products.random(self.block, self.generator), self.right)
        if self.next.shape[1] < self.block:
            self.next = torch.cat([self.next, self.next.new_zeros(*rows.shape[:1], self.block, self.n)], dim=1)
            self.next = self.next[:, : self.block]
        rows = torch.cat([rows, rows.new_zeros(len(rows), self.next.shape[1] - rows.shape[1], self.n)], dim=1)
        self.next = torch.where(points[:, None, None], rows, self.next)
        self.fresh = points.clone()

    def restart(self, ritz: Ritz, incoming: int) -> None:
        """Thick restart: keep the leading Ritz vectors once there is no room for as many rows as come in."""
        if max(self.p, self.q) + incoming <= self.capacity:
            return
        keep = min(self.k + self.block, ritz.s.shape[1])
        live = (ritz.s[:, :keep] > self.floor(ritz.s))[:, None, :]
        c, d = (ritz.c[:, :, :keep] * live).mT, (ritz.d[:, :, :keep] * live).mT
        kept = [
            combine_rows(c, self.right),
            combine_rows(c, self.forward),
            combine_rows(d, self.left),
            combine_rows(d, self.backward),
        ]
        try:
            self._keep(kept)
        except KeyboardInterrupt:
            self._keep(kept)  # half of it would leave bases that do not belong together
            raise

    def _keep(self, kept: list[torch.Tensor]) -> None:
        self.p = self.q = keep = kept[0].shape[1]
        for storage, rows in zip((self._right, self._forward, self._left, self._backward), kept, strict=True):
            storage[:, :keep] = rows
        self._core[:, :keep, :keep] = gram(self.left, self.forward)

    def select(self, points: list[int]) -> None:
        """Go on with some of the points only."""
        for name in ("_right", "_forward", "_left", "_backward", "_core", "next", "fresh", "exhausted", "scale"):
            setattr(self, name, getattr(self, name)[points])

    def triplets(self, ritz: Ritz, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows u ``[B, count, m]``, s ``[B, count]``, v ``[B, count, n]``; completed where the rank is smaller."""
        found = min(count, ritz.s.shape[1])
        s = ritz.s[:, :found] * (ritz.s[:, :found] > self.floor(ritz.s))
        live = (s > 0)[:, :, None]
        u = combine_rows(ritz.d[:, :, :found].mT * live, self.left)
        v = combine_rows(ritz.c[:, :, :found].mT * live, self.right)
        s = torch.cat([s, s.new_zeros(len(s), count - found)], dim=1)
        return self._complete(u, count), s, self._complete(v, count)

    def _complete(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        dead = rows.abs().amax(dim=2) == 0
        rows = torch.cat([rows, rows.new_zeros(len(rows), count - rows.shape[1], rows.shape[2])], dim=1)
        if rows.shape[1] > dead.shape[1] or bool(dead.any()):
            shape = (count, len(rows), rows.shape[2])
            extra = torch.randn(shape, generator=self.generator, dtype=rows.dtype, device=self.generator.device)
            extra = orthonormalize(extra.transpose(0, 1).to(rows.device), rows)
            rows = torch.where(rows.abs().amax(dim=2, keepdim=True) > 0, rows, extra)
        return polish(rows)


def _mapped(rows: torch.Tensor, images: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """J times a basis of the span of independent rows, from J times the rows."""
    wide = rows.double()
    mixing = torch.linalg.solve(wide @ wide.mT, wide @ basis.double().mT)
    return (mixing.mT @ images.double()).to(images.dtype)


def principal(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The main directions of float64 rows ``[B, e, n]``, scaled by their size, at most ``count`` of them."""
    return combine_rows(eigenvectors(gram(rows))[:, :, :count].mT, rows, wide=True)
