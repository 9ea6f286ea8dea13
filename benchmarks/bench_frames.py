"""How far off are pictures between those of an edit, for which the network is asked at every other level only?

    OMP_NUM_THREADS=1 python benchmarks/bench_frames.py --data faces64.zip

Held-out photos, inverted to t = 0.7 and edited along two directions at -6, -3, 3 and 6. Of 13 pictures from -6 to 6 the
edit has four, and the one at 0 is known; the others are made with and without its help. What they differ by is given
relative to how much the edit changes each picture, and in dB. Evaluations are samples that enter the network.
"""

from __future__ import annotations

import argparse
import math
import statistics
from dataclasses import replace
from pathlib import Path

import record
import torch
from bench_inversion import faces, relative
from bench_walks import Counter

import latentjac
from latentjac.editing.methods import Job
from latentjac.stopping import Bar

T, STEPS, DIRECTIONS = 0.7, 12, 2
DISTANCES = (-6.0, -3.0, 3.0, 6.0)
BETWEEN = [float(d) for d in range(-6, 7) if d not in (0.0, *DISTANCES)]


def between(model: latentjac.Model, point: latentjac.Point, edit: latentjac.Edit, row: int) -> torch.Tensor:
    """Clean samples between those of an edit along a direction."""
    job = Job(model, point, point.schedule, point.level, edit.directions, edit.distances)
    with torch.no_grad(), Bar("frames", point.level, shown=False) as bar:
        return edit.method.samples_between(job, edit, row, BETWEEN, bar)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=4)
    args = parser.parse_args()

    model = latentjac.load("faces")
    count = Counter(model)
    photos = faces(args.data, args.photos).images
    off: dict[int, list[float]] = {}
    decibels: dict[int, list[float]] = {}
    spent: dict[str, float] = {}
    for i, photo in enumerate(photos.split(1)):
        path = latentjac.invert(model, photo, STEPS, t=T)
        point = path.at(T)
        v = latentjac.local_basis(model, point, DIRECTIONS, tol=0.01).v
        edit = latentjac.edit(model, point, v, DISTANCES, photo=photo)
        alone = replace(edit, predicted=None)
        for row in range(DIRECTIONS):
            count.taken()
            found = model.codec.decode(between(model, point, edit, row))
            spent["with help"] = count.taken() / len(BETWEEN)
            whole = model.codec.decode(between(model, point, alone, row))
            spent["without"] = count.taken() / len(BETWEEN)
            change = whole - model.codec.decode(path.reconstruction)
            noise = (found - whole).double().square().flatten(1).mean(1)
            for distance, value, each in zip(BETWEEN, relative(found, whole, change), noise.tolist(), strict=True):
                off.setdefault(int(abs(distance)), []).append(100 * value)
                decibels.setdefault(int(abs(distance)), []).append(-10 * math.log10(each))
        rows = [
            {
                "distance": f"{distance}",
                "median, %": round(statistics.median(values), 1),
                "worst, %": round(max(values), 1),
                "median, dB": round(statistics.median(decibels[distance]), 1),
                "worst, dB": round(min(decibels[distance]), 1),
            }
            for distance, values in sorted(off.items())
        ]
        record.write("frames", rows, photos=i + 1, evaluations=spent, model=model.name)
        print(f"photo {i + 1} of {len(photos)}: {spent}", flush=True)
    print(record.table(rows))


if __name__ == "__main__":
    main()
