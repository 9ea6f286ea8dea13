"""The same inputs and the same seed give the same bits: twice, after other work, and in another process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from solvers.matrices import SPECTRA, RestrictableOperator, with_spectrum
from solvers.repeated import RUNS, digest

import latentjac
from latentjac.solvers import Krylov, svd

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore:svd")
def test_in_two_processes_and_twice_in_this_one() -> None:
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests/solvers/repeated.py"), str(torch.get_num_threads())]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "7"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        first = {name: digest(run()) for name, run in RUNS.items()}
        assert process.stdout is not None
        elsewhere = dict(line.strip().rsplit("=", 1) for line in process.stdout)
    assert elsewhere == first
    # In another order, and on operators that know of runs before.
    torch.manual_seed(9)
    assert {name: digest(RUNS[name]()) for name in reversed(RUNS)} == first


def test_runs_before_on_one_operator_decide_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.stack([torch.tensor([9.0, 8.0, 7.0] + [1e-3] * 57), torch.linspace(1, 0.5, 60)]).double()
    turns = torch.linalg.qr(torch.randn(60, 60, generator=generator, dtype=torch.float64))[0]
    x = torch.randn(2, 60, dtype=torch.float64, generator=generator)
    lin = latentjac.linearize(lambda x, scale: torch.sin((x * scale) @ turns), x, scales)
    first = svd(lin, k=3, tol=1e-6, solver=Krylov(block_size=2))
    cost = lin.leaving_cost
    lin.restrict([1])
    assert lin.leaving_cost == cost
    svd(lin, k=3, solver=Krylov(block_size="measured"))
    svd(lin, k=7, tol=1e-2)
    assert digest(svd(lin, k=3, tol=1e-6, solver=Krylov(block_size=2))) == digest(first)


def test_clocks_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every second pass takes an hour."""
    operator = with_spectrum(SPECTRA["power law"])
    expected, now = digest(svd(operator, k=12)), [0.0]

    def clock() -> float:
        now[0] += 3600.0 * (len(operator.vectors) % 2) + 1e-6
        return now[0]

    monkeypatch.setattr(time, "perf_counter", clock)
    assert digest(svd(operator, k=12)) == expected


def test_a_cost_by_rule_goes_before_a_measured_one() -> None:
    easy = torch.cat([torch.tensor([9.0, 8.0, 7.0]), torch.full((100,), 1e-3)]).double()
    matrix = torch.cat([with_spectrum(v, 150, 220).matrix for v in (easy, torch.linspace(1, 0.5, 100).double())])
    operator = RestrictableOperator(matrix, cost=1e9)
    operator.leaving_cost = 0.0
    svd(operator, k=3, tol=1e-5, solver=Krylov(block_size=3))
    assert operator.log == [[1]]
    operator.log.clear()
    svd(operator, k=3, tol=1e-5, solver=Krylov(block_size="measured"))
    assert not operator.log, "measurements were allowed"
