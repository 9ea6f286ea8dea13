"""Tracing leaves nothing behind, whatever ends it, and happens in one thread at a time."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx.config
from networks import rand
from torch import nn

from latentjac import linearize
from latentjac.linearization import TraceError
from latentjac.linearization.autodiff import differentiable
from latentjac.linearization.locks import exclusion

Tensor = torch.Tensor
X = rand(1, 4)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 3)).double()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError], ids=lambda e: e.__name__)
def test_tracing_works_after_any_exception_in_f(error: type[BaseException]) -> None:
    module = net()
    parameters = dict(module.named_parameters())

    def f(x: Tensor) -> Tensor:
        module(x)
        raise error("stop")

    with pytest.raises((error, TraceError)):
        linearize(f, X, backend="program")
    assert not torch.compiler.is_compiling()
    assert not torch.compiler.is_exporting()
    assert not getattr(torch.fx.config, "do_not_emit_stack_traces", False)
    assert dict(module.named_parameters()).keys() == parameters.keys()
    assert all(value is parameters[name] for name, value in module.named_parameters())
    assert linearize(module, X, backend="program").check_adjoint() < 1e-12


def test_other_threads_compute_as_they_did_while_one_traces() -> None:
    module, met = net(), []

    def f(x: Tensor) -> Tensor:
        met.append((torch.compiler.is_exporting(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled))
        return module(x)

    linearize(f, X, backend="program")
    assert (True, True, True) in met
    assert all(rest == [True, True] for _, *rest in met)


@pytest.mark.skipif(not hasattr(torch.fx.config, "do_not_emit_stack_traces"), reason="torch always keeps them")
def test_stacks_of_python_are_kept_by_others_alone() -> None:
    module, met = net(), []

    def f(x: Tensor) -> Tensor:
        met.append(torch.fx.config.do_not_emit_stack_traces)
        return module(x)

    linearize(f, X, backend="program")
    assert True in met
    assert not torch.fx.config.do_not_emit_stack_traces


def test_recurrent_layers_have_no_operator_of_one_library() -> None:
    module = nn.GRU(4, 6, batch_first=True)
    lin = linearize(lambda x: module(x)[0], rand(2, 3, 4).float(), backend="program")
    assert not [call.target for i in lin.program.instructions for call in i.calls if "mkldnn" in call.target]
    assert lin.check_adjoint() < 1e-5


def test_flags_that_torch_left_set_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*args: Any, **kwargs: Any) -> Any:
        torch.compiler._is_compiling_flag = torch.compiler._is_exporting_flag = True
        module = args[0].owned[0]
        module._parameters["0.weight"] = None
        raise KeyboardInterrupt

    module = net()
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", export)
        with pytest.raises(KeyboardInterrupt):
            linearize(module, X, backend="program")
    assert "0.weight" not in module._parameters
    assert linearize(module, X, backend="program").check_adjoint() < 1e-12


def test_errors_of_f_name_its_line() -> None:
    def f(x: Tensor) -> Tensor:
        return x @ torch.ones(7, dtype=x.dtype)

    with pytest.raises(TraceError, match=rf"{__file__}:{f.__code__.co_firstlineno + 1}"):
        linearize(f, X, backend="program")


def test_threads_trace_in_turn_and_do_not_disturb_passes() -> None:
    modules = [net() for _ in range(4)]
    ready = linearize(modules[0], X, backend="program")
    v = rand(2, *X.shape)
    expected = [linearize(m, X, backend="autodiff").jvp(v) for m in modules]
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            backend = ("program", "autodiff", "auto", "program")[i]
            torch.testing.assert_close(linearize(modules[i], X, backend=backend).jvp(v), expected[i])
            torch.testing.assert_close(ready.jvp(v), expected[0])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        torch.testing.assert_close(ready.jvp(v), expected[0])
    for thread in threads:
        thread.join()
    assert not errors
    assert not torch.compiler.is_compiling()


def test_settings_of_attention_survive_threads_that_leave_in_another_order() -> None:
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with differentiable():
            inside.set()
            leave.wait(10)

    def second() -> None:
        inside.wait(10)
        leave.set()
        with differentiable():
            pass

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled())


def _trace_in_child(results: Any) -> None:
    results.put(linearize(net(), X, backend="program").check_adjoint())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_another_thread_traces_can_trace() -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusion.alone():
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_trace_in_child, args=(results,))
    child.start()
    child.join(60)
    alive = child.is_alive()
    if alive:
        child.kill()
    done.set()
    holder.join()
    assert not alive
    assert results.get(timeout=10) < 1e-12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("enter", [exclusion.alone, exclusion.evaluating])
def test_a_child_leaves_what_its_thread_had_entered(enter: Callable[[], Any]) -> None:
    """A thread forks while it traces or evaluates: its copy leaves that, and others enter."""
    with enter():
        child = os.fork()
    if not child:
        entered = threading.Event()

        def both() -> None:
            with exclusion.alone():
                pass
            with exclusion.evaluating():
                entered.set()

        threading.Thread(target=both, daemon=True).start()
        os._exit(0 if entered.wait(20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with exclusion.alone(), exclusion.evaluating():
        pass
