"""One model in many threads, and many models traced at once: what one thread at a time gets."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from threading import Barrier, Event
from typing import Any

import pytest
import torch
from networks import build_scheduler, build_shallow_unet, point_at, rand
from torch._subclasses.fake_tensor import FakeTensor

import latentjac
from latentjac.linearization.locks import Exclusion
from latentjac.solvers import Krylov

THREADS = 8


def at_once(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """What the work gives for each item, in as many threads that start together."""
    start = Barrier(len(items))

    def run(item: Any) -> Any:
        start.wait()
        return work(item)

    with ThreadPoolExecutor(len(items)) as pool:
        return [future.result() for future in [pool.submit(run, item) for item in items]]


def points() -> list[latentjac.Point]:
    times = (99, 199, 299, 399, 499, 599, 699, 899)
    return [point_at(rand(1, 3, 16, 16, seed=i), t) for i, t in enumerate(times)]


def test_one_model_at_many_points(tiny_model: latentjac.Model) -> None:
    def work(point: latentjac.Point) -> latentjac.LocalBasis:
        return latentjac.local_basis(tiny_model, point, 2, solver=Krylov(block_size=2), max_passes=6, tol=0.5)

    got = at_once(work, points())
    for point, basis in zip(points(), got, strict=True):
        torch.testing.assert_close(basis.s, work(point).s, rtol=1e-9, atol=0)


def test_bases_samples_and_edits_beside_each_other(tiny_model: latentjac.Model) -> None:
    """Taps, injections and plain evaluations of one network meet."""
    point = points()[5]
    v, h = rand(1, 3, 16, 16, seed=2), tiny_model.feature_map("mid")(point.sample, torch.tensor(599))
    jobs: list[Callable[[], torch.Tensor]] = [
        lambda: latentjac.local_basis(tiny_model, point, 1, solver=Krylov(block_size=2), max_passes=4, tol=0.5).s,
        lambda: tiny_model.feature_map("up_blocks.0")(point.sample, torch.tensor(599)),
        lambda: tiny_model.feature_map("mid")(point.sample, torch.tensor(599)),
        lambda: tiny_model.eps(point.sample, torch.tensor(599)),
        lambda: latentjac.edit(tiny_model, point, torch.ones_like(h), 1.0, method=latentjac.editing.HSpace()).samples,
        lambda: latentjac.edit(tiny_model, point, v, 1.0, method=latentjac.editing.Linear(num_steps=2)).samples,
        lambda: torch.tensor(latentjac.invert(tiny_model, rand(1, 3, 16, 16).sigmoid(), 3).psnr),
        lambda: latentjac.sample(tiny_model, point, output_type="latent"),
    ]
    expected = [job() for job in jobs]
    for value, right in zip(at_once(lambda job: job(), jobs), expected, strict=True):
        torch.testing.assert_close(value, right, rtol=1e-9, atol=1e-12)


TRACED, GO_ON = Event(), Event()


def pauses(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
    """While a trace is made, wait."""
    if isinstance(given[0], FakeTensor):
        TRACED.set()
        assert GO_ON.wait(60)


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_a_model_is_copied_while_another_thread_traces_it(way: Callable[[Any], Any]) -> None:
    network, x = build_shallow_unet().double(), rand(1, 3, 8, 8)
    model = latentjac.load(network, build_scheduler())
    hook = network.register_forward_pre_hook(pauses)
    TRACED.clear()
    GO_ON.clear()
    with ThreadPoolExecutor(2) as pool:
        tracing = pool.submit(model.linearization, "mid", x, torch.tensor(599))
        try:
            assert TRACED.wait(60)
            copying = pool.submit(way, model)
            with pytest.raises(FutureTimeoutError):
                copying.result(0.3)  # it waits for the end of the trace
        finally:
            GO_ON.set()
        lin, copied = tracing.result(60), copying.result(60)
    hook.remove()
    for name, weight in copied.network.named_parameters():
        assert type(weight) is torch.nn.Parameter
        assert torch.equal(weight, network.get_parameter(name))
        assert weight.data_ptr() != network.get_parameter(name).data_ptr()
    v = rand(1, 1, 3, 8, 8, seed=1)
    assert torch.equal(copied.linearization("mid", x, torch.tensor(599)).jvp(v), lin.jvp(v))


def test_many_models_traced_at_once() -> None:
    networks = [build_shallow_unet().double() for _ in range(THREADS)]
    for i, network in enumerate(networks):
        network.conv_in.weight.data.mul_(1 + i / 8)
    x = rand(1, 3, 8, 8)

    def work(network: torch.nn.Module) -> torch.Tensor:
        lin = latentjac.load(network, build_scheduler()).linearization("mid", x, torch.tensor(599))
        assert lin.backend == "program"
        return lin.jvp(rand(1, 1, 3, 8, 8, seed=1))

    expected = [work(copy.deepcopy(network)) for network in networks[::4]]
    for value, right in zip(at_once(work, networks)[::4], expected, strict=True):
        torch.testing.assert_close(value, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", ["program", "autodiff"])
def test_one_linearization_in_many_threads(backend: str) -> None:
    w = rand(7, 5)
    lin = latentjac.linearize(lambda x: torch.tanh(x @ w.T), rand(3, 5), backend=backend)
    probes = [rand(4, 3, 5, seed=i) for i in range(THREADS)]
    expected = [lin.jvp(v) for v in probes]
    restricted = [lin.restrict([i % 3]).jvp(v[:, [i % 3]]) for i, v in enumerate(probes)]

    def work(i: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        part = lin.restrict([i % 3])
        return [lin.jvp(probes[i]) for _ in range(20)], [part.jvp(probes[i][:, [i % 3]]) for _ in range(20)]

    for i, (whole, parts) in enumerate(at_once(work, range(THREADS))):
        for value in whole:
            torch.testing.assert_close(value, expected[i], rtol=1e-12, atol=0)
        for value in parts:
            torch.testing.assert_close(value, restricted[i], rtol=1e-12, atol=0)


def test_what_a_callback_computes_with_the_same_model_moves_nothing(tiny_model: latentjac.Model) -> None:
    here, there = points()[2], points()[6]
    expected = latentjac.local_basis(tiny_model, here, 2)
    inside: list[torch.Tensor] = []

    def callback(state: latentjac.solvers.SolverState) -> None:
        if not inside:
            inside.append(latentjac.local_basis(tiny_model, there, 1).s)

    basis = latentjac.local_basis(tiny_model, here, 2, callback=callback)
    torch.testing.assert_close(basis.s, expected.s, rtol=1e-5, atol=0)
    torch.testing.assert_close(inside[0], latentjac.local_basis(tiny_model, there, 1).s, rtol=1e-5, atol=0)


def test_linearizations_of_one_layer_stay_where_they_are(own_model: latentjac.Model) -> None:
    one, two = points()[:2]
    lins = [own_model.linearization("mid", p.sample, torch.tensor(p.timestep)) for p in (one, two)]
    v = rand(1, 1, 3, 16, 16, seed=3)
    products = [lin.jvp(v) for lin in lins]
    engine = lins[0].engine
    torch.testing.assert_close(lins[1].jvp(v), products[1])
    torch.testing.assert_close(lins[0].jvp(v), products[0])
    del lins
    again = own_model.linearization("mid", one.sample, torch.tensor(one.timestep))
    assert again.engine is engine, "engines are used again once nobody holds them"
    torch.testing.assert_close(again.jvp(v), products[0])


@pytest.mark.parametrize("move", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_models_are_copied_without_their_traces(move: Callable, tiny_model: latentjac.Model) -> None:
    point = points()[5]
    expected = latentjac.local_basis(tiny_model, point, 1).s
    other = move(tiny_model)
    torch.testing.assert_close(latentjac.local_basis(other, point, 1).s, expected, rtol=1e-5, atol=0)
    other.network.conv_in.weight.data.mul_(2)
    torch.testing.assert_close(latentjac.local_basis(tiny_model, point, 1).s, expected, rtol=1e-5, atol=0)


def test_after_a_failed_trace_others_succeed() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latentjac.linearize(fails, rand(1, 3))
    results = at_once(lambda i: latentjac.linearize(lambda x: x * i, rand(1, 3), backend="program").y, range(4))
    assert all(torch.equal(y, i * rand(1, 3)) for i, y in enumerate(results))


def test_who_traces_is_alone_and_who_would_wait_for_itself_is_told() -> None:
    exclusion, log = Exclusion(), []

    def evaluate(i: int) -> None:
        with exclusion.evaluating(), exclusion.evaluating():
            log.append("in")
            log.append("out")

    def trace(i: int) -> None:
        with exclusion.alone(), exclusion.evaluating():
            log.append("trace")
            log.append("traced")

    at_once(lambda i: (evaluate if i % 2 else trace)(i), range(THREADS))
    for i, word in enumerate(log):
        if word == "trace":
            assert log[i + 1] == "traced"
    with exclusion.evaluating(), pytest.raises(RuntimeError, match="inside a function that is being evaluated"):
        trace(0)
    trace(0)
