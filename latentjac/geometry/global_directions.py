"""Directions of h-space that many samples share, and how to use them on a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from latentjac.arguments import check_choice, check_number, check_sequence
from latentjac.geometry.frechet import frechet_mean
from latentjac.geometry.intervals import SampleMean, sample_mean
from latentjac.geometry.matching import matched_mean
from latentjac.geometry.rows import check_basis, stack_tangent_rows
from latentjac.geometry.transport import Transport, pull_back
from latentjac.public import public
from latentjac.solvers import LocalBasis

METHODS = ("frechet", "matched")


@dataclass(frozen=True)
class GlobalDirections:
    """h-directions that N samples have in common.

    Attributes:
        u: Unit directions ``[k, *y.shape[1:]]``; orthonormal for ``"frechet"``.
        agreement: ``|U_i u|^2``, the part of each direction's energy inside a sample's tangent space, mean over samples
            ``[k]``; a random direction has k over the dimension of h-space.
        response: ``|S_i U_i u|``, about how strongly a sample's features move along u when its x follows ``J^T u``,
            mean over samples ``[k]``.
        method: How they were found.
    """

    u: torch.Tensor = field(repr=False)
    agreement: SampleMean = field(repr=False)
    response: SampleMean = field(repr=False)
    method: str

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.agreement.n

    @public
    def at(self, basis: LocalBasis, method: str = "park2023", regularization: float = 0.0) -> Transport:
        """The directions in x-space at a new sample, from its local basis; see :func:`latentjac.geometry.pull_back`."""
        check_basis("at", "basis", basis)
        if basis.u.shape[basis.s.ndim :] != self.u.shape[1:]:
            expected, got = list(self.u.shape[1:]), list(basis.u.shape[basis.s.ndim :])
            raise ValueError(f"at: basis must have features of shape {expected}, got {got}")
        return pull_back(self.u, basis, method, regularization)

    def __repr__(self) -> str:
        low, high = (float(f(self.agreement.value)) for f in (torch.min, torch.max))
        shape = list(self.u.shape)
        return f"GlobalDirections(u {shape}, {self.method}, {self.n} samples, agreement {low:.2f} .. {high:.2f})"


@public
def global_directions(
    bases: Sequence[LocalBasis] | LocalBasis, method: str = "frechet", *, confidence: float = 0.95
) -> GlobalDirections:
    """Directions of h-space from the local bases of N samples at one timestep.

    Args:
        bases: A basis of N points, as :func:`latentjac.local_basis` gives for a point of N samples, or a sequence of
            bases, all with the same k and layer.
        method: ``"frechet"``: principal directions of the mean over samples of ``J J^T`` inside the Fréchet mean of the
            spans of u, the strongest first (the mean subspace alone has no directions of its own). ``"matched"``: means
            of directions that are matched one to one by ``|cosine|`` (Hungarian method) with signs aligned.
        confidence: Of the intervals.

    Raises:
        TypeError: If bases are something else.
        ValueError: If there are fewer than 2 samples, they do not agree in size, or the method is unknown.
    """
    name = "global_directions"
    method = check_choice(name, "method", method, METHODS)
    confidence = check_number(name, "confidence", confidence, 0, 1)
    several = [bases] if isinstance(bases, LocalBasis) else check_sequence(name, "bases", bases, "LocalBasis")
    for i, basis in enumerate(several):
        check_basis(name, f"bases[{i}]", basis)
    rows = stack_tangent_rows(name, several, "h")
    s = torch.cat([basis.s.double().reshape(basis.points, basis.k) for basis in several])
    if method == "matched":
        u = matched_mean(rows).rows
    else:
        mean = frechet_mean(rows).rows
        responses = s[:, :, None] * (rows @ mean.mT)
        u = torch.linalg.eigh((responses.mT @ responses).mean(0))[1].flip(1).mT @ mean
    parts = rows @ u.mT  # [N, k of the sample, k]
    first = several[0]
    return GlobalDirections(
        u.reshape(-1, *first.u.shape[first.s.ndim :]).to(first.u.dtype),
        sample_mean(parts.square().sum(1), confidence=confidence),
        sample_mean((s[:, :, None] * parts).norm(dim=1), confidence=confidence),
        method,
    )
