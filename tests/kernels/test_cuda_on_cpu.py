"""The emulator itself: it finds the faults it is there for."""

import mmap

import pytest
import torch

from latentjac import kernels
from latentjac.kernels.launch import launch

# Made before there are guards, at an address that no size is as large as: a heap can lie low.
T = torch.frombuffer(mmap.mmap(-1, 48), dtype=torch.float32).reshape(3, 4).fill_(1)
CPU = torch.device("cpu")
RIGHT, UNWRITTEN, RACE = 0, 6, 7
FAULTS = [
    pytest.param(1, r"block 0, thread 37 touches memory it may not, 272 bytes from the start", id="past-the-end"),
    pytest.param(2, r"block 0 wrote in front of its shared memory", id="before-the-start"),
    pytest.param(3, r"32 of 64 threads wait at __syncthreads, the others have ended", id="barrier"),
    pytest.param(4, r"warp 1: lane 0 is at __syncwarp, lane 8 at another place or its end", id="missing-lane"),
    pytest.param(5, r"warp 0: lane 0 is at __shfl_xor_sync, lane 1 at __syncwarp", id="mixed-lanes"),
    pytest.param(8, r"thread 63 touches memory it may not", id="global-array"),
    pytest.param(9, r"asynchronous copies that nobody waited for", id="copies"),
]


@pytest.fixture
def run(emulator, emulated):
    source = torch.arange(64.0)

    def call(fault, backwards=False):
        out = torch.empty(64)
        emulator.run_backwards(backwards)
        emulator.run_faulty(fault, out.data_ptr(), source.data_ptr())
        return out

    return call


@pytest.mark.parametrize("backwards", [False, True])
def test_a_right_kernel(run, backwards):
    reverse = torch.arange(63.0, -1, -1).reshape(2, 32)
    assert torch.equal(run(RIGHT, backwards), reverse.sum(1, keepdim=True).expand(2, 32).flatten())


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_a_fault_is_named(run, fault, message):
    with pytest.raises(RuntimeError, match=message):
        run(fault)
    assert torch.isfinite(run(RIGHT)).all()


def test_unwritten_shared_memory_is_nan(run):
    assert run(UNWRITTEN).isnan().all()


def test_a_missing_barrier_depends_on_the_order(run):
    assert not torch.equal(run(RACE), run(RACE, backwards=True))


def test_new_memory_is_nan(emulated):
    assert all(t.isnan().all() for t in (torch.empty(5), torch.empty(2, 3).double().new_empty(4), torch.empty_like(T)))


def test_an_array_that_is_too_short_is_found(emulated):
    kept = [torch.ones(3, 4) for _ in range(5)]
    names = ("value", "gate", "a", "b", "out")
    call = {"value_stride": 4, "gate_stride": 4, "probes": 1, "rows": 4, "channels": 4, "dtype": 0}
    call |= {name: t.data_ptr() for name, t in zip(names, kept, strict=True)}
    with pytest.raises(RuntimeError, match=r"gated_tangent.*touches memory it may not"):
        launch(emulated, "gated_tangent", CPU, call)
    launch(emulated, "gated_tangent", CPU, {**call, "rows": 3})
    assert (kept[-1] == 2).all()


def test_an_array_outside_of_guarded_memory_is_refused(emulated):
    with pytest.raises(AssertionError, match="not in guarded memory"):
        kernels.gated_tangent(T[None], T[None], torch.ones(3, 4), torch.ones(3, 4))


def test_every_kernel_for_cuda_is_emulated_and_tested_by_the_self_test(emulated):
    failed = [check for check in kernels.self_test() if not check.passed]
    assert not failed
    assert {name for name, _ in emulated.calls} == emulated.kernels["cpu"]
