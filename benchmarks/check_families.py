"""Opens a small pipeline of every family, takes it through everything, and writes what it finds into docs/families.md.

    python benchmarks/check_families.py                # all, a few minutes; then benchmarks/readme_tables.py
    python benchmarks/check_families.py dit sd3        # these alone, the others' figures stay

The pipelines are rows of ``tests/families.py``, what is measured is ``tests/family_checks.py``, and which of diffusers'
own pipelines open is counted by ``tests/every_pipeline.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import diffusers
import readme_tables
import record
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from every_pipeline import share
from families import SMALL, example
from family_checks import measured

from latentjac.files import read_json

NAME = "families"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="rows to measure; all by default")
    names = parser.parse_args().names or list(SMALL)
    quiet()
    path = record.RESULTS / f"{NAME}.json"
    known = {row["pipeline"]: row for row in read_json("check_families", path)["rows"]} if path.exists() else {}
    for name in names:
        start = time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as folder:
                known[name] = measured(name, Path(folder))
        except Exception:  # the others go on; the row stays as it was
            traceback.print_exc()
            continue
        print(f"{time.perf_counter() - start:.0f} s", *known[name].values(), flush=True)
    write([known[name] for name in SMALL if name in known])


def write(rows: list[dict[str, Any]]) -> None:
    """The figures, with those of all pipelines of diffusers, then the page."""
    numbers, refused = share()
    examples = {row["pipeline"]: example(row["pipeline"], folder=row["folder"] == "loads") for row in rows}
    tools = [f"torch {torch.__version__}", f"diffusers {diffusers.__version__}"]
    tools.append(f"transformers {transformers.__version__}")
    more = {"share": [numbers], "refused": refused, "examples": examples, "rows": rows}
    record.save(NAME, {"tools": tools, "date": time.strftime("%Y-%m-%d"), **more})
    readme_tables.main([])


def quiet() -> None:
    """No warnings and bars of others between the rows."""
    warnings.simplefilter("ignore")
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


if __name__ == "__main__":
    main()
