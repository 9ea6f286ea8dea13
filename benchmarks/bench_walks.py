"""How far off are walks? Edited points against a fine walk, and evaluations, on 20 held-out photos.

    python benchmarks/bench_walks.py --data faces64.zip

The archive is the training set of the built-in model; only photos that training never saw are used, the last ones. Each
photo is edited along one of its two strongest directions at t = 0.7, both ways. A deviation is relative to how far the
point was moved. Evaluations are samples that enter the network, whole and partial passes alike, less those of the way
down to pictures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch

import latentjac
from latentjac.diffusion import DDIM, Own, Schedule
from latentjac.editing import Guidance

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

DISTANCES = (-6.0, -3.0, 3.0, 6.0)
LEVELS = 10


@dataclass(frozen=True, kw_only=True)
class FirstOrder(Guidance):
    """Guidance whose steps are taken as they are."""

    @property
    def order(self) -> int:
        """One."""
        return 1


SCHEMES: dict[str, Guidance] = {
    "first order, 16 steps": FirstOrder(),
    "second order": Guidance(),
}


class Counter:
    """Counts the samples that enter the network of a model."""

    def __init__(self, model: latentjac.Model) -> None:
        self.samples, call = 0, model.call

        def counted(network: Any, x: torch.Tensor, *rest: Any) -> Any:
            self.samples += len(x)
            return call(network, x, *rest)

        model.call = counted

    def taken(self) -> int:
        """How many since the last time."""
        taken, self.samples = self.samples, 0
        return taken


def alone(point: latentjac.Point) -> latentjac.Point:
    """A point right above the clean level: what is measured is not on the way down."""
    levels = point.schedule
    values = ((row[0], row[point.level]) for row in (levels.signals, levels.noises, levels.timesteps))
    return latentjac.Point(point.sample, 1, Schedule(*values, levels.num_train_timesteps))


def walked(
    model: latentjac.Model, count: Counter, point: latentjac.Point, v: torch.Tensor, method: Guidance
) -> dict[str, Any]:
    """Points of an edit at all distances, and what it and one of a single distance cost."""
    count.taken()
    one = latentjac.edit(model, point, v, 3.0, method=method)
    alone = count.taken() - point.level
    edit = latentjac.edit(model, point, v, DISTANCES, method=method)
    four = count.taken() - point.level * len(DISTANCES)
    return {"points": edit.points[0], "one": one.points[0, 0], "steps": edit.num_steps, "alone": alone, "four": four}


def deviations(found: torch.Tensor, fine: torch.Tensor, start: torch.Tensor) -> list[float]:
    """Distances of points ``[n, C, H, W]`` from those of the fine walk, in percent of their way."""
    off, moved = ((x - y).flatten(1).norm(dim=1) for x, y in ((found, fine), (fine, start)))
    return (100 * off / moved).tolist()


def row(scheme: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table."""
    columns: dict[str, list[float]] = {"3 alone": [], "3": [], "6": []}
    for photo in found:
        each, exact, start = photo[scheme], photo["fine"], photo["start"]
        columns["3 alone"] += deviations(each["one"][None], exact[2:3], start)
        columns["3"] += deviations(each["points"][1:3], exact[1:3], start)
        columns["6"] += deviations(each["points"][[0, 3]], exact[[0, 3]], start)
    own = [photo[scheme] for photo in found]
    return {
        "scheme": scheme,
        "steps to 6, median": statistics.median(each["steps"] for each in own),
        "evaluations, one picture": statistics.median(each["alone"] for each in own),
        "evaluations, four pictures": statistics.median(each["four"] for each in own),
        **{
            f"deviation at {name}, median / worst %": f"{statistics.median(values):.2f} / {max(values):.2f}"
            for name, values in columns.items()
        },
    }


def measured(model: latentjac.Model, count: Counter, photo: torch.Tensor, way: int, fine: int) -> dict[str, Any]:
    """What every scheme makes of a photo ``[1, 3, H, W]`` along one of its two strongest directions."""
    point = alone(latentjac.invert(model, photo, LEVELS, grid=Own(), solver=DDIM(0)).at(0.7))
    v = latentjac.local_basis(model, point, 2, tol=0.1).v[way]
    exact = latentjac.edit(model, point, v, DISTANCES, method=Guidance(num_steps=fine)).points[0]
    found = {scheme: walked(model, count, point, v, method) for scheme, method in SCHEMES.items()}
    return {"fine": exact, "start": point.sample, **found}


def main() -> None:
    from data import load_faces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--fine", type=int, default=64, help="steps of the fine walk, of second order")
    args = parser.parse_args()

    model = latentjac.load("faces")
    count = Counter(model)
    photos = load_faces(args.data, "held-out", model.codec.size[0])[-args.photos :].float() / 255
    found = []
    for i, photo in enumerate(photos.split(1)):
        found.append(measured(model, count, photo, i % 2, args.fine))
        print(f"photo {i + 1} of {len(photos)}", flush=True)
    rows = [row(scheme, found) for scheme in SCHEMES]
    record.write("walks", rows, photos=list(photos.shape), fine=args.fine, model=model.name)
    print(record.table(rows))


if __name__ == "__main__":
    main()
