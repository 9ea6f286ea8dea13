"""What surrounds every call of a public function."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import rand
from solvers.matrices import MatrixOperator

import latentjac
from latentjac import geometry
from latentjac.solvers import Krylov

TIGHT: dict[str, Any] = {"k": 2, "tol": 1e-9, "max_passes": 2, "solver": Krylov(block_size=2)}


def _unfinished() -> latentjac.LocalBasis:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return latentjac.svd(MatrixOperator(rand(9, 8)), **TIGHT)


def svd(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    latentjac.svd(MatrixOperator(rand(9, 8)), **TIGHT)
    return _line() - 1


def local_basis(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    latentjac.local_basis(model, point, **TIGHT)
    return _line() - 1


def of_another_network(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    path = latentjac.local_basis(model, point, k=1, tol=0.5).save(folder / "basis.safetensors")
    next(model.network.parameters()).data.mul_(2)
    latentjac.LocalBasis.load(path, model)
    return _line() - 1


def unfinished_argument(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    basis = _unfinished()
    geometry.subspace_distance(basis, basis)
    return _line() - 1


def unfinished_entry(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    bases = [_unfinished()] * 2
    geometry.pairwise_distances(bases)
    return _line() - 1


def frechet_mean(model: latentjac.Model, point: latentjac.Point, folder: Path) -> int:
    rows = [torch.linalg.qr(rand(6, 2, seed=i))[0].mT for i in range(3)]
    geometry.frechet_mean(rows, tol=1e-14, max_iterations=1)
    return _line() - 1


CASES = [svd, local_basis, of_another_network, unfinished_argument, unfinished_entry, frechet_mean]


def _line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_warning_names_the_line_of_the_caller(
    case: Callable[..., int], own_model: latentjac.Model, tiny_point: latentjac.Point, tmp_path: Path
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = case(own_model, tiny_point, tmp_path)
    assert {(warning.filename, warning.lineno) for warning in caught} == {(__file__, line)}


def singular_values(matrix: torch.Tensor) -> torch.Tensor:
    return latentjac.svd(MatrixOperator(matrix), 2).s


def products(matrix: torch.Tensor) -> torch.Tensor:
    lin = latentjac.linearize(lambda x: (x @ matrix.T).sin(), rand(1, 8))
    return latentjac.svd(lin, 2).s


@pytest.mark.parametrize("call", [singular_values, products])
def test_compiled_programs_leave_calls_as_they_are(call: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Or torch.compile traces the whole library, for minutes."""
    torch._dynamo.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda matrix, x: 2 * (call(matrix) * x.sin()), backend=backend)
    x = torch.tensor(0.5, dtype=torch.float64)
    for matrix in rand(2, 9, 8):  # what comes out is no constant
        torch.testing.assert_close(compiled(matrix, x), 2 * call(matrix) * x.sin())
    assert 0 < len(graphs) <= 4
