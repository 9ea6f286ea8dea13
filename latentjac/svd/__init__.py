"""Top singular triplets of matrix-free operators."""

from latentjac.svd.basis import ConvergenceError, LocalBasis
from latentjac.svd.certificate import Certificate
from latentjac.svd.decompose import svd
from latentjac.svd.operator import LinearOperator, Restrictable
from latentjac.svd.outcome import SolverState, Status
from latentjac.svd.rank import EffectiveRank, Estimate, effective_rank

__all__ = [
    "Certificate",
    "ConvergenceError",
    "EffectiveRank",
    "Estimate",
    "LinearOperator",
    "LocalBasis",
    "Restrictable",
    "SolverState",
    "Status",
    "effective_rank",
    "svd",
]
