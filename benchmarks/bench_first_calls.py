"""What a program pays before the first answer: imports beside torch alone, and the first basis beside the second.

    python benchmarks/bench_first_calls.py

Each case is a process of its own, and cases alternate. Seconds are those of the processor, which other programs on the
machine do not lengthen much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import record

TIMED = """
import json, time
found = {}
def timed(name, call):
    start = time.process_time()
    result = call()
    found[name] = time.process_time() - start
    return result
"""
IMPORTS = {
    "torch": "import torch",
    "torch, latentjac": "import torch, latentjac",
    "torch, latentjac.svd (the solver)": "import torch, latentjac; latentjac.svd",
    "torch, latentjac.linearize (the engine)": "import torch, latentjac; latentjac.linearize",
    "torch, diffusers.UNet2DModel, DDIMScheduler": "import torch; from diffusers import UNet2DModel, DDIMScheduler",
    "torch, latentjac.load (everything)": "import torch, latentjac; latentjac.load",
}
CALLS = (
    TIMED
    + """
import torch, latentjac
latentjac.load
model = timed("load", lambda: latentjac.load("faces"))
points = [latentjac.noise_point(model, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
basis = lambda point: latentjac.local_basis(model, point, k=3, tol=1e-2)
first = timed("first basis", lambda: basis(points[0]))
again = timed("the same again", lambda: basis(points[0]))
assert torch.equal(first.v, again.v)
timed("at another point", lambda: basis(points[1]))
print(json.dumps(found))
"""
)


def run(program: str) -> Any:
    """What a program prints, in a new process."""
    with tempfile.TemporaryDirectory() as empty:  # in no folder of sources
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=empty)
    return json.loads(done.stdout.splitlines()[-1])


def imported(statement: str) -> float:
    """Processor seconds of an import, and of Python's own beginning."""
    return run(f"{statement}\nimport json, time\nprint(json.dumps(time.process_time()))")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    imported(IMPORTS["torch, latentjac.load (everything)"])  # files come to memory, and bytecode is written
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    calls: list[dict[str, float]] = []
    for _ in range(args.rounds):
        for name, statement in IMPORTS.items():
            times[name].append(imported(statement))
        calls.append(run(CALLS))
    alone = statistics.median(times["torch"])
    rows = [
        {"import": name, "processor_s": (here := statistics.median(found)), "more_than_torch_alone_s": here - alone}
        for name, found in times.items()
    ]
    medians = {name: statistics.median(found[name] for found in calls) for name in calls[0]}
    again = medians["the same again"]
    timed = [
        {"call, in a new process": name, "processor_s": value, "beside the same again": value / again}
        for name, value in medians.items()
    ]
    record.write("first_calls", rows, rounds=args.rounds, calls=timed)
    print(record.table(rows), record.table(timed), sep="\n\n")


if __name__ == "__main__":
    main()
