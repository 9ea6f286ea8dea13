"""Recorded passes give what launched ones give, at every base point, and what cannot be recorded is launched.

The recorder of ``recorder.py`` stands for CUDA graphs: it makes NaN of all memory that a replay has to write, so a
value that is not rewritten shows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from linearization.cases import block, conditional_unet, elementwise, unet, weights_as_constants
from networks import rand
from recorder import Recorder

from latentjac.linearization import ProgramLinearization, RecordingError

Tensor = torch.Tensor
CASES = [block, unet, conditional_unet, weights_as_constants, elementwise]


def products(lin: ProgramLinearization, k: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    return lin.jvp(rand(k, *lin.x.shape, seed=seed)), lin.vjp(rand(k, *lin.y.shape, seed=seed))


@pytest.mark.parametrize("case", CASES)
def test_replays_at_every_base_point_give_what_launches_give(case: Callable) -> None:
    f, x, (first, second) = case()
    recorder = Recorder()
    plain = ProgramLinearization(f, x, *first, cuda_graphs=False)
    lin = ProgramLinearization(f, x, *first, recorder=recorder, cuda_graphs=True)
    products(lin, 3)  # records
    assert recorder.replays == 3, "the primal and two passes"
    for turn, constants in enumerate((first, second, first)):
        point = rand(*x.shape, seed=10 + turn)
        plain.rebase(point, *constants)
        lin.rebase(point, *constants)
        torch.testing.assert_close(lin.y, plain.y, rtol=1e-12, atol=1e-12)
        for k, seed in ((3, 1), (2, 2), (3, 3)):
            for got, expected in zip(products(lin, k, seed), products(plain, k, seed), strict=True):
                torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert len(recorder.recordings) == 5, "one primal, and a tangent and a cotangent of each number of probes"


def test_constants_written_to_in_place_count_from_the_next_rebase_on() -> None:
    f, x, (first, second) = weights_as_constants()
    lin = ProgramLinearization(f, x, *first, recorder=Recorder())
    expected = products(lin, 2)
    given = [c.clone() for c in first]
    moved = ProgramLinearization(f, x, *given, recorder=Recorder())
    for constant, value in zip(given, second, strict=True):
        constant.copy_(value)
    for _ in range(2):  # launched, then recorded at the old base point
        for got, right in zip(products(moved, 2), expected, strict=True):
            torch.testing.assert_close(got, right)
    for cuda_graphs in ("auto", False):
        given = [c.clone() for c in second]
        lin = ProgramLinearization(f, x, *given, recorder=Recorder(), cuda_graphs=cuda_graphs)
        for constant, value in zip(given, first, strict=True):
            constant.copy_(value)
        lin.rebase(x, *given)
        torch.testing.assert_close(products(lin, 2)[0], expected[0])


def test_results_belong_to_the_caller() -> None:
    f, x, (constants, _) = block()
    lin = ProgramLinearization(f, x, *constants, recorder=Recorder(), cuda_graphs=True)
    y, before = lin.y, [t.clone() for t in products(lin, 2, seed=1)]
    kept, value = products(lin, 2, seed=1), y.clone()
    lin.rebase(x + 1)
    products(lin, 2, seed=5)
    for t, old in zip(kept, before, strict=True):
        assert torch.equal(t, old)
    assert torch.equal(y, value)
    assert torch.equal(lin.x, x + 1)


def test_a_shape_is_recorded_when_it_comes_again() -> None:
    f, x, (constants, _) = block()
    recorder = Recorder()
    lin = ProgramLinearization(f, x, *constants, recorder=recorder)
    products(lin, 2)
    assert not recorder.recordings
    products(lin, 2)
    assert lin.engine.passes.recorded == [("cotangent", 2), ("tangent", 2)]
    lin.prepare(3)
    before = recorder.replays
    products(lin, 3)
    assert recorder.replays == before + 2


def test_chunks_are_recorded_each_by_its_size() -> None:
    f, x, (constants, _) = block()
    plain = ProgramLinearization(f, x, *constants, cuda_graphs=False)
    lin = ProgramLinearization(f, x, *constants, recorder=Recorder(), cuda_graphs=True, chunk_size=3)
    for got, expected in zip(products(lin, 7), products(plain, 7), strict=True):  # 3 + 2 + 2
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert lin.engine.passes.recorded == [(name, k) for name in ("cotangent", "tangent") for k in (2, 3)]


def test_out_of_memory_while_recording_takes_fewer_probes(caplog: pytest.LogCaptureFixture) -> None:
    f, x, (constants, _) = block()
    plain = ProgramLinearization(f, x, *constants, cuda_graphs=False)
    recorder = Recorder()
    lin = ProgramLinearization(f, x, *constants, recorder=recorder, cuda_graphs=True)
    products(lin, 1)

    def fails() -> None:
        recorder.fails = lambda: None
        raise torch.OutOfMemoryError("CUDA out of memory")

    recorder.fails = fails
    with caplog.at_level(logging.WARNING, "latentjac"):
        got = lin.jvp(rand(4, *x.shape))
    torch.testing.assert_close(got, plain.jvp(rand(4, *x.shape)), rtol=1e-10, atol=1e-12)
    assert [r.getMessage() for r in caplog.records if r.name == "latentjac"] == [
        "linearize: out of memory with 4 probes at once; going on with 2"
    ]
    assert lin.engine.passes.recorded == [("tangent", 2)], "recordings of before gave their memory back"


@pytest.mark.parametrize("when", ["primal", "tangent", "cotangent"])
def test_what_cannot_be_recorded_is_launched_and_logged_once(when: str, caplog: pytest.LogCaptureFixture) -> None:
    f, x, constants = block()
    plain = ProgramLinearization(f, x, *constants[0], cuda_graphs=False)
    recorder = Recorder()
    lin = ProgramLinearization(f, x, *constants[0], recorder=recorder)
    failing = getattr(lin.program, when)
    tries = []

    def fails(*args: Any) -> Tensor:
        out = failing(*args)
        if recorder.current is not None:
            tries.append(when)
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return out

    setattr(lin.program, when, fails)
    with caplog.at_level(logging.WARNING, "latentjac"):
        for turn in range(2):
            point = x + turn
            plain.rebase(point, *constants[turn])
            lin.rebase(point, *constants[turn])
            for _ in range(3):
                for got, expected in zip(products(lin, 2), products(plain, 2), strict=True):
                    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert [r.getMessage() for r in caplog.records if r.name == "latentjac"] == [
        "linearize: passes are launched one by one, since recording failed: "
        "operation not permitted when stream is capturing"
    ]
    assert tries == [when], "tried once"
    others = {"tangent", "cotangent"} - {when} if when != "primal" else set()
    assert {name for name, _ in lin.engine.passes.recorded} == others


def test_a_demand_that_fails_raises_and_leaves_the_base_point_whole() -> None:
    f, x, (constants, _) = block()
    recorder = Recorder()
    lin = ProgramLinearization(f, x, *constants, recorder=recorder, cuda_graphs=True)
    expected = products(ProgramLinearization(f, x, *constants, cuda_graphs=False), 2)

    def fails() -> None:
        raise RuntimeError("not permitted")

    recorder.fails = fails
    with pytest.raises(RecordingError, match="cuda_graphs=True, but a pass cannot be recorded: not permitted"):
        lin.jvp(rand(2, *x.shape))
    recorder.fails = lambda: None
    torch.testing.assert_close(products(lin, 2), expected, rtol=1e-10, atol=1e-12)


def test_new_shapes_of_constants_start_over() -> None:
    f, x, (constants, _) = block()
    lin = ProgramLinearization(f, x, *constants, recorder=Recorder(), cuda_graphs=True)
    products(lin, 2)
    each = rand(8, 1, 1, seed=9)
    lin.rebase(x, each)
    plain = ProgramLinearization(f, x, each, cuda_graphs=False)
    torch.testing.assert_close(products(lin, 2), products(plain, 2), rtol=1e-10, atol=1e-12)


def test_the_stand_in_finds_what_is_not_rewritten() -> None:
    """A value that Python holds from before, and a result that was never written."""
    kept: dict[str, Tensor] = {}

    def run(x: Tensor) -> Tensor:
        kept.setdefault("first", x * 2)  # a replay knows nothing of this line's condition
        return x + kept["first"]

    recorder, x = Recorder(), torch.ones(3)
    run(x)
    replay, out = recorder.record(lambda: run(x))
    x.fill_(5)
    replay()
    assert out.tolist() == [7.0] * 3, "2 * 1 of before, not 2 * 5"
    replay, out = recorder.record(lambda: torch.empty_like(x))
    replay()
    assert out.isnan().all()
    with pytest.raises(RuntimeError, match=r"_local_scalar_dense.* waits for the device"):
        recorder.record(lambda: x * x.sum().item())
