"""What does an edited picture cost, and how far is it off? From a photo to its edits, all diagnostics included.

    python benchmarks/bench_edits.py --data faces64.zip

Held-out photos, inverted to t = 0.7 and edited along the first five directions of a local basis at four distances, in
one call. Evaluations are all samples that enter the network, whole and partial passes alike. Deviations are those of
the pictures along one direction a photo (another for each) from an accurate reference: inversion and way down of
``--fine`` steps of second order, and a walk of as many. They are relative to how much the edit changes the reference.
Directions are those of the reference for all.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch
from bench_inversion import faces, relative
from bench_walks import Counter, FirstOrder

import latentjac
from latentjac.diffusion import DDIM, Multistep, Own, Rho
from latentjac.editing import Guidance

T = 0.7
DISTANCES = (-6.0, -3.0, 3.0, 6.0)
DIRECTIONS = 5


@dataclass(frozen=True)
class Scheme:
    """How a photo is inverted and its edits are walked and made pictures of."""

    steps: int
    method: Guidance
    options: dict[str, Any]


SCHEMES = {
    "Own(), DDIM(1), 60 steps; walks of first order": Scheme(60, FirstOrder(), {"grid": Own(), "solver": DDIM(1)}),
    "the defaults of the command line": Scheme(12, Guidance(), {"grid": Rho(), "solver": Multistep(), "t": T}),
}


def pictures(
    model: latentjac.Model, scheme: Scheme, photo: torch.Tensor, v: torch.Tensor, count: Counter
) -> tuple[torch.Tensor, float, float]:
    """Edited pictures ``[directions, distances, 3, H, W]``, evaluations of the way up and back, and of each picture."""
    count.taken()
    path = latentjac.invert(model, photo, scheme.steps, **scheme.options)
    both = count.taken()
    edit = latentjac.edit(model, path.at(T), v, DISTANCES, method=scheme.method)
    images = torch.stack([model.codec.decode(row) for row in edit.samples])
    return images, both, count.taken() / (len(v) * len(DISTANCES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--fine", type=int, default=40)
    args = parser.parse_args()

    model = latentjac.load("faces")
    count = Counter(model)
    fine = Scheme(args.fine, Guidance(num_steps=args.fine), {"grid": Rho(), "solver": Multistep(), "t": T})
    images = faces(args.data, args.photos).images
    found: dict[str, dict[str, list[float]]] = {name: {"inversion": [], "picture": [], "off": []} for name in SCHEMES}
    for i, photo in enumerate(images.split(1)):
        point = latentjac.invert(model, photo, args.fine, **fine.options).at(T)
        v = latentjac.local_basis(model, point, DIRECTIONS, tol=0.01).v
        one = slice(i % DIRECTIONS, i % DIRECTIONS + 1)
        truth = pictures(model, fine, photo, v[one], count)[0][0]
        for name, scheme in SCHEMES.items():
            into = found[name]
            if i == 0:  # what it costs does not depend much on the photo
                _, both, each = pictures(model, scheme, photo, v, count)
                into["inversion"].append(both)
                into["picture"].append(each)
            into["off"] += relative(pictures(model, scheme, photo, v[one], count)[0][0], truth, truth - photo)
        print(f"photo {i + 1} of {len(images)}", flush=True)
    rows = [
        {
            "scheme": name,
            "inversion, up and back": into["inversion"][0],
            "an edited picture": into["picture"][0],
            "deviation, median / worst %": f"{100 * statistics.median(into['off']):.1f} / {100 * max(into['off']):.1f}",
        }
        for name, into in found.items()
    ]
    record.write("edits", rows, photos=list(images.shape), fine=args.fine, model=model.name)
    print(record.table(rows))


if __name__ == "__main__":
    main()
