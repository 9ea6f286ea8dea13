"""Shared by the benchmarks: fair timing on a busy machine, and one JSON result a benchmark.

Cases are run in alternation, so that whatever else the machine does falls on all of them alike; what is reported are
medians and, above all, ratios.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from latentjac.report import write_json

RESULTS = Path(__file__).resolve().parent / "results"


def times(
    cases: dict[str, Callable[[], object]],
    rounds: int = 15,
    seconds: float = 10.0,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each case in alternating rounds, after one round to warm up.

    On a GPU its own clock is read, around so many calls that together they take a millisecond: the host's would add
    what a launch and a wait cost, as much as small kernels take.

    Args:
        cases: what to time, by name.
        rounds: the most rounds to run.
        seconds: stop after the round that passes this (but not before three).
        device: where the cases run, "cpu" or "cuda".
        clock: what is read before and after a call on a CPU.
    """
    found: dict[str, list[float]] = {name: [] for name in cases}
    calls = {name: _calls(case, device) for name, case in cases.items()}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= 3 and time.perf_counter() - begin > seconds:
            break
        for name, case in cases.items():
            if device == "cuda":
                found[name].append(_on_gpu(case, calls[name]))
                continue
            start = clock()
            case()
            found[name].append(clock() - start)
    return found


def _calls(case: Callable[[], object], device: str) -> int:
    """Warm up; how many calls take a millisecond on a GPU."""
    case()
    return max(1, round(1e-3 / _on_gpu(case, 1))) if device == "cuda" else 1


def _on_gpu(case: Callable[[], object], calls: int) -> float:
    """Seconds a call, by the GPU's clock."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        case()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def alternate(
    cases: dict[str, Callable[[], object]], rounds: int = 15, seconds: float = 10.0, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each case: see :func:`times`."""
    return {name: statistics.median(values) for name, values in times(cases, rounds, seconds, device).items()}


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write(name: str, rows: list[dict[str, Any]], device: str = "cpu", **more: Any) -> Path:
    """Write the result of a benchmark, with the machine it ran on.

    Args:
        name: of the benchmark.
        rows: one dictionary a case: shapes, ratios, medians in seconds.
        device: where it ran.
        **more: anything else worth knowing.
    """
    return save(name, {"machine": machine(device), **more, "rows": rows})


def save(name: str, content: dict[str, Any]) -> Path:
    """Write `benchmarks/results/<name>.json`, whole or not at all: its name and this content."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    return write_json(RESULTS / f"{name}.json", {"name": name, **content})


def peak_bytes() -> int:
    """Most memory that this process has had; getrusage would count what its parent had when it began it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text in columns; numbers with three digits."""
    heads = list(rows[0])
    cells = [heads, *([_cell(row.get(head)) for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
