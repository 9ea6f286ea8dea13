"""What can be said about computed triplets without knowing the exact ones."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from latentjac.solvers.orthonormal import orthogonality
from latentjac.solvers.outcome import Found


@dataclass(frozen=True)
class Certificate:
    """Error bounds of a basis; tensors of float64, with a leading B for several points.

    All bounds but those of the first two attributes suppose that no singular value above the last was missed, which
    no finite number of products can prove.

    Attributes:
        left_residuals: ``|J v - s u| / s``, ``[k]``; the other half beside ``basis.residuals``.
        s_error: Bound of the distance to the nearest exact value, ``[k]``: the residual bound of Weinstein, ``rho``,
            the length of the residual of ``(u, v) / sqrt 2`` in the symmetric matrix ``[[0, J], [J^T, 0]]``; or
            ``rho^2 / gap`` (Kato and Temple) where the neighbouring values are known to be farther than rho and it is
            smaller; and ten rounding units of ``s[0]``, or the adjoint mismatch where that is larger.
        next_s: Estimate of the singular value after the last, ``[]``; 0 if there is none.
        gap: Least distance that ``s[-1]`` can have from the next value, ``[]``; negative if they are not told apart.
        angle: Bound of the sine of the largest angle between the spans of u, or of v, and the exact ones, ``[]``
            (Wedin 1972): Frobenius norm of both residuals over the gap. 1 where nothing can be said.
        orthogonality_v: ``max |V V^T - I|``, ``[]``.
        orthogonality_u: ``max |U U^T - I|``, ``[]``.
        adjoint_mismatch: ``max |<u, J v> - <J^T u, v>| / s[0]`` over all vectors that were used, ``[]``.
    """

    left_residuals: torch.Tensor
    s_error: torch.Tensor
    next_s: torch.Tensor
    gap: torch.Tensor
    angle: torch.Tensor
    orthogonality_v: torch.Tensor
    orthogonality_u: torch.Tensor
    adjoint_mismatch: torch.Tensor

    @classmethod
    def names(cls) -> list[str]:
        """Names of the attributes."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, found: list[Found]) -> Certificate:
        """Bounds for the triplets of each point; without a leading B for one."""
        rows = [_certify(point) for point in found]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in cls.names()}
        return cls(**{name: value[0] if len(found) == 1 else value for name, value in stacked.items()})


def _certify(found: Found) -> dict[str, torch.Tensor]:
    s = found.s.double().cpu()
    right, left = (_lengths(r.double().cpu(), s) for r in (found.residuals, found.left_residuals))
    # Of the products and of the numbers handed out.
    rounding = max(10 * torch.finfo(found.v.dtype).eps, found.mismatch) * s[0]
    rho = ((right.square() + left.square()) / 2).sqrt()
    beyond = found.next_s * (1 + found.next_residual)
    gap = float(s[-1]) - beyond if beyond < float("inf") else -float("inf")
    size = float((right.square().sum() + left.square().sum()).sqrt())
    angle = min(1.0, size / gap) if gap > 0 else 1.0
    scalars = {
        "next_s": found.next_s,
        "gap": gap,
        "angle": angle,
        "orthogonality_v": orthogonality(found.v),
        "orthogonality_u": orthogonality(found.u),
        "adjoint_mismatch": found.mismatch,
    }
    scalars |= {name: scalars[name] * found.unit for name in ("next_s", "gap")}
    tensors = {name: torch.tensor(value, dtype=torch.float64, device="cpu") for name, value in scalars.items()}
    return {
        "left_residuals": found.left_residuals.double().cpu(),
        "s_error": (_value_error(s, rho, beyond) + rounding) * found.unit,
        **tensors,
    }


def _lengths(residuals: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Lengths of residual vectors; residuals are relative to s, or to the largest where s is zero."""
    lengths = residuals * torch.where(s > 0, s, s[0])
    return torch.where(residuals.isinf(), residuals, lengths)


def _value_error(s: torch.Tensor, rho: torch.Tensor, beyond: float) -> torch.Tensor:
    """The smaller of the linear and, where it holds, the quadratic bound."""
    infinite = torch.tensor([float("inf")], dtype=torch.float64, device="cpu")
    below = torch.cat([s[1:] + rho[1:], infinite.new_tensor([beyond])])
    above = torch.cat([infinite, s[:-1] - rho[:-1]])
    # Beside the other singular values, the symmetric matrix has their negatives and zeros.
    gap = torch.minimum(torch.minimum(s - below, above - s), s)
    return torch.where(gap > rho, torch.minimum(rho, rho.square() / gap), rho)
