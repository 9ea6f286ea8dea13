"""The emulator itself: it finds the faults it is there for."""

import ctypes

import pytest
import torch
from cuda_on_cpu import address

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
def run(emulator, memory):
    source = memory.copy(torch.arange(64.0))

    def call(fault, backwards=False):
        out = memory.empty(64, dtype=torch.float32)
        number = ctypes.c_int(fault)
        emulator.call("run_faulty", ctypes.addressof(number), address(out), address(source), backwards=backwards)
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
