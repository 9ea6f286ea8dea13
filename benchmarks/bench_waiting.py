"""Two OpenMP threads on cores that others use, too: what waiting threads cost, by how they wait.

    python benchmarks/bench_waiting.py

Each case is a process of its own, as OpenMP reads its settings once: forward passes and tangents of the built-in
model on as many threads as there are cores, while as many other processes do nothing but count. Cases alternate.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
from typing import Any

import record

# What an embedding program may set before it imports torch.
CASES: dict[str, dict[str, str]] = {
    "as it is": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
PROGRAM = """
import json, sys, time
import torch, latentjac
from latentjac.diffusion import noise_point, predict_noise

model = latentjac.load("faces")
point = noise_point(model, num_inference_steps=10)
lin = latentjac.diffusion.linearization_at(model, point, "mid")
probes = torch.randn(4, *point.sample.shape)

with torch.no_grad():
    calls = {"forward": lambda: predict_noise(model, point.sample, point.timestep), "tangents": lambda: lin.jvp(probes)}
    found = {}
    for name, call in calls.items():
        call()
        start, used = time.perf_counter(), time.process_time()
        for _ in range(int(sys.argv[1])):
            call()
        found[name] = [time.perf_counter() - start, time.process_time() - used]
print(json.dumps(found))
"""


def count() -> None:
    """Use a core for ever."""
    while True:
        sum(range(10_000))


def one(settings: dict[str, str], calls: int) -> dict[str, list[float]]:
    """Seconds by the wall and of the processors, of each kind of call."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))} | settings
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(calls)], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--quiet", action="store_true", help="without the other processes")
    args = parser.parse_args()

    others = (
        [] if args.quiet else [multiprocessing.Process(target=count, daemon=True) for _ in range(os.cpu_count() or 1)]
    )
    for other in others:
        other.start()
    found: dict[str, list[dict[str, list[float]]]] = {name: [] for name in CASES}
    for _ in range(args.rounds):
        for name, settings in CASES.items():
            found[name].append(one(settings, args.calls))
    for other in others:
        other.terminate()

    def median(name: str, call: str, which: int) -> float:
        return statistics.median(each[call][which] for each in found[name])

    rows: list[dict[str, Any]] = [
        {
            "case": name,
            **{
                f"{call}, {label}": round(median(name, call, which) / median("as it is", call, which), 3)
                for call in ("forward", "tangents")
                for which, label in enumerate(("wall", "processor"))
            },
        }
        for name in CASES
    ]
    record.write("waiting", rows, others=len(others), calls=args.calls, rounds=args.rounds)
    print(record.table(rows))


if __name__ == "__main__":
    main()
