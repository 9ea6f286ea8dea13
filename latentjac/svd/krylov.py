"""Block Golub-Kahan bidiagonalisation with full reorthogonalisation and thick restart.

Golub & Kahan 1965; Golub, Luk & Overton 1981 (blocks); Baglama & Reichel 2005 (thick restart). The raw
products J V and J^T U are kept beside the bases, so that every residual is computed from products that
were really taken and not from the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from latentjac.svd.orthonormal import orthonormalize


@dataclass(frozen=True)
class SolverState:
    """What a callback sees after each pass.

    Attributes:
        passes: Passes so far; one pass is one block of JVPs or of VJPs.
        jvps: Vectors taken through J.
        vjps: Vectors taken through J^T.
        s: Current estimates of the k largest singular values.
        residuals: Their residuals ``|J^T u - s v| / s``.
        converged: How many of the k residuals are within the tolerance.
    """

    passes: int
    jvps: int
    vjps: int
    s: torch.Tensor
    residuals: torch.Tensor
    converged: int


class BlockKrylov:
    """The growing pair of bases and the Rayleigh-Ritz triplets in it. Vectors are rows.

    Args:
        jvp: Takes rows ``[b, n]`` to ``[b, m]``.
        vjp: Takes rows ``[b, m]`` to ``[b, n]``.
        start: First block, of any number of rows ``[*, n]``.
        m: Length of rows of J v.
        block: Rows of a fresh block.
        k: How many triplets are wanted.
        max_basis: Rows at which the bases are restarted.
        generator: Source of fresh directions once the Krylov space is exhausted.
    """

    def __init__(
        self,
        jvp: Callable[[torch.Tensor], torch.Tensor],
        vjp: Callable[[torch.Tensor], torch.Tensor],
        start: torch.Tensor,
        m: int,
        k: int,
        block: int,
        max_basis: int,
        generator: torch.Generator | None,
    ) -> None:
        self.jvp, self.vjp, self.k, self.max_basis, self.generator = jvp, vjp, k, max_basis, generator
        self.n, self.m, self.block = start.shape[1], m, block
        self.exhausted = False  # proven: J vanishes outside the bases
        self.right, self.left = start.new_zeros(0, self.n), start.new_zeros(0, m)
        self.forward, self.backward = start.new_zeros(0, m), start.new_zeros(0, self.n)  # J right, J^T left
        self.next = orthonormalize(start)
        self.jvps = self.vjps = self.passes = 0
        self.scale = 0.0  # largest product so far, an estimate of the norm of J from below

    def expand(self) -> bool:
        """One JVP pass and one VJP pass; False if nothing is left to find."""
        fresh = not len(self.next)
        if fresh:
            self.next = self._fresh()
            if not len(self.next):
                self.exhausted = True
                return False
        products = self._product(self.jvp, self.next)
        scale = max(self.scale, products.double().norm(dim=1).max().item())
        new = orthonormalize(products, self.left, scale)
        pulled = self._product(self.vjp, new) if len(new) else self.next[:0]
        # Nothing is kept until both passes are done, so that an interruption leaves whole bases behind.
        self.right = torch.cat([self.right, self.next])
        self.forward = torch.cat([self.forward, products])
        self.left = torch.cat([self.left, new])
        self.backward = torch.cat([self.backward, pulled])
        self.next = orthonormalize(pulled, self.right, scale)
        self.scale = scale
        self.jvps, self.vjps = self.jvps + len(products), self.vjps + len(pulled)
        self.passes += 2 if len(new) else 1
        # Random directions outside the bases that J takes into their span or to zero: the rank is reached.
        first = len(self.right) == len(products)
        self.exhausted = not len(new) and (fresh or first)
        return not self.exhausted

    def _product(self, product: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        out = product(rows)
        if not torch.isfinite(out).all():
            kind = "jvp" if product is self.jvp else "vjp"
            raise ValueError(
                f"svd: operator must give finite products, got NaN or Inf from {kind} in pass {self.passes + 1}"
            )
        return out

    def _fresh(self) -> torch.Tensor:
        """Random directions outside the basis: an invariant subspace is used up, others may be left."""
        room = min(self.block, self.n - len(self.right))
        if room <= 0:
            return self.right[:0]
        rows = torch.randn(room, self.n, generator=self.generator, dtype=self.right.dtype).to(self.right.device)
        return orthonormalize(rows, self.right)

    def ritz(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rayleigh-Ritz: coefficients of u and v in the bases and singular values, all of them, float64."""
        core = self.left.double() @ self.forward.double().T
        d, s, ct = torch.linalg.svd(core, full_matrices=False)
        return d, s, ct.T

    def floor(self, s: torch.Tensor) -> float:
        """Size below which a singular value is zero to rounding."""
        eps = torch.finfo(self.right.dtype).eps
        return s[0].item() * eps * max(self.n, self.m) ** 0.5 if len(s) else 0.0

    def find_hidden(self, tol: float, max_passes: int) -> bool:
        """Look for values that belong to the top k but hide from the Krylov space; True if there are.

        A Krylov space holds at most ``block`` copies of a multiple value. A second iteration, on J with the
        top k projected out, shows whether a larger value is left. If so, its vectors become the next block.
        """
        _, s, c = self.ritz()
        known = (c[:, : self.k].T @ self.right.double()).to(self.right.dtype)
        least = s[self.k - 1].item()

        def reject(rows: torch.Tensor) -> torch.Tensor:
            return rows - (rows @ known.T) @ known

        rows = torch.randn(self.block, self.n, generator=self.generator, dtype=known.dtype).to(known.device)
        probe = BlockKrylov(
            lambda v: self.jvp(reject(v)),
            lambda u: reject(self.vjp(u)),
            reject(rows),
            self.m,
            1,
            self.block,
            self.max_basis,
            self.generator,
        )
        hidden = False
        while self.passes + probe.passes < max_passes and probe.expand():
            d, s, c = probe.ritz()
            residual = probe.residuals(d, s, c)[0].item()
            if s[0] * (1 + residual) < least:
                break
            if residual <= tol:
                hidden = s[0].item() > least * (1 + 0.1 * tol)
                break
            probe.restart(d, c)
        self.jvps, self.vjps = self.jvps + probe.jvps, self.vjps + probe.vjps
        self.passes += probe.passes
        if hidden:
            found = (c[:, : self.block].T @ probe.right.double()).to(known.dtype)
            self.next = orthonormalize(found, self.right)
        return hidden

    def residuals(self, d: torch.Tensor, s: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """``|J^T u - s v| / s`` of the first k triplets; relative to the largest s where s is zero to rounding.

        Triplets that were not found count as exact zeros once nothing is left to find, and as unknown (inf) before.
        """
        k = min(self.k, len(s))
        difference = d[:, :k].T @ self.backward.double() - s[:k, None] * (c[:, :k].T @ self.right.double())
        norms = difference.norm(dim=1)
        scale = torch.where(s[:k] > self.floor(s), s[:k], s[:1])
        missing = norms.new_full((self.k - k,), 0.0 if self.exhausted else float("inf"))
        return torch.cat([norms / scale.clamp_min(1e-300), missing])

    def restart(self, d: torch.Tensor, c: torch.Tensor) -> None:
        """Thick restart: keep the leading Ritz vectors once the bases are full; the next block stays valid."""
        if len(self.right) + self.block <= self.max_basis:
            return
        keep = min(self.k + self.block, d.shape[1])
        c, d = c[:, :keep].T, d[:, :keep].T
        dtype = self.right.dtype
        self.right, self.forward = ((c @ rows.double()).to(dtype) for rows in (self.right, self.forward))
        self.left, self.backward = ((d @ rows.double()).to(dtype) for rows in (self.left, self.backward))
        self.next = orthonormalize(self.next, self.right)

    def triplets(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows u ``[k, m]``, s ``[k]``, v ``[k, n]`` and residuals; u and v are completed if J has rank < k."""
        d, s, c = self.ritz()
        k = min(self.k, len(s))
        residuals = self.residuals(d, s, c)
        dtype = self.right.dtype
        u = (d[:, :k].T @ self.left.double()).to(dtype)
        v = (c[:, :k].T @ self.right.double()).to(dtype)
        missing = self.k - k
        if missing:
            u, v = self._complete(u), self._complete(v)
            s = torch.cat([s, s.new_zeros(missing)])
        return u, s[: self.k].to(dtype), v, residuals.to(dtype)

    def _complete(self, rows: torch.Tensor) -> torch.Tensor:
        extra = torch.randn(self.k - len(rows), rows.shape[1], generator=self.generator, dtype=rows.dtype)
        return torch.cat([rows, orthonormalize(extra.to(rows.device), rows)])
