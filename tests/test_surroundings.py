"""Nothing of the process changes: not by importing the library, and not by calling it."""

from __future__ import annotations

import ast
import logging
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import surroundings
import torch
from calls.baselines import BASELINES
from calls.sweep import invoke
from calls.things import Things
from PIL import Image
from surroundings import changed, snapshot

# Every module, as a program has it that has imported what we import.
IMPORTS = """
import importlib, pkgutil, sys
import contextlib, diffusers, matplotlib.pyplot, pyarrow.parquet, torch.export, transformers
with contextlib.suppress(ImportError):
    import gradio
sys.path.insert(0, {tests!r})
from surroundings import changed, snapshot
before = snapshot()
import latentjac
for module in pkgutil.walk_packages(latentjac.__path__, "latentjac."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name != "gradio":  # of an extra; everything else is there
                raise
for name in latentjac.__all__:
    getattr(latentjac, name)
after = snapshot()
level, (handler,), *rest = after["process: loggers"]["latentjac"]  # the library's own: one that does nothing
assert level == 0
print(changed(before, after))
"""


def test_importing_changes_nothing() -> None:
    code = IMPORTS.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "{}", done.stdout + done.stderr


@contextmanager
def unusual_settings() -> Iterator[None]:
    """A program that has set things for itself, so that a return to a default is a change, too."""
    with ExitStack() as stack:

        def put(owner: Any, name: str, value: Any) -> None:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        def call(function: Callable, value: Any, before: Any) -> None:
            stack.callback(function, before)
            function(value)

        put(Image, "MAX_IMAGE_PIXELS", 12_345_678)
        put(torch.backends.cudnn, "benchmark", True)
        put(torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", False)
        call(torch.set_float32_matmul_precision, "medium", torch.get_float32_matmul_precision())
        call(torch.backends.cuda.enable_flash_sdp, False, torch.backends.cuda.flash_sdp_enabled())
        call(torch.set_num_threads, 1, torch.get_num_threads())
        call(logging.getLogger("diffusers").setLevel, logging.ERROR, logging.getLogger("diffusers").level)
        call(logging.getLogger("latentjac").setLevel, logging.ERROR, logging.getLogger("latentjac").level)
        before = signal.signal(signal.SIGUSR1, lambda *given: None)
        stack.callback(signal.signal, signal.SIGUSR1, before)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(np.errstate(under="warn"))
        yield


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("surroundings"))


def test_no_call_changes_anything(things: Things) -> None:
    """Of every public function, constructor and method: BASELINES has them all. Studies only call others, for long."""
    wrong = {}
    with unusual_settings():
        for key, baseline in BASELINES.items():
            if key.endswith(".run"):
                continue
            function, arguments = baseline(things)
            before = snapshot()
            invoke(function, arguments)
            if found := changed(before, snapshot()):
                wrong[key] = found
    assert not wrong


# Calls that replace something for a while, here in a network that raises.
BROKEN = ("invert", "sample", "edit", "local_basis", "basis_path", "measure_linearity")


def test_a_call_that_raises_changes_nothing(things: Things) -> None:
    def broken(*given: Any) -> None:
        raise ArithmeticError

    wrong, before = {}, snapshot()
    with unusual_settings():
        for key in BROKEN:
            function, arguments = BASELINES[key](things)
            handle = things.model.network.mid.register_forward_hook(broken)
            inside = snapshot()
            try:
                with pytest.raises(ArithmeticError):
                    invoke(function, arguments)
            finally:
                handle.remove()
            if found := changed(inside, snapshot()):
                wrong[key] = found
    assert not wrong
    assert not changed(before, snapshot())


SEEN = {
    "torch: default dtype": "torch.set_default_dtype(torch.float64)",
    "torch: random state": "torch.rand(1)",
    "torch: matmul precision": "torch.set_float32_matmul_precision('high')",
    "torch: grad mode": "torch.set_grad_enabled(False)",
    "torch: threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
    "process: random": "random.random()",
    "process: numpy random": "np.random.rand()",
    "process: environment": "os.environ['LATENTJAC_A_TEST'] = '1'",
    "process: largest picture": "Image.MAX_IMAGE_PIXELS = None",
    "process: warnings": "warnings.simplefilter('error')",
    "process: loggers": "logging.getLogger().addHandler(logging.NullHandler())",
    "process: signals": "signal.signal(signal.SIGUSR2, signal.SIG_IGN)",
    "process: threads": "threading.Thread(target=threading.Event().wait, args=(5,), daemon=True).start()",
    "functions of torch": "torch.conv2d = None",
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_snapshot_sees_changes() -> None:
    """In a child, which they stay in."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        found = "nothing"
        try:
            before = snapshot()
            for change in SEEN.values():
                exec(change, vars(surroundings))
            found = repr(sorted(changed(before, snapshot())))
        finally:
            os.write(writes, found.encode())
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as told:
        found = told.read()
    os.waitpid(child, 0)
    assert set(SEEN) <= set(ast.literal_eval(found))
