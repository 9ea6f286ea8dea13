"""How well are real faces inverted, and for how many evaluations? 20 held-out photos, by grid and solver.

    python benchmarks/bench_inversion.py --data faces64.zip

The archive is the training set of the built-in model; only photos that training never saw are used. Evaluations are
counted by a hook on the network. The error of the noisy samples of four photos is their distance from those of a fine
inversion, over the length of these. Edits of these go straight along the first direction of a local basis; their
deviation is that from the finely inverted sample, edited and finely decoded, over the size of this edit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch

import latentjac
from latentjac.diffusion import DDIM, Implicit, Multistep, Own, Rho, Schedule, denoise
from latentjac.diffusion.denoise import last, predictor
from latentjac.diffusion.loops import up

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

FINE = 40  # steps of second order: its error falls fourfold where their number doubles
COMPARED = 4  # photos whose noisy samples and edits are compared with fine ones
DISTANCE = 6.0
# Fraction of T, grid, solver and steps; those of the defaults first, as all of it takes long.
SCHEMES: list[tuple[float, Any, Any, int]] = [
    *((0.7, Rho(), Multistep(), steps) for steps in (12, 10)),
    *((1.0, Rho(), Multistep(), steps) for steps in (16, 13)),
    *((0.7, Rho(), Multistep(), steps) for steps in (14, 20)),
    (0.7, Rho(), Implicit(), 12),
    (0.7, Own(), DDIM(1), 60),
    (1.0, Rho(), Implicit(), 16),
    (1.0, Own(), DDIM(1), 60),
]


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
    schedule = Schedule.from_scheduler(model.scheduler, FINE, grid=Rho(), solver=Multistep(), t=t)
    step = schedule.solver.up(schedule, predictor(model, schedule, latentjac.Conditioning()))
    noisy = last(up(model.codec.encode(photos[:COMPARED]), schedule, step))
    points = [latentjac.Point(x[None], schedule.top, schedule) for x in noisy]
    directions = torch.cat([latentjac.local_basis(model, point, 1, tol=1e-2).v for point in points])
    return Truth(noisy, directions, edits(model, noisy, directions, schedule))


def measure(
    model: latentjac.Model, photos: torch.Tensor, scheme: tuple[float, Any, Any, int], truth: Truth
) -> dict[str, Any]:
    """A row of the table."""
    t, grid, solver, steps = scheme
    entered: list[int] = []
    handle = model.network.register_forward_pre_hook(lambda module, inputs: entered.append(len(inputs[0])))
    path = latentjac.invert(model, photos, steps, t=t, grid=grid, solver=solver)
    handle.remove()
    noisy = path.samples[-1][:COMPARED]
    found = edits(model, noisy, truth.directions, path.schedule)
    picture = model.codec.decode(path.samples[0][:COMPARED])
    residual = picture - model.codec.decode(path.reconstruction[:COMPARED])
    errors, size = relative(noisy, truth.noisy), truth.edited - picture
    plain = relative(found, truth.edited, size)
    kept = relative((found + residual).clamp(0, 1), truth.edited, size)
    down = sum(entered) / len(photos) - path.evaluations
    return {
        "t": t, "grid": str(grid), "solver": str(solver), "steps": steps, "up": path.evaluations, "down": int(down),
        "psnr_median_db": median(path.psnr, 1), "psnr_worst_db": round(min(path.psnr), 1),
        "error_of_noisy_sample": median(errors), "deviation_of_edits": median(plain),
        "with_residual": median(kept),
    }  # fmt: skip


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
    rows: list[dict[str, Any]] = []
    truths: dict[float, Truth] = {}
    for scheme in SCHEMES:
        if scheme[0] not in truths:
            truths[scheme[0]] = truth_at(model, photos, scheme[0])
        rows.append(measure(model, photos, scheme, truths[scheme[0]]))
        rows.sort(key=lambda row: (row["t"], row["solver"], row["steps"]))
        shape = list(photos.shape)
        record.write("inversion", rows, photos=shape, model=model.name, model_identity=model.identity())
        print(record.table(rows), flush=True)


if __name__ == "__main__":
    main()
