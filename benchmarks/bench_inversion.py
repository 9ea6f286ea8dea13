"""How well are pictures inverted, and for how many evaluations? By grid and solver, on any built-in model.

    python benchmarks/bench_inversion.py --data faces64.zip
    python benchmarks/bench_inversion.py --model avatars-text
    python benchmarks/bench_inversion.py --draw docs/images/schemes.png

Pictures that training never saw: the last held-out faces of the archive, which is the training set of ``faces``, or
drawn avatars, under captions of theirs where the model takes prompts. Evaluations are counted by a hook on the network.
The error of the noisy samples of four pictures is their distance from those of a fine inversion, over the length of
these. Edits of these go straight along the first direction of a local basis; their deviation is that from the finely
inverted sample, edited and finely decoded, over the size of this edit. ``--draw`` makes the figure of all results.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch

import latentjac
from latentjac.diffusion import DDIM, Implicit, Multistep, Own, Rho, denoise
from latentjac.files import read_json

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "training"))

FINE = 40  # steps of second order: its error falls fourfold where their number doubles
COMPARED = 4  # pictures whose noisy samples and edits are compared with fine ones
DISTANCE = 6.0
MODELS = ("faces", "avatars", "avatars-text", "avatars-flow")
# Fraction of T, grid, solver and steps.
SCHEMES: list[tuple[float, Any, Any, int]] = [
    *((0.7, Rho(), Multistep(), steps) for steps in (6, 8, 10, 12, 14, 20)),
    *((0.7, Rho(), Implicit(), steps) for steps in (8, 12)),
    *((0.7, Own(), DDIM(1), steps) for steps in (15, 30, 60)),
    *((1.0, Rho(), Multistep(), steps) for steps in (13, 16)),
    (1.0, Rho(), Implicit(), 16),
    (1.0, Own(), DDIM(1), 60),
]
# Of models that take prompts, besides: the defaults and the solver that comes back most exactly, under guidance.
GUIDED = [(scale, (0.7, Rho(), solver, 12)) for scale in (3.0, 7.5) for solver in (Multistep(), Implicit())]


@dataclass(frozen=True)
class Pictures:
    """What is inverted.

    Attributes:
        images: ``[n, 3, H, W]`` in [0, 1].
        prompts: One each, or None.
    """

    images: torch.Tensor
    prompts: list[str] | None

    def inverted(self, model: latentjac.Model, n: int, scale: float, *steps: int, **how: Any) -> latentjac.Trajectory:
        """The first n of them, inverted."""
        options = {} if self.prompts is None else {"prompt": self.prompts[:n], "guidance_scale": scale}
        return latentjac.invert(model, self.images[:n], *steps, **options, **how)


@dataclass(frozen=True)
class Truth:
    """What schemes are compared with: fine samples, and of the first of them directions and finely decoded edits."""

    noisy: torch.Tensor
    directions: torch.Tensor
    edited: torch.Tensor


def faces(archive: Path, n: int) -> Pictures:
    """The last held-out photos."""
    from data import load_faces

    return Pictures(load_faces(archive, "held-out", 64)[-n:].float() / 255, None)


def avatars(n: int, captioned: bool) -> Pictures:
    """Drawn avatars, with a caption of each if these are asked for."""
    from evaluate_text import ask_for
    from factors.reader_training import HELD_OUT_SEED, drawings

    factors, images = drawings(n, HELD_OUT_SEED)
    asked = ask_for(factors, random.Random(HELD_OUT_SEED)) if captioned else None
    return Pictures(images, asked and [one.prompt for one in asked])


def relative(found: torch.Tensor, truth: torch.Tensor, size: torch.Tensor | None = None) -> list[float]:
    size = truth if size is None else size
    return ((found - truth).flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1)).tolist()


def edits(model: latentjac.Model, point: latentjac.Point, directions: torch.Tensor) -> torch.Tensor:
    """Pictures of the samples of a point, each moved along its direction."""
    moved = point.sample + DISTANCE * point.noise * directions
    return model.codec.decode(denoise(model, moved, point.schedule, point.level, point.conditioning))


def truth_at(model: latentjac.Model, pictures: Pictures, t: float, scale: float) -> Truth:
    point = pictures.inverted(model, COMPARED, scale, FINE, t=t, grid=Rho(), solver=Multistep()).at(t)
    directions = torch.cat([latentjac.local_basis(model, one, 1, tol=1e-2).v for one in point.split()])
    return Truth(point.sample, directions, edits(model, point, directions))


def measure(
    model: latentjac.Model, pictures: Pictures, scale: float, scheme: tuple[float, Any, Any, int], truth: Truth
) -> dict[str, Any]:
    """A row of the table."""
    t, grid, solver, steps = scheme
    entered: list[int] = []
    handle = model.network.register_forward_pre_hook(
        lambda module, inputs, named: entered.append(len(inputs[0] if inputs else named["hidden_states"])),
        with_kwargs=True,
    )
    n = len(pictures.images)
    path = pictures.inverted(model, n, scale, steps, t=t, grid=grid, solver=solver)
    handle.remove()
    point = path.at(t).rows(slice(COMPARED))
    found = edits(model, point, truth.directions)
    picture = model.codec.decode(path.samples[0][:COMPARED])
    residual = picture - model.codec.decode(path.reconstruction[:COMPARED])
    size = truth.edited - picture
    passes = 1 if scale == 1 else 2  # under guidance a sample enters the network with its prompt and without
    row = {"guidance": scale} if pictures.prompts else {}
    return row | {
        "t": t, "grid": str(grid), "solver": str(solver), "steps": steps, "up": passes * path.evaluations,
        "down": round(sum(entered) / n) - passes * path.evaluations,
        "psnr_median_db": median(path.psnr, 1), "psnr_worst_db": round(min(path.psnr), 1),
        "lost": sum(not status.fine for status in path.status),
        "error_of_noisy_sample": median(relative(point.sample, truth.noisy)),
        "deviation_of_edits": median(relative(found, truth.edited, size)),
        "with_residual": median(relative((found + residual).clamp(0, 1), truth.edited, size)),
    }  # fmt: skip


def median(values: Sequence[float], digits: int = 4) -> float:
    return round(statistics.median(values), digits)


def result_of(model: str) -> str:
    """Name of the result of a model."""
    return "inversion" if model == "faces" else f"inversion_{model.replace('-', '_')}"


def run(name: str, archive: Path | None, n: int) -> None:
    """Measure one model and write its result after every row."""
    model = latentjac.load(name)
    takes_prompts = model.text is not None
    pictures = faces(archive, n) if archive else avatars(n, takes_prompts)
    rows: list[dict[str, Any]] = []
    truths: dict[tuple[float, float], Truth] = {}
    for scale, scheme in [*((1.0, scheme) for scheme in SCHEMES), *(GUIDED if takes_prompts else [])]:
        at = (scheme[0], scale)
        if at not in truths:
            truths[at] = truth_at(model, pictures, *at)
        rows.append(measure(model, pictures, scale, scheme, truths[at]))
        shape = list(pictures.images.shape)
        record.write(result_of(name), rows, pictures=shape, model=model.name, model_identity=model.identity())
        print(record.table(rows[-1:]), flush=True)


def draw(path: Path) -> None:
    """Errors and round trips of all measured models against evaluations up, at t = 0.7 without guidance."""
    from matplotlib.figure import Figure

    measures = (
        ("psnr_median_db", "round trip, dB", "linear"),
        ("error_of_noisy_sample", "error of the noisy sample, %", "log"),
        ("deviation_of_edits", "deviation of edits, %", "log"),
    )
    found = {name: record.RESULTS / f"{result_of(name)}.json" for name in MODELS}
    read = {name: read_json("draw", file)["rows"] for name, file in found.items() if file.exists()}
    results = {name: rows for name, rows in read.items() if len(rows) >= len(SCHEMES)}  # the others are not done
    figure = Figure(figsize=(1 + 3.4 * len(results), 7.6), layout="constrained")
    grid = figure.subplots(len(measures), len(results), squeeze=False, sharex=True, sharey="row")
    for column, (name, rows) in enumerate(results.items()):
        for axes, (key, label, scale) in zip(grid[:, column], measures, strict=True):
            for solver, mark in (("Multistep", "o-"), ("Implicit", "s--"), ("DDIM", "^:")):
                line = sorted(
                    (row["up"], 100 * row[key] if scale == "log" else row[key])
                    for row in rows
                    if row["t"] == 0.7 and row["solver"].startswith(solver) and row.get("guidance", 1) == 1
                )
                axes.plot(*zip(*line, strict=True), mark, label=solver, markersize=4)
            axes.set(xscale="log", yscale=scale)
            if scale == "log":
                axes.set_yticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
            axes.set_xticks([6, 10, 20, 40, 80], ["6", "10", "20", "40", "80"])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        grid[0, column].set_title(name)
        grid[-1, column].set_xlabel("evaluations up")
    grid[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="faces")
    parser.add_argument("--data", type=Path, help="the archive of faces, for --model faces")
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--draw", type=Path, metavar="PNG", help="draw what was measured, and measure nothing")
    args = parser.parse_args()
    if args.draw:
        draw(args.draw)
    elif (args.model == "faces") != (args.data is not None):
        parser.error("--model faces needs --data, and no other model takes it")
    else:
        run(args.model, args.data, args.photos)


if __name__ == "__main__":
    main()
