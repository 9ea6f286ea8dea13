"""Do similar captions have similar tangent spaces, and what does guidance do to them?

On a model of avatars with text. Each of the samples, generated without a caption, gets a caption of five terms; the
same terms in another phrasing; and captions in which one to five of the terms name something else. Distances are those
of tangent spaces of the sample under two captions, relative to the largest possible, over noise levels. What any other
wording does, whatever it says, is the distance of the other phrasing. The numbers stated before the study was run: the
slope of the distance over changed terms, from one to five, at each level, and one changed term less another phrasing.

Guidance: the tangent space of the predicted picture under a guided caption beside that without guidance, and how much
larger the first singular value is.

    OMP_NUM_THREADS=1 python training/study_captions.py --model avatars-text && python benchmarks/readme_tables.py
    OMP_NUM_THREADS=1 python training/study_captions.py --samples 2 --levels 0.9 0.5 --tables OUT   # that it runs
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from captions import TERMS_OF, Term, seen_together, sentence
from factors import statistics
from torch import Tensor
from tqdm import tqdm

import latentjac
from latentjac.report import write_json
from latentjac.studies import Settings
from latentjac.studies.points import bases_at, followed_points
from latentjac.studies.tangent_spaces import SPACES, relative_distances

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

SEED, K, TOL, WORDS = 41, 8, 1e-2, 5
SCALES = (1.5, 3.0, 7.5)
OWN, REPHRASED, NONE = "own", "other phrasing", "no caption"


def caption_set(rng: random.Random) -> dict[str, str]:
    """A caption, the same in other words, and captions with one to five terms changed, by what was changed."""
    first, other = two_of_each(rng)
    own = sentence(first, rng)
    while (again := sentence(first, rng)) == own:
        pass
    changed = {str(m): sentence([*other[:m], *first[m:]], rng) for m in range(1, WORDS + 1)}
    return {OWN: own, REPHRASED: again, **changed, NONE: ""}


def two_of_each(rng: random.Random) -> tuple[list[Term], list[Term]]:
    """Two different terms of each of five factors; all mixtures of both lists were said in training."""
    while True:
        pairs = [rng.sample(TERMS_OF[factor], 2) for factor in rng.sample(sorted(TERMS_OF), WORDS)]
        first, other = ([pair[i] for pair in pairs] for i in (0, 1))
        if all(seen_together([*other[:m], *first[m:]]) for m in range(WORDS + 1)):
            return first, other


def caption_distances(
    model: latentjac.Model, points: Sequence[latentjac.Point], sets: Sequence[dict[str, str]], settings: Settings
) -> dict[str, dict[str, Tensor]]:
    """Distances of each sample under its own caption and each other one, by space and change, ``[N, levels]``."""
    found: dict[str, dict[str, list[Tensor]]] = {
        space: {name: [] for name in sets[0] if name != OWN} for space in SPACES
    }
    with tqdm(total=len(points) * len(sets) * len(sets[0]), desc="captions", unit="basis", mininterval=10) as bar:
        for point in points:
            under = {
                name: bases_at(
                    model, replace(point, conditioning=model.conditioning([s[name] for s in sets])), settings, bar=bar
                )
                for name in sets[0]
            }
            for space, of in found.items():
                for name, rows in of.items():
                    pairs = zip(under[OWN], under[name], strict=True)
                    rows.append(torch.stack([relative_distances(list(pair), space)[0, 1] for pair in pairs]))
    return {space: {name: torch.stack(rows, 1).double() for name, rows in of.items()} for space, of in found.items()}


def slopes(distances: dict[str, Tensor]) -> Tensor:
    """Least-squares slope of distances over the number of changed terms, ``[N, levels]``."""
    m = torch.arange(1, WORDS + 1, dtype=torch.float64)
    values = torch.stack([distances[str(int(i))] for i in m])
    return ((m - m.mean())[:, None, None] * values).sum(0) / (m - m.mean()).square().sum()


def caption_rows(distances: dict[str, dict[str, Tensor]], levels: Sequence[float]) -> list[dict[str, Any]]:
    """A row a space and level."""
    rows = []
    for space, label in SPACES.items():
        of = distances[space]
        for i, t in enumerate(levels):
            row: dict[str, Any] = {"space": label, "t": round(t, 2)}
            row |= {"other phrasing": shown(of[REPHRASED][:, i])}
            row |= {f"{m} changed": round(float(of[str(m)][:, i].mean()), 3) for m in range(1, WORDS + 1)}
            row |= {"no caption": round(float(of[NONE][:, i].mean()), 3), "per changed term": shown(slopes(of)[:, i])}
            row |= {"1 changed less other phrasing": shown(of["1"][:, i] - of[REPHRASED][:, i])}
            rows.append(row)
    return rows


def guidance_rows(
    model: latentjac.Model, points: Sequence[latentjac.Point], sets: Sequence[dict[str, str]], settings: Settings
) -> list[dict[str, Any]]:
    """A row a level and scale: distance from the tangent space without guidance, and growth of the first value."""
    rows, texts = [], [s[OWN] for s in sets]
    for point in tqdm(points, desc="guidance", unit="level"):
        bases = {
            scale: bases_at(
                model,
                replace(point, conditioning=model.conditioning(texts, guidance_scale=scale)),
                settings,
                layer="x0",
            )
            for scale in (1.0, *SCALES)
        }
        for scale in SCALES:
            pairs = list(zip(bases[1.0], bases[scale], strict=True))
            apart = torch.stack([relative_distances(list(pair), "x")[0, 1] for pair in pairs]).double()
            growth = torch.tensor([float(b.s[0] / a.s[0]) for a, b in pairs], dtype=torch.float64)
            kept = torch.tensor([float((a.v[0] * b.v[0]).sum().abs()) for a, b in pairs], dtype=torch.float64)
            rows.append({
                "t": round(point.t, 2), "guidance": scale, "distance from no guidance": shown(apart),
                "first singular value, times": shown(growth), "first directions, cosine": shown(kept),
            })  # fmt: skip
    return rows


def shown(values: Tensor) -> str:
    """A mean over samples with its interval."""
    return statistics.shown(statistics.interval(values), digits=3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-text", help="a model of avatars with text (default avatars-text)")
    parser.add_argument("--samples", type=int, default=12, help="with a caption set each (default 12; at least 2)")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.95, 0.8, 0.6, 0.4, 0.2])
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    if args.samples < 2:
        parser.error(f"--samples: expected at least 2, got {args.samples}")
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    model, rng = latentjac.load(args.model), random.Random(SEED)
    settings = Settings(samples=args.samples, levels=tuple(args.levels), k=K, tol=TOL, seed=SEED)
    points = followed_points(model, settings, progress=True)
    sets = [caption_set(rng) for _ in range(args.samples)]
    levels = [point.t for point in points]
    numbers = {
        "rows": caption_rows(caption_distances(model, points, sets, settings), levels),
        "guidance": guidance_rows(model, points, sets, settings),
        "captions": sets,
    }
    name = f"captions_{Path(args.model).name.replace('-', '_')}"
    about = {"name": name, "machine": machine(), "samples": args.samples, "model_identity": model.identity()}
    args.tables.mkdir(parents=True, exist_ok=True)
    write_json(args.tables / f"{name}.json", about | numbers)
    print(f"{time.perf_counter() - start:.0f} s")
    for row in numbers["rows"] + numbers["guidance"]:
        print(row)


if __name__ == "__main__":
    main()
