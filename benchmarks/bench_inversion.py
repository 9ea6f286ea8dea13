"""How well are real faces inverted, and for how many evaluations? 20 held-out photos, by grid and solver.

    python benchmarks/bench_inversion.py --data faces64.zip

The archive is the training set of the built-in model; only photos that training never saw are used. Evaluations are
counted by a hook on the network. The error of the noisy samples is their distance from those of a fine inversion, over
the length of these. Edits go straight along the first direction of a local basis; their deviation is that from the
finely inverted sample, edited and finely decoded, over the size of this edit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch

import latentjac
from latentjac.diffusion import DDIM, Implicit, Multistep, Own, Rho, Schedule, Uniform, denoise

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

FINE = 60  # steps of second order: its error falls fourfold where their number doubles
EDITED = 4  # photos
DISTANCE = 6.0
SCHEMES: dict[float, list[tuple[Any, Any, int]]] = {
    0.7: [
        (Own(), DDIM(1), 60),
        (Uniform(), Multistep(), 12),
        (Rho(), DDIM(1), 12),
        (Rho(), Implicit(), 12),
        (Rho(5), Multistep(), 12),
        *((Rho(), Multistep(), steps) for steps in (8, 10, 12, 14, 20, 24)),
    ],
    1.0: [
        (Own(), DDIM(1), 60),
        (Rho(), Implicit(), 16),
        (Rho(5), Multistep(), 16),
        *((Rho(), Multistep(), steps) for steps in (10, 13, 16, 20)),
    ],
}


@dataclass(frozen=True)
class Truth:
    """What schemes are compared with: fine samples, and of the first of them directions and finely decoded edits."""

    noisy: torch.Tensor
    directions: torch.Tensor
    edited: torch.Tensor


def relative(found: torch.Tensor, truth: torch.Tensor, size: torch.Tensor | None = None) -> list[float]:
    size = truth if size is None else size
    return ((found - truth).flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1)).tolist()


def edits(model: latentjac.Model, noisy: torch.Tensor, directions: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """Pictures of samples at the end of a schedule, each moved along its direction."""
    moved = noisy[: len(directions)] + DISTANCE * schedule.noises[-1] * directions
    return model.codec.decode(denoise(model, moved, schedule, schedule.top))


def truth_at(model: latentjac.Model, photos: torch.Tensor, t: float) -> Truth:
    path = latentjac.invert(model, photos, FINE, t=t, progress=True)
    bases = [latentjac.local_basis(model, path.at(t).rows(slice(i, i + 1)), 1, tol=1e-2) for i in range(EDITED)]
    directions = torch.cat([basis.v for basis in bases])
    return Truth(path.samples[-1], directions, edits(model, path.samples[-1], directions, path.schedule))


def measure(
    model: latentjac.Model, photos: torch.Tensor, scheme: tuple[Any, Any, int], t: float, truth: Truth
) -> tuple[dict[str, Any], torch.Tensor]:
    """A row of the table, and the noisy samples."""
    grid, solver, steps = scheme
    entered: list[int] = []
    handle = model.network.register_forward_pre_hook(lambda module, inputs: entered.append(len(inputs[0])))
    start = time.perf_counter()
    path = latentjac.invert(model, photos, steps, t=t, grid=grid, solver=solver)
    seconds = time.perf_counter() - start
    handle.remove()
    noisy = path.samples[-1]
    found = edits(model, noisy, truth.directions, path.schedule)
    picture = model.codec.decode(path.samples[0][:EDITED])
    residual = picture - model.codec.decode(path.reconstruction[:EDITED])
    errors, size = relative(noisy, truth.noisy), truth.edited - picture
    plain = relative(found, truth.edited, size)
    kept = relative((found + residual).clamp(0, 1), truth.edited, size)
    down = sum(entered) / len(photos) - path.evaluations
    row = {
        "grid": str(grid), "solver": str(solver), "steps": steps, "up": path.evaluations, "down": int(down),
        "psnr_median_db": median(path.psnr, 1), "psnr_worst_db": round(min(path.psnr), 1),
        "error_median": median(errors), "error_worst": round(max(errors), 4),
        "edits_median": median(plain), "edits_with_residual": median(kept),
        "seconds_per_photo": round(seconds / len(photos), 3),
    }  # fmt: skip
    return row, noisy


def median(values: Sequence[float], digits: int = 4) -> float:
    return round(statistics.median(values), digits)


def main() -> None:
    from data import load_faces

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=20)
    args = parser.parse_args()

    model = latentjac.load("faces")
    photos = load_faces(args.data, "held-out", model.codec.size[0])[-args.photos :].float() / 255
    tables: dict[float, list[dict[str, Any]]] = {}
    estimate: dict[str, float] = {}
    for t, schemes in SCHEMES.items():
        truth, ends = truth_at(model, photos, t), {}
        tables[t] = []
        for scheme in schemes:
            row, ends[scheme] = measure(model, photos, scheme, t, truth)
            tables[t].append(row)
            print(t, row, flush=True)
        coarse, fine = ((Rho(), Multistep(), steps) for steps in (10, 20))
        estimate[f"t = {t}"] = median(relative(ends[coarse], ends[fine]))
    shape = list(photos.shape)
    facts = {
        "photos": shape,
        "model": model.name,
        "model_identity": model.identity(),
        "estimated_error_of_10": estimate,
    }
    record.write("inversion", tables[0.7], **facts, top=tables[1.0])
    for rows in tables.values():
        print(record.table(rows))


if __name__ == "__main__":
    main()
