"""Which block of a transformer serves as its h-space? The one whose directions change one factor alone most nearly.

A U-Net's narrowest layer is the natural choice; all blocks of a transformer are alike. The local basis of every block
is followed to equal changes of the picture, beside that of the posterior mean x0 and random directions, on avatars that
no other study has seen; docs/factors.md says what is measured. The block that latentjac calls "mid" was chosen before
this study: every other is compared with it.

    python training/study_blocks.py --model latentjac/models/builtin/avatars-flow && python benchmarks/readme_tables.py
    python training/study_blocks.py --model DIR --samples 2 -k 2 --tables OUT      # a minute, to see that it runs
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from factors.collecting import Collected, Collector, Plan, Site
from factors.directions import TOLERANCE, Bank
from factors.equal_effect import linear_move
from factors.reader import FactorReader
from factors.report import text
from factors.statistics import difference, floors, span_row, summary, tables
from PIL import Image

import latentjac
from latentjac.report import write_json
from latentjac.report.extras import picture_of

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

READER = ROOT / "latentjac/models/builtin/avatars/reader.safetensors"
BLOCKS, MEAN, RANDOM = "transformer_blocks", "x0", "random"
# The level that is nearest to the noise that t = 0.6 has in the study of the U-Nets.
MAIN_T, SEED = 0.9, 23


def blocks_of(model: latentjac.Model) -> list[str]:
    """Names of the blocks of a transformer, in order."""
    return [f"{BLOCKS}.{i}" for i in range(len(getattr(model.network, BLOCKS)))]


class BlockCollector(Collector):
    """The bases of all blocks, of the posterior mean, and random directions."""

    def _bank(self, point: latentjac.Point) -> Bank | None:
        return None

    def _visit(self, site: Site, bank: Bank | None) -> None:
        k = self.plan.k
        arms = {
            layer: latentjac.local_basis(self.model, site.point, k, layer, tol=TOLERANCE).v
            for layer in (*blocks_of(self.model), MEAN)
        }
        arms[RANDOM] = torch.randn(k, *site.point.sample.shape[1:], generator=site.generator).to(site.point.sample)
        self._edit(site, arms, linear_move(self.model, site.point), self.plan.start)


def results(found: Collected, blocks: Sequence[str], middle: str, target: float) -> dict[str, Any]:
    """Tables: every block at every timestep, and each less the middle one."""
    floor = floors(found.observations)
    at = {(arm, t): table for (arm, t, kind), table in tables(found.observations).items() if kind == "effect"}
    rows, less = [], []
    for t in sorted({t for _, t in at}, reverse=True):
        for arm in (*blocks, MEAN, RANDOM):
            numbers = summary(at[arm, t], floor[t], target)
            spans = span_row([span for span in found.spans if (span.arm, span.t) == (arm, t)])
            rows.append(
                {
                    "t": t,
                    "layer": arm,
                    "distance": f"{numbers['amount']:.2g}",
                    "effect": numbers["effect"],
                    "one_factor": text(numbers["one_factor"]),
                    "all_factors": text(numbers["explained"]),
                    "means_something": text(numbers["means_something"]),
                    "factors_named": text(numbers["distinct"]),
                    "best_in_the_span": text(spans["best_in_span"]),
                }
            )
            if arm != middle:
                pair = difference(at[arm, t], at[middle, t])
                less.append(
                    {
                        "t": t,
                        "layer": arm,
                        "one factor, less that of the middle block": text(pair["student"]),
                        "by_bootstrap": text(pair["bootstrap"]),
                    }
                )
    numbers = [
        {"t": t, "layer": arm} | summary(table, floor[t], target)["one_factor"]
        for (arm, t), table in at.items()
        if not arm.startswith("scrambled")
    ]
    return {"rows": rows, "differences": less, "one_factor": numbers, "middle": middle}


def figure(found: dict[str, Any], blocks: Sequence[str]) -> Image.Image:
    """One factor's part by block with intervals, a line a timestep; x0 and random directions beside them."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(8, 3.6), dpi=120, layout="constrained")
    axes = plot.subplots()
    arms = [*blocks, MEAN, RANDOM]
    timesteps = sorted({row["t"] for row in found["one_factor"]}, reverse=True)
    for shift, (t, color) in enumerate(zip(timesteps, ("#2458a6", "#a6452e", "#3b7d4f"), strict=False)):
        at = {row["layer"]: row for row in found["one_factor"] if row["t"] == t}
        places = [i + 0.12 * shift for i in range(len(arms))]
        means = [at[arm]["mean"] for arm in arms]
        ends = [[at[arm]["mean"] - at[arm]["low"] for arm in arms], [at[arm]["high"] - at[arm]["mean"] for arm in arms]]
        axes.errorbar(places, means, yerr=ends, fmt="o", color=color, capsize=3, label=f"t = {t:g}")
        axes.plot(places[: len(blocks)], means[: len(blocks)], color=color, linewidth=1)
    names = [f"block {i}" + (" (mid)" if name == found["middle"] else "") for i, name in enumerate(blocks)]
    axes.set_xticks(range(len(arms)), [*names, MEAN, RANDOM])
    axes.set_ylim(0, 1)
    axes.set_ylabel("one factor's part")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    return picture_of(plot)


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="pipeline folder of avatars, with a transformer")
    parser.add_argument("--reader", type=Path, default=READER, help="file of the reader (default: that of avatars)")
    parser.add_argument("--samples", type=int, default=12, help="avatars (default 12; at least 2)")
    parser.add_argument("--other-ts", type=float, nargs="*", default=(), help="timesteps beside 0.9, as fractions of T")
    parser.add_argument("--levels", type=int, default=10, help="levels of inversion and sampling (default 10)")
    parser.add_argument("-k", type=int, default=3, help="directions of each layer (default 3)")
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    args = parser.parse_args(arguments)
    if args.samples < 2:
        parser.error(f"--samples: expected at least 2, got {args.samples}")
    start = time.perf_counter()
    model = latentjac.load(args.model)
    plan = Plan(
        samples=args.samples,
        k=args.k,
        num_inference_steps=args.levels,
        main_t=MAIN_T,
        other_ts=tuple(args.other_ts),
        seed=SEED,
    )
    collector = BlockCollector(model, FactorReader.load(args.reader), plan)
    found = collector.collect(progress=True)
    blocks = blocks_of(model)
    name = f"blocks_{args.model.name}".replace("-", "_")
    about = {"name": name, "machine": machine(), "avatars": plan.samples, "k": plan.k}
    numbers = results(found, blocks, model.resolve_layer("mid"), plan.target)
    about |= {"model_identity": model.identity(), "psnr_db": round(sum(found.psnr) / len(found.psnr), 2)}
    args.tables.mkdir(parents=True, exist_ok=True)
    args.images.mkdir(parents=True, exist_ok=True)
    write_json(args.tables / f"{name}.json", about | numbers)
    figure(numbers, blocks).save(args.images / "blocks.png")
    print(f"{len(found.observations)} edits in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
