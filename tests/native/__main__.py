"""Run the checks of the CPU kernels: every instruction set of this processor, under every sanitizer."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import native


def main() -> None:
    """Build and run; ends with 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python tests/native", description=__doc__)
    parser.add_argument("--sanitize", nargs="*", default=["address,undefined", "thread", ""])
    parser.add_argument("--copies", nargs="*", default=[*native.copies()])
    parser.add_argument("--optimize", default="1", help="0 compiles fastest; without a sanitizer it is always 3")
    parser.add_argument("--count", default="60", help="problems of each kernel and type")
    parser.add_argument("--fuzz", type=float, default=0.0, metavar="SECONDS", help="only random calls from Python")
    parser.add_argument("--seed", default="1")
    given = parser.parse_args()
    failed = False
    for copy in given.copies if given.fuzz else ():
        with tempfile.TemporaryDirectory() as folder:
            done = native.fuzz(Path(folder), copy, given.fuzz / len(given.copies), int(given.seed))
            failed |= done.returncode != 0
            print(f"{copy:9} {done.stdout.strip() or done.stderr}", flush=True)
    if given.fuzz:
        raise SystemExit(failed)
    for sanitizers in given.sanitize:
        with tempfile.TemporaryDirectory() as folder:
            build = native.Build(Path(folder), sanitizers, f"-O{given.optimize if sanitizers else 3}")
            for copy, program in build.programs(given.copies).items():
                for check in ("threads",) if sanitizers == "thread" else ("shapes", "memory", "threads"):
                    done = native.run(program, check, given.count, given.seed)
                    failed |= done.returncode != 0
                    print(f"{sanitizers or 'none':18} {copy:9} {done.stdout.strip() or check}", flush=True)
                    if done.returncode:
                        print(done.stderr, flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
