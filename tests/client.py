"""A program of another project, typed strictly: what it reveals of types is part of the interface."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch

import latentjac
from latentjac.solvers import ArrayBasis, Krylov, SolverState
from latentjac.stopping import Progress

Array = npt.NDArray[np.float64]


class Matrix:
    """An operator in NumPy."""

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix
        self.x: Array = np.zeros((1, matrix.shape[1]))
        self.y: Array = np.zeros((1, matrix.shape[0]))

    def jvp(self, v: Array) -> Array:
        return v @ self.matrix.T

    def vjp(self, u: Array) -> Array:
        return u @ self.matrix


def told(state: SolverState) -> bool:
    return state.converged < 0


def heard(step: Progress) -> None:
    assert step.total is None or step.done <= step.total


def decompose() -> tuple[latentjac.LocalBasis, ArrayBasis]:
    """Of a torch function, and of arrays."""
    lin = latentjac.linearize(lambda x: torch.tanh(x) * 2, torch.ones(1, 6))
    assert isinstance(lin, latentjac.Linearization)
    of_torch: latentjac.LocalBasis = latentjac.svd(
        lin, k=2, tol=1e-3, solver=Krylov(block_size=2), callback=told, generator=torch.Generator().manual_seed(0)
    )
    matrix: Array = np.diag(np.arange(1.0, 8.0))
    of_numpy: ArrayBasis = latentjac.svd(Matrix(matrix), k=2, warm_start=np.eye(7)[-2:])
    return of_torch, of_numpy


def joint() -> torch.Tensor:
    lin = latentjac.linearize(lambda z, t: torch.sin(z * t), (torch.ones(2, 3), torch.ones(2, 1)))
    product = lin.jvp((torch.ones(1, 2, 3), torch.ones(1, 2, 1)))
    assert isinstance(product, torch.Tensor)
    return product


def main() -> None:
    event = threading.Event()
    with latentjac.limits(max_seconds=60, max_memory=2**30, stop=event.is_set, progress=heard):
        of_torch, of_numpy = decompose()
    assert of_torch.status is latentjac.Status.CONVERGED
    assert np.allclose(of_numpy.s, [7, 6])
    assert joint().shape == (1, 2, 3)
    with TemporaryDirectory() as folder:
        path: Path = of_torch.save(Path(folder) / "a.safetensors")
        assert torch.equal(latentjac.LocalBasis.load(path).v, of_torch.v)
    # An argument that there is not is an error of the type checker: a comment that is not needed would be one, too.
    with contextlib.suppress(TypeError):
        latentjac.svd(Matrix(np.eye(7)), k=2, max_pases=3)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
