"""Threads get what one thread gets, each on its own operators or all on one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from recorder import Recorder
from solvers.matrices import SPECTRA, MatrixOperator, RestrictableOperator, with_spectrum
from solvers.repeated import digest

from latentjac.solvers import Krylov, LocalBasis, Randomized, Solver, Subspace, svd
from latentjac.solvers.operator import OperatorCache

THREADS = 8


def small(seed: int, name: str = "power law") -> torch.Tensor:
    return with_spectrum(SPECTRA[name][:45], m=60, n=50, seed=seed).matrix


class Recording(MatrixOperator):
    """A matrix whose work between passes is recorded, as on a GPU."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__(matrix)
        self.own = Recorder()

    def recorder(self) -> Recorder:
        return self.own


def together(runs: list[Callable[[], LocalBasis]]) -> list[str]:
    """Digests of runs that begin at the same time."""
    begin = threading.Barrier(len(runs))

    def run(call: Callable[[], LocalBasis]) -> str:
        begin.wait()
        return digest(call())

    with ThreadPoolExecutor(len(runs)) as pool:
        return list(pool.map(run, runs))


@pytest.mark.parametrize("kind", [MatrixOperator, RestrictableOperator, Recording])
def test_each_its_own_operator(kind: type[MatrixOperator]) -> None:
    operators = [kind(small(seed)) for seed in range(THREADS)]
    alone = [digest(svd(operator, k=4, solver=Krylov(block_size=4))) for operator in operators]
    runs = [lambda operator=o: svd(operator, k=4, solver=Krylov(block_size=4)) for o in operators]
    assert together(runs) == alone


@pytest.mark.parametrize("solver", [Krylov, Subspace, Randomized])
@pytest.mark.filterwarnings("ignore:svd")
def test_all_one_operator(solver: type[Solver]) -> None:
    operator = MatrixOperator(torch.cat([small(0), small(1, "rank 3")]))
    alone = digest(svd(operator, k=4, solver=solver()))
    assert together([lambda: svd(operator, k=4, solver=solver())] * THREADS) == [alone] * THREADS


def test_all_one_operator_with_other_settings() -> None:
    operator = MatrixOperator(small(0))
    settings = [
        {"k": 1 + i % 4, "tol": 10.0 ** -(1 + i % 3), "solver": Krylov(block_size=2 + i % 2)} for i in range(THREADS)
    ]
    alone = [digest(svd(operator, **given)) for given in settings]
    assert together([lambda given=g: svd(operator, **given) for g in settings]) == alone


def test_what_is_kept_is_the_engine_s() -> None:
    class Engine:
        pass

    class Handle:
        def __init__(self, engine: object) -> None:
            self.engine = engine

    engine, store = Engine(), OperatorCache[int]()
    store.put(Handle(engine), 3)
    assert store.get(Handle(engine)) == 3
    assert store.get(Handle(Engine())) is None
    assert store.take(Handle(engine)) == 3
    assert store.get(Handle(engine)) is None
    store.put(Handle(None), 4)
    assert store.get(Handle(None)) is None


def test_one_value_is_taken_once() -> None:
    store, key, taken = OperatorCache[object](), MatrixOperator(small(0)), []
    begin = threading.Barrier(THREADS)

    def use() -> None:
        begin.wait()
        for _ in range(300):
            value = store.take(key)
            if value is not None:
                taken.append(value)
                assert taken.count(value) == 1, "nobody else has it"
                taken.remove(value)
                store.put(key, value)

    store.put(key, object())
    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(use) for _ in range(THREADS)]:
            future.result()
    assert store.get(key) is not None
