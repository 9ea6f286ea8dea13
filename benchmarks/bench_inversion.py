"""How well are real faces inverted? 20 held-out photos, with and without the fixed-point refinement.

    python benchmarks/bench_inversion.py --data faces64.zip

The archive is the training set of the built-in model; only photos that training never saw are used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import record
import torch

import latentjac

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))


def main() -> None:
    from data import load_faces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    args = parser.parse_args()

    model = latentjac.load("faces")
    photos = load_faces(args.data, "held-out", model.codec.size[0])[: args.photos].float() / 255
    rows = []
    for steps in (50, 100):
        for refinement in (0, 1):
            start = time.perf_counter()
            path = latentjac.invert(model, photos, steps, refinement=refinement, progress=True)
            rows.append(
                {
                    "steps": steps,
                    "refinement": refinement,
                    "evaluations_per_photo": path.evaluations,
                    "psnr_median_db": round(statistics.median(path.psnr), 2),
                    "psnr_worst_db": round(min(path.psnr), 2),
                    "seconds_per_photo": round((time.perf_counter() - start) / len(photos), 3),
                }
            )
    shape = list(torch.as_tensor(photos).shape)
    record.write("inversion", rows, photos=shape, model=model.name, model_identity=model.identity())
    print(record.table(rows))


if __name__ == "__main__":
    main()
