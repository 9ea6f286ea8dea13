"""Top singular triplets of matrix-free operators."""

from latentjac.svd.basis import ConvergenceError, LocalBasis, Status
from latentjac.svd.decompose import LinearOperator, svd
from latentjac.svd.krylov import SolverState

__all__ = ["ConvergenceError", "LinearOperator", "LocalBasis", "SolverState", "Status", "svd"]
