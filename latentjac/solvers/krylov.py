"""Block Golub-Kahan bidiagonalisation with full reorthogonalisation and thick restart, for a batch of points.

Golub & Kahan 1965; Golub, Luk & Overton 1981 (blocks); Baglama & Reichel 2005 (thick restart); Sleijpen & van der
Vorst 1996 (expansion by residuals). The raw products J V and J^T U are kept beside the bases, so every residual
is computed from products that were really taken and not from a recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from latentjac.kernels import combine_rows, gram, jacobi_fits, jacobi_svd
from latentjac.solvers.operator import Deflated, Products
from latentjac.solvers.orthonormal import NOISE, complete, eigenvectors, orthonormalize
from latentjac.solvers.workspace import Shape, Workspace

_FEWEST_ROWS = 40  # of the bases: restarts sooner cost more vectors than they save


@dataclass(frozen=True)
class Ritz:
    """Rayleigh-Ritz triplets of the bases, largest first.

    Attributes:
        d: Coefficients of u in the left basis ``[B, q, r]``, float64.
        s: Singular values ``[B, r]``, float64.
        c: Coefficients of v in the right basis ``[B, p, r]``, float64.
        residuals: Lengths of ``J^T u - s v`` over s for the leading triplets, ``[B, e]``; over the largest s where s is
            zero to rounding.
    """

    d: torch.Tensor
    s: torch.Tensor
    c: torch.Tensor
    residuals: torch.Tensor

    def select(self, points: list[int]) -> Ritz:
        """Those of some of the points."""
        return Ritz(self.d[points], self.s[points], self.c[points], self.residuals[points])


class BlockKrylov:
    """The growing pair of bases. Vectors are rows; storage is allocated once.

    Both bases have as many rows. A direction that brings nothing new is a row of zeros, so that no length depends on
    values and nothing has to wait for the device between the two passes.

    Args:
        products: The operator.
        start: First block ``[B, b0, n]``.
        k: How many triplets are wanted.
        block: Most rows of a later block.
        generator: Source of fresh directions once the Krylov space is exhausted.
        workspace: Arrays to work on, of the shape that :meth:`shape` says; new ones by default.
    """

    def __init__(
        self,
        products: Products | Deflated,
        start: torch.Tensor,
        k: int,
        block: int,
        generator: torch.Generator,
        workspace: Workspace | None = None,
    ) -> None:
        self.products, self.k, self.block, self.generator = products, k, block, generator
        self.n, self.m = start.shape[2], products.m
        self.workspace = space = workspace or Workspace(self.shape(products, start.shape[1], k, block))
        self.capacity = space.shape.capacity
        self.p = 0  # rows of the bases
        space.next[:, : start.shape[1]] = orthonormalize(start)
        space.next[:, start.shape[1] :] = 0
        space.fresh.fill_(True)
        space.exhausted.fill_(False)
        space.scale.fill_(0)

    @staticmethod
    def shape(products: Products | Deflated, first: int, k: int, block: int) -> Shape:
        """Of the workspace for a first block of so many rows."""
        capacity = max(3 * k, k + 4 * block, _FEWEST_ROWS) + first
        width = max(first, block)
        return Shape(products.points, capacity, width, products.n, products.m, products.dtype, products.device)

    @property
    def right(self) -> torch.Tensor:
        """Orthonormal rows ``[B, p, n]``."""
        return self.workspace.right[:, : self.p]

    @property
    def forward(self) -> torch.Tensor:
        """J times the right basis, ``[B, p, m]``."""
        return self.workspace.forward[:, : self.p]

    @property
    def left(self) -> torch.Tensor:
        """Orthonormal rows ``[B, p, m]``."""
        return self.workspace.left[:, : self.p]

    @property
    def backward(self) -> torch.Tensor:
        """The transpose times the left basis, ``[B, p, n]``."""
        return self.workspace.backward[:, : self.p]

    @property
    def core(self) -> torch.Tensor:
        """The left basis against J times the right one, ``[B, p, p]``, float64."""
        return self.workspace.core[:, : self.p, : self.p]

    @property
    def waits(self) -> bool:
        """Whether triplets of the core wait for the GPU: torch's solvers do, the kernel takes small matrices alone."""
        return self.core.is_cuda and not jacobi_fits(self.core)

    @property
    def exhausted(self) -> torch.Tensor:
        """Points where J is proven to vanish outside the right basis, ``[B]``."""
        return self.workspace.exhausted

    def expand(self, live: int) -> None:
        """Take the next block through J and what is new of it through the transpose.

        Args:
            live: Rows of the next block that are not zero, in any point; at least 1.
        """
        space, p, end = self.workspace, self.p, self.p + live
        images = self.products.forward(space.next[:, :live])
        space.run(("append", p, live), partial(self._append, p, end), images)
        space.backward[:, p:end] = self.products.backward(space.left[:, p:end])
        # Nothing counts before this line, so that an interruption leaves whole bases behind.
        self.p = end

    def _append(self, p: int, end: int, images: torch.Tensor) -> None:
        space = self.workspace
        space.scale.copy_(torch.maximum(space.scale, images.double().norm(dim=2).amax(dim=1, keepdim=True)))
        # Random directions outside the basis have smaller products where all that is left is zero to rounding.
        noise = torch.where(space.fresh, self.products.zero / NOISE[images.dtype], 1.0)[:, None]
        new = orthonormalize(images, space.left[:, :p], space.scale * noise)
        space.right[:, p:end], space.forward[:, p:end], space.left[:, p:end] = space.next[:, : end - p], images, new
        space.full_right[:, p:end], space.full_left[:, p:end] = _nonzero(space.right[:, p:end]), _nonzero(new)
        space.core[:, p:end, :end] = gram(new, space.forward[:, :end])
        space.core[:, :p, p:end] = gram(space.left[:, :p], images)

    def notice(self, live: int) -> None:
        """See whether the last block has left anything of J unknown.

        Args:
            live: As for :meth:`expand`.
        """
        space = self.workspace
        whole = space.full_right[:, : self.p].sum(dim=1) >= self.n
        new = space.full_left[:, self.p - live : self.p].any(dim=1)
        # Random directions outside the basis that J takes into the span of known images: the rank is reached.
        space.exhausted.logical_or_(whole | (space.fresh & ~new))

    def ritz(self, count: int) -> tuple[Ritz, torch.Tensor]:
        """Ritz triplets, with residuals of the first ``count``, and ``J^T u - s v`` of those, ``[B, e, n]``."""
        d, s, ct = _singular_triplets(self.core)
        c = ct.mT
        count = min(count, s.shape[1])
        rows = combine_rows(d[:, :, :count].mT, self.backward, (c[:, :, :count] * -s[:, None, :count]).mT, self.right)
        floor = self.floor(s)
        relative = torch.where(s[:, :count] > floor, s[:, :count], s[:, :1])
        residuals = rows.double().norm(dim=2) / relative.clamp_min(1e-300)
        return Ritz(d, s, c, residuals), rows

    def floor(self, s: torch.Tensor) -> torch.Tensor:
        """Size ``[B, 1]`` below which singular values ``[B, r]`` are zero to rounding."""
        return s[:, :1] * self.products.zero

    def disagreement(self, live: int) -> torch.Tensor:
        """``max |<u, J v> - <J^T u, v>|`` over the vectors of the last block, over the largest singular value, ``[B]``.

        Args:
            live: As for :meth:`expand`.
        """
        new = slice(self.p - live, self.p)
        difference = self.core[:, new, new] - gram(self.backward[:, new], self.right[:, new])
        return difference.abs().amax(dim=(1, 2)) / self.workspace.scale[:, 0].clamp_min(1e-300)

    def residuals(self, ritz: Ritz) -> torch.Tensor:
        """``|J^T u - s v| / s`` of the k wanted triplets, ``[B, k]``.

        Values that are zero to rounding count as zeros of any vectors outside the rest, whose products the largest of
        them bounds. They are unknown (inf) as long as fewer than k directions are known and some are left to find.
        """
        found = ritz.residuals[:, : self.k]
        zero = ritz.s <= self.floor(ritz.s)
        most = (ritz.s * zero).amax(dim=1, keepdim=True) / ritz.s[:, :1].clamp_min(1e-300)
        missing = torch.where(self.exhausted[:, None], most, float("inf"))
        doubtful = self.exhausted[:, None] | (self.known()[:, None] < self.k)
        zeros = torch.where(doubtful, missing, torch.maximum(found, most))
        known = torch.where(zero[:, : found.shape[1]], zeros, found)
        return torch.cat([known, missing.expand(-1, self.k - found.shape[1])], dim=1)

    def known(self) -> torch.Tensor:
        """Rows of the left basis that are not zero, ``[B]``."""
        return self.workspace.full_left[:, : self.p].sum(dim=1)

    def plan(self, ritz: Ritz, rows: torch.Tensor, wanted: torch.Tensor) -> None:
        """Choose the next block: the main directions in which the wanted triplets' residuals leave the basis.

        For a full block after a cold start these span what the Krylov space grows by.

        Args:
            ritz: From :meth:`ritz`.
            rows: From there too.
            wanted: How much each of them counts, ``[B, e]``.
        """
        weights = wanted.double() / ritz.s[:, :1].clamp_min(1e-300)
        rows = principal(rows, weights, self.block)
        self.put_next(orthonormalize(rows.to(self.right.dtype), self.right, 1.0))
        self.workspace.fresh.fill_(False)

    def put_next(self, rows: torch.Tensor, points: torch.Tensor | None = None) -> None:
        """Let rows ``[B, b, n]`` go through J next, at all points or at those that are marked, ``[B]``."""
        room = self.workspace.next
        rows = torch.cat([rows, rows.new_zeros(len(rows), room.shape[1] - rows.shape[1], self.n)], dim=1)
        room.copy_(rows if points is None else torch.where(points[:, None, None], rows, room))

    def live(self) -> torch.Tensor:
        """Rows of the next block that are not zero, ``[B]``."""
        return _nonzero(self.workspace.next).sum(dim=1)

    def refresh(self, points: torch.Tensor) -> None:
        """Random directions outside the basis for points whose Krylov space is used up.

        Args:
            points: Which, ``[B]``.
        """
        self.put_next(orthonormalize(self.products.random(self.block, self.generator), self.right), points)
        self.workspace.fresh.copy_(points)

    def restart(self, ritz: Ritz, incoming: int) -> None:
        """Thick restart: keep the leading Ritz vectors once there is no room for as many rows as come in."""
        if self.p + incoming <= self.capacity:
            return
        keep = min(self.k + self.block, ritz.s.shape[1])
        live = ritz.s[:, :keep] > self.floor(ritz.s)
        c, d = ((side[:, :, :keep] * live[:, None, :]).mT for side in (ritz.c, ritz.d))
        kept = [
            combine_rows(c, self.right),
            combine_rows(c, self.forward),
            combine_rows(d, self.left),
            combine_rows(d, self.backward),
        ]
        try:
            self._keep(kept, live)
        except KeyboardInterrupt:
            self._keep(kept, live)  # half of it would leave bases that do not belong together
            raise

    def _keep(self, kept: list[torch.Tensor], live: torch.Tensor) -> None:
        space, self.p = self.workspace, live.shape[1]
        for basis, rows in zip((self.right, self.forward, self.left, self.backward), kept, strict=True):
            basis.copy_(rows)
        space.full_right[:, : self.p], space.full_left[:, : self.p] = live, live
        space.core[:, : self.p, : self.p] = gram(self.left, self.forward)

    def triplets(self, ritz: Ritz, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows u ``[B, count, m]``, s ``[B, count]``, v ``[B, count, n]``; completed where the rank is smaller."""
        found = min(count, ritz.s.shape[1])
        s = ritz.s[:, :found] * (ritz.s[:, :found] > self.floor(ritz.s))
        live = (s > 0)[:, :, None]
        u = combine_rows(ritz.d[:, :, :found].mT * live, self.left)
        v = combine_rows(ritz.c[:, :, :found].mT * live, self.right)
        s = torch.cat([s, s.new_zeros(len(s), count - found)], dim=1)
        return complete(u, count, self.generator), s, complete(v, count, self.generator)


def _nonzero(rows: torch.Tensor) -> torch.Tensor:
    """Which rows ``[B, p, n]`` are not zero."""
    return (rows != 0).any(dim=2)


def principal(rows: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
    """At most ``count`` main directions of rows ``[B, e, n]`` times weights ``[B, e]``, scaled by size; float64."""
    # CUDA kernels read the rows as they are; elsewhere they are converted once for both products.
    rows = rows if rows.is_cuda else rows.double()
    vectors = eigenvectors(gram(rows) * weights[:, :, None] * weights[:, None, :])[:, :, :count]
    return combine_rows(vectors.mT * weights[:, None, :], rows, wide=True)


def _singular_triplets(core: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left vectors as columns, values and right vectors as rows of matrices ``[B, q, p]``, largest first."""
    if jacobi_fits(core):
        found = jacobi_svd(core)
        return found.u, found.s, found.vh
    return torch.linalg.svd(core, full_matrices=False)
