"""What belongs to the process and not to a call: settings of torch, PIL, warnings, logging, signals, environment."""

from __future__ import annotations

import decimal
import faulthandler
import gc
import locale
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile
from torch.nn.modules import module as modules

# Functions of these are replaced by nobody.
PATCHABLE: dict[str, Any] = {
    "torch": torch,
    "torch.Tensor": torch.Tensor,
    "torch.nn.functional": F,
    "torch.nn.Module": torch.nn.Module,
    "torch.autograd.Function": torch.autograd.Function,
    "torch.linalg": torch.linalg,
    "warnings": warnings,
    "PIL.Image": Image,
}
TORCH: dict[str, Callable[[], Any]] = {
    "default dtype": torch.get_default_dtype,
    "default device": torch.get_default_device,
    "threads": torch.get_num_threads,
    "threads between operators": torch.get_num_interop_threads,
    "grad mode": torch.is_grad_enabled,
    "inference mode": torch.is_inference_mode_enabled,
    "forward mode": torch._C._is_fwd_grad_enabled,
    "level of forward mode": lambda: torch.autograd.forward_ad._current_level,
    "deterministic": torch.are_deterministic_algorithms_enabled,
    "only warns": torch.is_deterministic_algorithms_warn_only_enabled,
    "fills memory": lambda: torch.utils.deterministic.fill_uninitialized_memory,
    "matmul precision": torch.get_float32_matmul_precision,
    "cuda matmul": lambda: torch.backends.cuda.matmul.fp32_precision,
    "cuda fp16 sums": lambda: torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    "cuda bf16 sums": lambda: torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
    "cudnn": lambda: [getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")],
    "cudnn convolutions": lambda: torch.backends.cudnn.conv.fp32_precision,
    "onednn": lambda: (torch.backends.mkldnn.enabled, torch.backends.mkldnn.deterministic),
    "onednn precision": lambda: (
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.mkldnn.conv.fp32_precision,
    ),
    "attention": lambda: [
        getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in ("flash", "mem_efficient", "math", "cudnn")
    ],
    "autocast": lambda: [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")],
    "autocast cache": torch.is_autocast_cache_enabled,
    "anomalies": torch.is_anomaly_enabled,
    "random state": lambda: torch.get_rng_state().numpy().tobytes(),
    "printing": lambda: vars(torch._tensor_str.PRINT_OPTS).copy(),
    "function modes": torch.overrides._get_current_function_mode_stack,
    "dispatch modes": torch.utils._python_dispatch._get_current_dispatch_mode_stack,
    "transforms": torch._C._functorch.peek_interpreter_stack,
    "denormals": lambda: float(torch.tensor(1e-310, dtype=torch.float64) / 2),
    "hooks of all modules": lambda: sorted(modules._global_forward_hooks | modules._global_forward_pre_hooks),
    "sharing": torch.multiprocessing.get_sharing_strategy,
}


def _loggers() -> dict[str, Any]:
    found = {name: log for name, log in logging.Logger.manager.loggerDict.items() if isinstance(log, logging.Logger)}
    return {
        name: (log.level, [id(handler) for handler in log.handlers], log.filters[:], log.propagate, log.disabled)
        for name, log in ({"": logging.getLogger()} | found).items()
    }


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


PROCESS: dict[str, Callable[[], Any]] = {
    "environment": lambda: dict(os.environ),
    "folder": os.getcwd,
    "signals": lambda: {number: signal.getsignal(number) for number in signal.valid_signals()},
    "timers": lambda: [signal.getitimer(timer)[1] for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL)],
    "threads": lambda: sorted(thread.name for thread in threading.enumerate()),
    "warnings": lambda: warnings.filters[:],
    "loggers": _loggers,
    "least level": lambda: logging.root.manager.disable,
    "errors in logging": lambda: logging.raiseExceptions,
    "made by logging": lambda: (logging.getLoggerClass(), logging.getLogRecordFactory()),
    "largest picture": lambda: Image.MAX_IMAGE_PIXELS,
    "broken pictures": lambda: ImageFile.LOAD_TRUNCATED_IMAGES,
    "block of a picture": lambda: ImageFile.MAXBLOCK,
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "random": random.getstate,
    "numpy random": lambda: [
        part.tobytes() if isinstance(part, np.ndarray) else part for part in np.random.get_state()
    ],
    "numpy errors": np.geterr,
    "numpy printing": np.get_printoptions,
    "decimals": lambda: repr(decimal.getcontext()),
    "recursion": sys.getrecursionlimit,
    "switching": sys.getswitchinterval,
    "hooks": lambda: (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook, sys.gettrace()),
    "path": lambda: sys.path[:],
    "streams": lambda: (sys.stdin, sys.stdout, sys.stderr),
    "garbage": lambda: (gc.isenabled(), gc.get_threshold(), gc.callbacks[:]),
    "faults": faulthandler.is_enabled,
    "traced memory": tracemalloc.is_tracing,
    "start of processes": lambda: multiprocessing.get_start_method(allow_none=True),
    "umask": _umask,
}


def _functions(thing: ModuleType | type) -> dict[str, int]:
    return {name: id(value) for name, value in list(vars(thing).items()) if callable(value)}


def snapshot() -> dict[str, Any]:
    """Everything, by name."""
    found = {f"torch: {name}": look() for name, look in TORCH.items()}
    found |= {f"process: {name}": look() for name, look in PROCESS.items()}
    return found | {f"functions of {name}": _functions(thing) for name, thing in PATCHABLE.items()}


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What differs between two snapshots: names with both values.

    Packages of others may bring loggers and functions of their own when they are used for the first time.
    """
    wrong = {}
    for name, value in before.items():
        now = after[name]
        if name.startswith(("functions of ", "process: loggers")):
            value, now = (
                {key: entry.get(key) for key in value if now.get(key) != value[key]} for entry in (value, now)
            )
        if now != value:
            wrong[name] = differing(value, now)
    return wrong


def differing(value: Any, now: Any) -> Any:
    """Both values, of dictionaries only the entries that differ."""
    if not isinstance(value, dict):
        return value, now
    keys = [key for key in {**value, **now} if value.get(key) != now.get(key)]
    return {key: (value.get(key), now.get(key)) for key in keys}
