"""Are samples as good, and do directions mean as much, with fewer evaluations?

Avatars whose factors are known, inverted by each scheme and followed along their local bases of x0 to equal changes of
the picture: the part of the change that one factor makes (docs/factors.md). Samples of faces from the same noise by
each scheme: how often a detector finds a face, and the Fréchet distance of HOG descriptors to held-out photos
(evaluate_faces.py). Each is compared with the scheme of the first row, at the same avatars and noise.

    OMP_NUM_THREADS=1 python training/study_schemes.py --data faces64.zip && python benchmarks/readme_tables.py
    OMP_NUM_THREADS=1 python training/study_schemes.py --only avatars   # the rows of faces stay as they were
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import load_faces
from evaluate_faces import detected, hog_features
from factors.collecting import Collector, Plan, Site
from factors.directions import TOLERANCE, Bank
from factors.reader import FactorReader
from factors.statistics import Table, interval, median, shown
from measures import frechet_distance
from torch import Tensor

import latentjac
from latentjac.diffusion import DDIM, Multistep, Own, Rho
from latentjac.files import read_json
from latentjac.geometry import jackknife
from latentjac.report import write_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

READER = ROOT / "latentjac/models/builtin/avatars/reader.safetensors"
T, LAYER, SEED, BATCH = 0.6, "x0", 23, 32
GROUPS = 12  # of samples, each left out once
# What it is called, and its options; the first is what all others are compared with.
DOWN = {
    "Own(), DDIM(), 50 steps": (50, {"grid": Own(), "solver": DDIM()}),
    "Rho(), Multistep(), 20 steps": (20, {"grid": Rho(), "solver": Multistep()}),
    "Rho(), Multistep(), 12 steps": (12, {"grid": Rho(), "solver": Multistep()}),
}
UP = {
    "Own(), DDIM(1), 60 steps": (60, {"grid": Own(), "solver": DDIM(1)}),
    "Rho(), Multistep(), 12 steps": (12, {"grid": Rho(), "solver": Multistep(), "t": T}),
    "Own(), DDIM(), 10 steps": (10, {"grid": Own(), "solver": DDIM()}),
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


def faces(data: Path, count: int) -> Iterator[dict[str, Any]]:
    """A row a scheme of samples of faces."""
    model = latentjac.load("faces")
    real = hog_features(load_faces(data, "held-out", model.codec.size[0]).permute(0, 2, 3, 1).numpy())
    first: tuple[Tensor, np.ndarray] | None = None
    for name, (steps, options) in DOWN.items():
        images = sampled(model, count, steps, options)
        found, described = torch.tensor([detected(image[None]) for image in images]), hog_features(images)
        first = first or (found, described)
        more, farther = interval(found - first[0]), farther_by(described, first[1], real)
        yield {
            "samples of faces": name,
            "face found": f"{float(found.mean()):.1%}",
            "more than of the first": shown(more),
            "frechet distance": round(frechet_distance(described, real), 2),
            "farther than the first": shown(farther),
        }


def farther_by(found: np.ndarray, first: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """By how much the Fréchet distance of samples ``[N, D]`` is larger than that of others of the same noise.

    The interval comes from leaving out one of ``GROUPS`` groups of samples at a time, of both.
    """
    group = torch.arange(len(found)) * GROUPS // len(found)

    def larger(kept: Tensor) -> Tensor:
        rows = torch.isin(group, kept).numpy()
        return torch.tensor(frechet_distance(found[rows], real) - frechet_distance(first[rows], real))

    mean = jackknife(larger, GROUPS)
    return {name: float(getattr(mean, at)) for name, at in (("mean", "value"), ("low", "low"), ("high", "high"))}


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
        basis = latentjac.local_basis(self.model, site.point, self.plan.k, LAYER, tol=TOLERANCE)
        self._edit_equally(site, {LAYER: basis.v})


def avatars(count: int) -> Iterator[dict[str, Any]]:
    """A row a scheme of edits of avatars."""
    model = latentjac.load("avatars")
    plan = Plan(samples=count, main_t=T, other_ts=(), seed=SEED)
    first: Tensor | None = None
    for name in UP:
        found = SchemeCollector(model, plan, name).collect(progress=True)
        parts = Table(found.observations).one_factor()
        first = parts if first is None else first
        yield {
            "inversion of avatars": name,
            "PSNR, median dB": f"{median(found.psnr):.1f}",
            "distance, median": f"{median(o.amount for o in found.observations):.1f}",
            "one factor": shown(interval(parts)),
            "more than of the first": shown(interval(parts - first)),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Invert, edit, sample, and write after every scheme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="zip of square JPEG faces, unless --only avatars")
    parser.add_argument("--only", choices=("avatars", "faces"), help="measure this part; by default both")
    parser.add_argument("--samples", type=int, default=96, help="of faces (default 96; at least 24)")
    parser.add_argument("--avatars", type=int, default=12, help="avatars (default 12; at least 2)")
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    if args.data is None and args.only != "avatars":
        parser.error("--data: expected the zip of faces, got none")
    warnings.simplefilter("ignore")
    path = args.tables / "schemes.json"
    args.tables.mkdir(parents=True, exist_ok=True)
    numbers = read_json("study_schemes", path) if args.only and path.exists() else {"rows": [], "faces": []}
    parts = {
        "avatars": ("rows", {"avatars": args.avatars}, avatars(args.avatars)),
        "faces": ("faces", {"samples": args.samples}, faces(args.data, args.samples)),
    }
    for key, count, rows in [parts[args.only]] if args.only else parts.values():
        numbers |= {"name": "schemes", "machine": machine(), key: []} | count
        for row in rows:
            numbers[key].append(row)
            write_json(path, numbers)
            print(row, flush=True)


if __name__ == "__main__":
    main()
