"""Do directions mean something? Which factors of an avatar a direction changes, and how purely.

Local bases, the paper's settings, principal components, common and random directions are compared at equal changes of
the picture; docs/factors.md says how and why. Writes the tables to benchmarks/results/factors.json, from where
``benchmarks/readme_tables.py`` takes them, and the pictures to docs/images.

    python training/study_factors.py --model latentjac/models/builtin/avatars
    python training/study_factors.py --model DIR --reader FILE --quick --tables OUT --images OUT
"""

from __future__ import annotations

import argparse
import csv
import io
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from factors.collecting import QUICK, Collected, Collector, Observation, Plan
from factors.meaning import NAMES
from factors.reader import FactorReader
from factors.report import figure, rows_of, sheet_of
from factors.statistics import results

import latentjac
from latentjac.files import write_bytes
from latentjac.report import write_json, write_png

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402


def observations_csv(observations: list[Observation]) -> bytes:
    """Every edit as a line."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    fields = ("arm", "t", "at", "sample", "direction", "sign", "amount", "effect", "explained", "antisymmetry")
    writer.writerow([*fields, *(f"{kind} {name}" for kind in ("share", "move") for name in NAMES)])
    for o in observations:
        numbers = [*o.shares.tolist(), *o.moves.tolist()]
        writer.writerow([*(getattr(o, name) for name in fields), *(f"{v:.5f}" for v in numbers)])
    return buffer.getvalue().encode()


def write_all(args: argparse.Namespace, found: Collected, about: dict[str, Any]) -> None:
    """Tables, figure, sheet and, if asked for, every edit."""
    numbers = results(found, args.plan.main_t, args.plan.target)
    tables, images = args.tables, args.images
    for folder in (tables, images):
        folder.mkdir(parents=True, exist_ok=True)
    lists = rows_of(numbers, args.plan.main_t) | {"about": [about_row(about)]}
    write_json(tables / "factors.json", {"name": "factors", "machine": machine(), **about, **lists, "results": numbers})
    write_png(images / "factors.png", figure(numbers, args.plan.main_t))
    write_png(images / "factors-examples.png", sheet_of(found.examples))
    if args.every:
        write_bytes(args.every, observations_csv(found.observations))


def about_row(about: dict[str, Any]) -> dict[str, Any]:
    """What the numbers rest on as a row of a table."""
    return {
        "avatars": about["plan"]["samples"],
        "directions": about["plan"]["k"],
        "levels": about["plan"]["num_inference_steps"],
        "seed": about["plan"]["seed"],
        "edited_pictures": about["edits"],
        "PSNR_of_inversions,_dB": f"{statistics.median(about['inversion_psnr_db']):.1f}",
        "CPU_minutes": f"{about['cpu_seconds'] / 60:.1f}",
        "model": about["model_identity"],
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Arguments, with the plan made of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="pipeline folder of the avatars")
    parser.add_argument("--reader", type=Path, help="file of the reader (default: reader.safetensors in the model)")
    parser.add_argument("--samples", type=int, help=f"avatars (default {Plan.samples}; at least 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two avatars, two directions: to see that it runs")
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results", help="folder of factors.json")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--every", type=Path, metavar="CSV", help="write every edit here")
    args = parser.parse_args(arguments)
    plan = replace(QUICK if args.quick else Plan(), seed=args.seed)
    args.plan = plan if args.samples is None else replace(plan, samples=args.samples)
    if args.plan.samples < 2:
        parser.error(f"--samples: expected at least 2, got {args.plan.samples}")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect, compute, write."""
    args = parse(arguments)
    start = time.perf_counter()
    model = latentjac.load(args.model)
    reader = FactorReader.load(args.reader or args.model / "reader.safetensors")
    found = Collector(model, reader, args.plan).collect(progress=True)
    about = {
        "plan": asdict(args.plan),
        "model_identity": model.identity(),
        "inversion_psnr_db": [round(value, 2) for value in found.psnr],
        "edits": len(found.observations),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time(), 1),
    }
    write_all(args, found, about)
    print(f"{about['edits']} edits in {about['seconds']:.0f} s")


if __name__ == "__main__":
    main()
