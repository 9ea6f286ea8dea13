"""Top singular triplets of matrix-free operators."""

from latentjac.solvers.arrays import ArrayBasis, ArrayOperator
from latentjac.solvers.basis import ConvergenceError, LocalBasis
from latentjac.solvers.certificate import Certificate
from latentjac.solvers.decompose import svd
from latentjac.solvers.operator import LinearOperator, Restrictable
from latentjac.solvers.options import Krylov, Randomized, Solver, Subspace
from latentjac.solvers.outcome import SolverState, Status
from latentjac.solvers.rank import EffectiveRank, Estimate, effective_rank

__all__ = [
    "ArrayBasis",
    "ArrayOperator",
    "Certificate",
    "ConvergenceError",
    "EffectiveRank",
    "Estimate",
    "Krylov",
    "LinearOperator",
    "LocalBasis",
    "Randomized",
    "Restrictable",
    "Solver",
    "SolverState",
    "Status",
    "Subspace",
    "effective_rank",
    "svd",
]
