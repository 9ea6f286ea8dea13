"""Kernels called from many threads at once, and in the children of a process that has computed."""

import functools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from devices import threads

from latentjac import kernels

ROOT = Path(__file__).parents[2]


def problems():
    """Calls of every kernel that runs on the CPU, each on arrays of its own: name and function."""
    generator = torch.Generator().manual_seed(3)

    for dtype in (torch.float32, torch.float64):
        draw = functools.partial(torch.randn, generator=generator, dtype=dtype)
        x, t = draw(3, 65, 24), draw(5, 3, 65, 24)
        norm = kernels.norm_act_primal(x, groups=4, activation="silu")
        yield lambda x=x: kernels.norm_act_primal(x, groups=4, activation="gelu")
        for function in (kernels.norm_act_tangent, kernels.norm_act_cotangent):
            yield lambda f=function, t=t, n=norm: [f(t, n.a, n.xhat, groups=4)]
        both, a, b = draw(4, 33, 40), draw(33, 20), draw(33, 20)
        yield lambda v=both, a=a, b=b: [kernels.gated_tangent(*v.chunk(2, -1), a, b)]
        yield lambda v=both[..., :20], a=a, b=b: kernels.gated_cotangent(v, a, b)
        q, k, dq, dk = draw(2, 3, 33, 8), draw(2, 3, 70, 8), draw(5, 2, 3, 33, 8), draw(5, 2, 3, 70, 8)
        primal = kernels.attention_primal(q, k, k + 1)
        yield lambda q=q, k=k: (lambda p: [p.o, p.lse])(kernels.attention_primal(q, k, k))
        yield lambda p=primal, dq=dq, dk=dk: [kernels.attention_tangent(p, dq, dk, dk)]
        yield lambda p=primal, u=dq: kernels.attention_cotangent(p, u)
        matrices = draw(2, 33, 3, 8, 8)
        yield lambda m=matrices, t=dq: [kernels.rowwise_product(m, t)]


def test_eight_threads_at_once_get_the_bits_of_one(native_module):
    calls = list(problems())
    with threads(2):
        expected = [[part.clone() for part in call()] for call in calls]
        start, wrong = threading.Barrier(8), []

        def work(first):
            torch.set_num_threads(2)  # OpenMP's number is one of each thread
            start.wait()
            for i in range(2 * len(calls)):
                number = (i + first) % len(calls)
                pairs = zip(calls[number](), expected[number], strict=True)
                wrong.extend(number for found, right in pairs if not torch.equal(found, right))

        workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert wrong == []


def test_a_kernel_lets_other_threads_run(native_module):
    """A thread that waits for the interpreter gets it while a kernel computes, not only afterwards."""
    t, shared = torch.randn(8, 4, 1024, 64), torch.randn(4, 1024, 64)
    out, ended, started = torch.empty_like(t), [], threading.Event()

    def compute():
        with threads(1):
            started.set()
            for _ in range(20):
                kernels.norm_act_tangent(t, shared, shared, groups=8, out=out)
            ended.append(time.perf_counter())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # the interpreter changes hands only where it is given away
    try:
        worker = threading.Thread(target=compute)
        worker.start()
        started.wait()
        seen = time.perf_counter()
        worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert seen < ended[0]


CHILDREN = """
import json, os, signal, sys, threading, time
import torch
from latentjac import kernels
from latentjac.kernels import forks

torch.set_num_threads(2)
x, matrix = torch.randn(4, 500, 64), torch.randn(600, 600)
compute = {
    "kernel": lambda: kernels.norm_act_primal(x, groups=4, activation="silu").y,
    "torch": lambda: (matrix @ matrix).exp(),
}


def in_a_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def child_of(parent, work):
    expected = compute[work]().numpy().tobytes()  # torch's own comparison takes threads, too
    compute[parent]()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if compute[work]().numpy().tobytes() == expected else 1)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "waits forever"


found = {}
if sys.argv[1] == "ended":
    for parent in compute:
        for work in compute:
            found[f"{parent} {work}"] = child_of(parent, work)
    in_a_thread(lambda: found.update(thread=child_of("kernel", "kernel")))
    found["lost"] = forks.lost_threads()
else:  # an OpenMP library that cannot end its threads
    from types import SimpleNamespace

    forks.LOADED = SimpleNamespace(module=SimpleNamespace(end_threads=lambda: False))
    found["kernel kernel"] = child_of("kernel", "kernel")
    found["torch kernel"] = child_of("torch", "kernel")
    pid = os.fork()
    if pid == 0:
        alone = forks.lost_threads() and forks.thread_count() == 1
        others = []
        in_a_thread(lambda: others.append(forks.thread_count()))
        os._exit(0 if alone and others[0] > 0 else 1)
    found["alone"] = os.waitpid(pid, 0)[1]
    found["lost"] = forks.lost_threads()
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("way", ["ended", "alone"])
def test_children_of_a_process_that_has_computed_compute(native_module, way):
    if way == "ended" and not native_module.end_threads():
        pytest.fail("this OpenMP library cannot end its threads: kernels compute alone in children, torch waits")
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, way],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("lost") is False
    assert found
    assert all(status == 0 for status in found.values()), found
