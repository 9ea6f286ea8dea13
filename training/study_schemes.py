"""Are samples as good, and do directions mean as much, with fewer evaluations?

Samples of faces from the same noise by each scheme: how often a detector finds a face, and the Fréchet distance of HOG
descriptors to held-out photos (evaluate_faces.py). Avatars whose factors are known, inverted by each scheme and
followed along their local bases to equal changes of the picture: the part of the change that one factor makes
(docs/factors.md), and how much less that is than with the scheme of the first row.

    python training/study_schemes.py --data faces64.zip && python benchmarks/readme_tables.py
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load_faces
from evaluate_faces import detected, hog_features
from factors.collecting import Collected, Collector, Plan, Site
from factors.directions import TOLERANCE, Bank
from factors.equal_effect import linear_move
from factors.reader import FactorReader
from factors.statistics import Table, interval, shown, tables
from measures import frechet_distance
from torch import Tensor

import latentjac
from latentjac.diffusion import DDIM, Multistep, Own, Rho
from latentjac.report import write_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

READER = ROOT / "latentjac/models/builtin/avatars/reader.safetensors"
T, SEED, BATCH = 0.6, 23, 40
# What it is called, and its options; the first is what all others are compared with.
DOWN = {
    "Own(), DDIM(), 50 steps": (50, {"grid": Own(), "solver": DDIM()}),
    "Rho(), Multistep(), 20 steps": (20, {"grid": Rho(), "solver": Multistep()}),
    "Rho(), Multistep(), 12 steps": (12, {"grid": Rho(), "solver": Multistep()}),
}
UP = {
    "Own(), DDIM(1), 60 steps": (60, {"grid": Own(), "solver": DDIM(1)}),
    "Own(), DDIM(), 10 steps": (10, {"grid": Own(), "solver": DDIM()}),
    "Rho(), Multistep(), 12 steps": (12, {"grid": Rho(), "solver": Multistep(), "t": T}),
}


def sampled(model: latentjac.Model, count: int, steps: int, options: dict[str, Any]) -> np.ndarray:
    """Samples ``[N, S, S, 3]`` in bytes, from the same noise for all schemes."""
    generator = torch.Generator().manual_seed(SEED)
    parts = [
        latentjac.sample(
            model, num_images=min(BATCH, count - i), num_inference_steps=steps, generator=generator, output_type="np",
            **options,
        )
        for i in range(0, count, BATCH)
    ]  # fmt: skip
    return (np.concatenate(parts) * 255).round().astype(np.uint8)


def faces(data: Path, count: int) -> list[dict[str, Any]]:
    """A row a scheme of samples of faces."""
    model = latentjac.load("faces")
    real = hog_features(load_faces(data, "held-out", model.codec.size[0]).permute(0, 2, 3, 1).numpy())
    rows = []
    for name, (steps, options) in DOWN.items():
        images = sampled(model, count, steps, options)
        distance = frechet_distance(hog_features(images), real)
        found = f"{detected(images):.1%}"
        rows.append({"samples of faces": name, "face found": found, "frechet distance": round(distance, 3)})
        print(rows[-1], flush=True)
    return rows


class SchemeCollector(Collector):
    """Local bases of avatars that were inverted by one scheme."""

    def __init__(self, model: latentjac.Model, plan: Plan, scheme: str) -> None:
        super().__init__(model, FactorReader.load(READER), plan)
        self.steps, self.options = UP[scheme]

    def _inverted(self, pictures: Tensor) -> latentjac.Trajectory:
        return latentjac.invert(self.model, list(pictures), self.steps, **self.options)

    def _bank(self, point: latentjac.Point) -> Bank | None:
        return None

    def _visit(self, site: Site, bank: Bank | None) -> None:
        found = {
            layer: latentjac.local_basis(self.model, site.point, self.plan.k, layer, tol=TOLERANCE).v
            for layer in ("mid", "x0")
        }
        self._edit(site, found, linear_move(self.model, site.point), self.plan.start)


def avatars(count: int) -> list[dict[str, Any]]:
    """A row a scheme and layer of edits of avatars."""
    model = latentjac.load("avatars")
    plan = Plan(samples=count, main_t=T, other_ts=(), seed=SEED)
    every = {name: at_effect(SchemeCollector(model, plan, name).collect(progress=True)) for name in UP}
    first = every[next(iter(UP))]
    return [
        {
            "inversion of avatars": name,
            "layer": layer,
            "one factor": shown(interval(found[layer].one_factor())),
            "less that of the first": shown(interval(found[layer].one_factor() - first[layer].one_factor())),
        }
        for name, found in every.items()
        for layer in ("mid", "x0")
    ]


def at_effect(found: Collected) -> dict[str, Table]:
    """Edits of equal effect by layer."""
    return {arm: table for (arm, _, kind), table in tables(found.observations).items() if kind == "effect"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Sample, invert, edit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip of square JPEG faces")
    parser.add_argument("--samples", type=int, default=320, help="of faces (default 320)")
    parser.add_argument("--avatars", type=int, default=16, help="avatars (default 16; at least 2)")
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    numbers = {"rows": avatars(args.avatars), "faces": faces(args.data, args.samples)}
    args.tables.mkdir(parents=True, exist_ok=True)
    write_json(
        args.tables / "schemes.json", {"name": "schemes", "machine": machine(), "samples": args.samples} | numbers
    )


if __name__ == "__main__":
    main()
