"""Memory of the passes: how much at once, none kept, and none handed back to be faulted in again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import build_text_unet, build_tiny_unet
from torch.profiler import ProfilerActivity, profile

from latentjac.kernels import available
from latentjac.linearization import ProgramLinearization
from latentjac.models.layers import Tap

Tensor = torch.Tensor
PROBES = 16


def unet(size: int = 32) -> ProgramLinearization:
    net = build_tiny_unet(size=size).requires_grad_(False)
    return ProgramLinearization(Tap(net, "mid_block"), torch.randn(1, 3, size, size), torch.tensor(500))


def conditional_unet() -> ProgramLinearization:
    net = build_text_unet(sample_size=32, block_out_channels=(16, 32), attention_head_dim=8).requires_grad_(False)
    return ProgramLinearization(
        lambda x, t, text: net(x, t, text).sample, torch.randn(1, 4, 32, 32), torch.tensor(500), torch.randn(1, 7, 6)
    )


def allocated_at_most(run: Callable[[], object]) -> int:
    """Peak of what torch's allocator handed out during a call, above what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = run()
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    del result
    return peak


@pytest.mark.parametrize("build", [unet, conditional_unet])
@pytest.mark.parametrize("kind", ["tangent", "cotangent"])
def test_a_pass_allocates_little_more_than_it_needs_at_once(build: Callable, kind: str) -> None:
    lin = build()
    probes = torch.randn(PROBES, *(lin.x if kind == "tangent" else lin.y).shape)
    run = getattr(lin.program, kind)
    needed = PROBES * lin.program.live_bytes
    assert needed > 2**20
    run(probes)
    # Without native kernels, torch operations hold values between them, and attention its blocks of scores.
    most = 1.3 * needed if available("cpu") else 2 * needed + 8 * 2**20
    assert allocated_at_most(lambda: run(probes)) < most
    assert lin.program.arena.peak_bytes < 1.3 * needed


def test_hundreds_of_passes_keep_nothing() -> None:
    lin = unet(size=8)
    v, u = torch.randn(2, *lin.x.shape), torch.randn(2, *lin.y.shape)

    def tensors() -> int:
        gc.collect()
        return sum(isinstance(o, Tensor) for o in gc.get_objects())

    for _ in range(20):
        lin.jvp(v), lin.vjp(u)
    objects, resident = tensors(), resident_bytes()
    for _ in range(200):
        lin.jvp(v), lin.vjp(u)
    assert tensors() == objects
    assert resident_bytes() - resident < 2**19


def test_memory_is_not_returned_between_passes() -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("counts the page faults of Linux")
    import resource

    lin = unet(size=64)
    v = torch.randn(32, *lin.x.shape)
    for _ in range(3):
        lin.jvp(v)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        lin.jvp(v)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10
    page = resource.getpagesize()
    assert faults * page < 0.05 * len(v) * lin.program.live_bytes


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return 0
    return int(statm.read_text().split()[1]) * 4096


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_convolution_keeps_no_weights_but_those_of_its_passes(precision: str | None) -> None:
    """Neither in another order of channels nor in a shorter type, where the transpose has weights of its own."""
    conv = torch.nn.Conv2d(4, 6, 3, padding=1).requires_grad_(False)
    lin = ProgramLinearization(conv, torch.randn(1, 4, 8, 8), precision=precision)
    (instruction,) = lin.program.instructions
    held = [value for value in vars(instruction).values() if isinstance(value, torch.Tensor)]
    assert {value.data_ptr() for value in held if value.shape == conv.weight.shape} == {conv.weight.data_ptr()}
