"""Bases of some runs, as bytes: called in this process and in others, they have to be the same."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable

import torch
from solvers.matrices import SPECTRA, MatrixOperator, RestrictableOperator, with_spectrum

import latentjac
from latentjac.solvers import Krylov, LocalBasis, Randomized, Subspace, svd

POWER, FLAT = SPECTRA["power law"][:140], SPECTRA["cluster"][:140]


def _one() -> MatrixOperator:
    return with_spectrum(POWER, 150, 220, torch.float32)


def _three() -> RestrictableOperator:
    spectra = [POWER, SPECTRA["rank 3"], FLAT]
    matrices = [with_spectrum(v, 150, 220, torch.float32, seed=i).matrix for i, v in enumerate(spectra)]
    return RestrictableOperator(torch.cat(matrices), cost=2.0)


def _network(points: int) -> latentjac.Linearization:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 3, 3, 3, generator=generator)
    x = torch.randn(points, 3, 12, 12, generator=generator)
    return latentjac.linearize(lambda x: torch.tanh(torch.nn.functional.conv2d(x, weight, padding=1)), x)


def _warm(operator: MatrixOperator, **options: object) -> LocalBasis:
    return svd(operator, k=6, tol=1e-4, warm_start=svd(operator, k=6, tol=0.1), **options)


RUNS: dict[str, Callable[[], LocalBasis]] = {
    "krylov": lambda: svd(_one(), k=12),
    "krylov, 3 points": lambda: svd(_three(), k=5),
    "krylov, warm": lambda: _warm(_one()),
    "krylov, warm, 3 points": lambda: _warm(_three(), solver=Krylov(confirm=0)),
    "subspace": lambda: svd(_one(), k=5, solver=Subspace(), tol=1e-2),
    "subspace, 3 points": lambda: svd(_three(), k=5, solver=Subspace(), tol=1e-2, max_passes=200),
    "randomized": lambda: svd(_one(), k=5, solver=Randomized(), tol=0.5),
    "randomized, 3 points, warm": lambda: _warm(_three(), solver=Randomized()),
    "refined": lambda: svd(_one(), k=5, refine_with=with_spectrum(POWER, 150, 220)),
    "network": lambda: svd(_network(1), k=9),
    "network, 3 points": lambda: svd(_network(3), k=5, generator=torch.Generator().manual_seed(5)),
}


def digest(basis: LocalBasis) -> str:
    """Of all numbers but the time."""
    certificate = [getattr(basis.certificate, name) for name in basis.certificate.names()]
    parts = [t.contiguous().numpy().tobytes() for t in (basis.s, basis.v, basis.u, basis.residuals, *certificate)]
    facts = f"{basis.point_status} {basis.jvps} {basis.vjps} {basis.metadata}"
    return hashlib.sha256(b"".join(parts) + facts.encode()).hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    for name, run in RUNS.items():
        print(f"{name}={digest(run())}")
