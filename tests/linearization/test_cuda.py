"""Linearizations on a GPU: recorded passes against launched ones, streams, devices and precisions.

``test_graphs.py`` and ``test_streams.py`` test the same without one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest
import torch
from linearization.cases import attention, block, conditional_unet, elementwise, unet, weights_as_constants
from networks import rand
from truth import relative

from latentjac.linearization import ProgramLinearization
from latentjac.recording import CudaRecorder
from latentjac.solvers import svd

Tensor = torch.Tensor
CASES = [block, unet, conditional_unet, weights_as_constants, elementwise]
pytestmark = [pytest.mark.cuda, pytest.mark.usefixtures("gpu")]


def build(case: Callable, dtype: torch.dtype = torch.float64, device: str = "cuda:0", **options: Any):
    """A linearization, and the two sets of constants of its case."""
    f, x, constants = case(dtype, device)
    return ProgramLinearization(f, x, *constants[0], **options), constants


def products(lin: ProgramLinearization, k: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    return tuple(
        getattr(lin, name)(rand(k, *like.shape, seed=seed).to(like.device, like.dtype))
        for name, like in (("jvp", lin.x), ("vjp", lin.y))
    )


@pytest.mark.parametrize("case", CASES)
def test_what_a_gpu_gives_is_what_a_processor_gives(case: Callable) -> None:
    lin, here = build(case)[0], build(case, device="cpu")[0]
    # Embeddings of timesteps are sines of angles up to 500 in float32, whatever the type of the network.
    most = 1e-4 if case in (unet, conditional_unet) else 1e-10
    found, expected = ((each.y, *products(each, 3)) for each in (lin, here))
    for there, right in zip(found, expected, strict=True):
        assert relative(there.cpu(), right) < most


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("precision", "most"), [(None, 1e-10), ("fp32", 1e-4), ("bf16", 2e-2)])
def test_replays_at_every_base_point(case: Callable, precision: str | None, most: float) -> None:
    dtype = torch.float32 if precision else torch.float64
    plain, constants = build(case, dtype, cuda_graphs=False, precision=precision)
    lin, _ = build(case, dtype, cuda_graphs=True, precision=precision)
    products(lin, 3)
    for turn in (0, 1, 0):
        x = rand(*lin.x.shape, seed=10 + turn).to(lin.x)
        for each in (plain, lin):
            each.rebase(x, *constants[turn])
        assert relative(lin.y, plain.y) < most
        for k, seed in ((3, 1), (2, 2), (3, 3)):
            for found, expected in zip(products(lin, k, seed), products(plain, k, seed), strict=True):
                assert relative(found, expected) < most
    assert lin.engine.passes.recorded == [(name, k) for name in ("cotangent", "tangent") for k in (2, 3)]


def test_results_belong_to_the_caller() -> None:
    lin, _ = build(unet, cuda_graphs=True)
    kept = products(lin, 2, seed=1)
    before = [t.clone() for t in kept]
    lin.rebase(lin.x + 1)
    products(lin, 2, seed=5)
    for t, old in zip(kept, before, strict=True):
        assert torch.equal(t, old)


def test_what_waits_for_the_gpu_is_launched_and_the_stream_is_free_again(caplog: pytest.LogCaptureFixture) -> None:
    lin, _ = build(block)
    expected = products(lin, 2)
    tangent = lin.program.tangent
    lin.program.tangent = lambda probes: tangent(probes * (1 + 0 * probes.sum().item()))
    stream = torch.cuda.current_stream()
    with caplog.at_level(logging.WARNING, "latentjac"):
        for _ in range(3):
            for found, right in zip(products(lin, 2), expected, strict=True):
                torch.testing.assert_close(found, right)
    assert sum("launched one by one" in r.getMessage() for r in caplog.records) == 1
    assert torch.cuda.current_stream() == stream
    assert not torch.cuda.is_current_stream_capturing()
    assert lin.engine.passes.recorded == [("cotangent", 2)]
    torch.cuda.empty_cache()
    torch.cuda.synchronize()


def test_a_recording_that_fails_leaves_the_recorder_usable() -> None:
    recorder, x = CudaRecorder(torch.device("cuda", 0)), torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError):
        recorder.record(lambda: x * x.sum().item())
    replay, out = recorder.record(lambda: x * 2)
    x.fill_(4)
    replay()
    assert out.tolist() == [8.0] * 3
    assert torch.randn(3, device="cuda").isfinite().all(), "torch's generator is not taken for recorded"
    torch.cuda.empty_cache()


def test_memory_that_is_left_bounds_the_chunk() -> None:
    lin, _ = build(unet, cuda_graphs=True, memory_limit=3 * build(unet)[0].program.live_bytes)
    plain, _ = build(unet, cuda_graphs=False)
    for found, expected in zip(products(lin, 7), products(plain, 7), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert {k for _, k in lin.engine.passes.recorded} == {2, 3}


@pytest.mark.parametrize("cuda_graphs", ["auto", False])
def test_calls_from_several_streams_keep_their_order(cuda_graphs: bool | str) -> None:
    lin, _ = build(unet, cuda_graphs=cuda_graphs)
    plain, _ = build(unet, cuda_graphs=False)
    streams = [torch.cuda.Stream() for _ in range(2)]
    bases = [rand(*lin.x.shape, seed=s).cuda() for s in range(6)]
    torch.cuda.synchronize()
    found = []
    for i, x in enumerate(bases):
        with torch.cuda.stream(streams[i % 2]):
            lin.rebase(x)
        with torch.cuda.stream(streams[(i + 1) % 2]):
            found.append(products(lin, 4, seed=i))
    torch.cuda.synchronize()
    for i, (x, pair) in enumerate(zip(bases, found, strict=True)):
        plain.rebase(x)
        for a, b in zip(pair, products(plain, 4, seed=i), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_two_linearizations_on_two_streams_in_two_threads(cuda_graphs: bool) -> None:
    lins = [build(unet, cuda_graphs=cuda_graphs)[0], build(conditional_unet, cuda_graphs=cuda_graphs)[0]]
    expected = [products(lin, 3) for lin in lins]
    torch.cuda.synchronize()
    found: list[list[tuple[Tensor, Tensor]]] = [[], []]

    def work(index: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            found[index] = [products(lins[index], 3) for _ in range(20)]
            torch.cuda.current_stream().synchronize()

    threads = [Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for right, turns in zip(expected, found, strict=True):
        assert len(turns) == 20
        for pair in turns:
            torch.testing.assert_close(pair, right, rtol=1e-9, atol=1e-11)


def test_the_other_device_need_not_be_the_current_one() -> None:
    last = torch.cuda.device_count() - 1
    if not last:
        pytest.skip("one GPU")
    lin, _ = build(unet, device=f"cuda:{last}", cuda_graphs=True)
    outside = products(lin, 2)
    with torch.cuda.device(last):
        inside = products(lin, 2)
    torch.testing.assert_close(inside, outside)
    assert outside[0].device.index == last


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_precisions_are_as_far_off_as_they_say(precision: str) -> None:
    exact, _ = build(unet)
    lin, _ = build(unet, torch.float32, precision=precision)
    most = {"fp32": 2e-5, "tf32": 1e-2, "bf16": 5e-2}[precision]
    for found, right in zip(products(lin, 3), products(exact, 3), strict=True):
        assert relative(found, right) < most
        assert precision != "bf16" or relative(found, right) > 1e-4, "otherwise nothing was rounded"
    basis = svd(lin, k=3, tol=5e-2, refine_with=build(unet, torch.float32, precision="fp32")[0])
    assert basis.certificate.adjoint_mismatch.max() < 1e-5


@pytest.mark.parametrize(
    ("precision", "torch_has", "rounds"),
    [("tf32", "ieee", True), ("fp32", "tf32", False), (None, "tf32", True), (None, "ieee", False)],
)
def test_attention_is_as_precise_as_the_matmuls(
    matmuls: Any, precision: str | None, torch_has: str, rounds: bool
) -> None:
    matmuls.fp32_precision = torch_has
    exact, _ = build(attention)
    lin, _ = build(attention, torch.float32, precision=precision)
    for _ in range(3):  # launched, recorded and replayed
        found = lin.y, *products(lin, 3)
    for each, right in zip(found, (exact.y, *products(exact, 3)), strict=True):
        assert (1e-5 if rounds else 0) < relative(each, right) < (2e-3 if rounds else 5e-6)


def test_a_replay_is_one_launch_and_cheaper() -> None:
    plain, lin = (build(unet, torch.float32, cuda_graphs=mode)[0] for mode in (False, True))
    launches, seconds = [], []
    v = torch.randn(8, *lin.x.shape, device="cuda")
    for each in (plain, lin):
        for _ in range(3):
            each.jvp(v)
        torch.cuda.synchronize()
        with torch.profiler.profile() as record:  # the calls of the CUDA runtime among others
            each.jvp(v)
            torch.cuda.synchronize()
        launches.append(sum(e.count for e in record.key_averages() if "Launch" in e.key))
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(20):
            each.jvp(v)
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 20)
    print(f"launches {launches}, milliseconds a pass {seconds}")
    assert launches[1] <= 8 < launches[0], "the copies of probes and results, and the graph"
    assert seconds[1] < seconds[0]
