"""What does the demo cost, from the start of Python to the last picture? Now, and at another checkout.

    OMP_NUM_THREADS=1 python benchmarks/bench_demo.py --before CHECKOUT

CHECKOUT is a working tree of another commit with its native module built. Commands run in new processes, in
alternation. Samples are those that enter the network, whole and partial passes alike, by a hook; a basis is made of
passes of its own, which are not among them. Seconds are those of the processor, with all imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import record

from latentjac.files import read_json

ROOT = Path(__file__).resolve().parent.parent
PHOTO = "latentjac/assets/face.jpg"
# Arguments now, and those before of what comes nearest: there were no sliders.
COMMANDS = {
    "demo": ("demo", "demo"),
    "demo, no sliders": ("demo --frames 0", "demo"),
    "demo, 13 frames and GIFs": ("demo --frames 13 --gif", "demo --frames 13 --gif"),
    "edit of one direction, no sliders": (f"edit {PHOTO} --direction 1 --frames 0", f"edit {PHOTO} --direction 1"),
    "the same, 13 frames and GIF": (
        f"edit {PHOTO} --direction 1 --frames 13 --gif",
        f"edit {PHOTO} --direction 1 --frames 13 --gif",
    ),
}
COUNTED = """
import json, runpy, sys, time
import torch

entered = 0

def count(module, inputs):
    global entered
    if type(module).__name__ == "UNet2DModel":
        entered += len(inputs[0])

torch.nn.modules.module.register_module_forward_pre_hook(count)
file, *sys.argv = sys.argv[1:]
try:
    runpy.run_module("latentjac", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
with open(file, "w") as f:
    json.dump({"samples": entered, "seconds": time.process_time()}, f)
"""


def cost(tree: Path, arguments: str) -> dict[str, Any]:
    """Samples that entered the network and seconds of the processor, of one command."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "cost.json"
        command = [sys.executable, "-c", COUNTED, str(file), "latentjac", *arguments.split(), "--out", f"{folder}/out"]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{arguments}: {done.stderr}")
        found: dict[str, Any] = json.loads(file.read_text())
        return found


def row(command: str, before: list[dict[str, Any]], now: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table: medians over what was measured."""
    seconds = [statistics.median(each["seconds"] for each in found) for found in (before, now)]
    samples = [found[0]["samples"] for found in (before, now)]
    return {
        "command": command,
        "samples before": samples[0],
        "samples now": samples[1],
        "fewer": f"{samples[0] / samples[1]:.1f} times",
        "seconds before": round(seconds[0]),
        "seconds now": round(seconds[1]),
        "faster": f"{seconds[0] / seconds[1]:.1f} times",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), metavar="COMMAND")
    parser.add_argument("--more", action="store_true", help="keep what was measured before, of these commands too")
    args = parser.parse_args()
    file = record.RESULTS / "demo.json"
    measured: dict[str, Any] = read_json("bench_demo", file)["measured"] if args.more and file.exists() else {}
    for _ in range(args.rounds):
        for name in args.commands:
            own, old = COMMANDS[name]
            found = measured.setdefault(name, {"before": [], "now": []})
            found["before"].append(cost(args.before.resolve(), old))
            found["now"].append(cost(ROOT, own))
            print(name, found["before"][-1], found["now"][-1], flush=True)
            rows = [row(each, **measured[each]) for each in COMMANDS if each in measured]
            record.write("demo", rows, measured=measured)
    print(record.table(rows))


if __name__ == "__main__":
    main()
