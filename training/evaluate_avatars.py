"""How good is a model of avatars? It is asked for samples, and a reader says what is on them.

The reader is a small network that is taught on drawn avatars in a minute or two, kept beside the model and measured on
drawings that it has never seen. Then the factors of samples are compared with those of drawings, each sample with
the avatar nearest to it, and both with controls.

    python training/evaluate_avatars.py --reader runs/avatars/reader.safetensors
    python training/evaluate_avatars.py --model latentjac/models/builtin/avatars
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avatars import FACTORS
from factors.measures import as_readings, distances, psnr, read_closely, redraw, strongest_correlation
from factors.reader import FactorReader
from factors.reader_training import HELD_OUT_SEED, drawings, scores, train_reader
from measures import draw_samples, fill_card, frechet_distance, sheet, shuffled_tiles

import latentjac
from latentjac.files import read_json, write_bytes
from latentjac.report import write_json, write_png
from latentjac.strict_json import to_json

CARD = Path(__file__).parent / "avatars_card.md"


def pictures_of(images: np.ndarray) -> torch.Tensor:
    """Images ``[n, S, S, 3]`` in bytes as pictures ``[n, 3, S, S]`` in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


def images_of(pictures: torch.Tensor) -> np.ndarray:
    """Pictures ``[n, 3, S, S]`` in [0, 1] as images ``[n, S, S, 3]`` in bytes."""
    return (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def frechet(reader: FactorReader, a: torch.Tensor, b: torch.Tensor) -> float:
    """Fréchet distance of the reader's hidden values."""
    first, second = (reader.features(x).double().numpy() for x in (a, b))
    return round(frechet_distance(first, second), 4)


def redrawn_psnr(reader: FactorReader, pictures: torch.Tensor) -> float:
    """Median PSNR in dB of pictures with the avatars nearest to them."""
    return round(psnr(redraw(reader, pictures), pictures).median().item(), 2)


def evaluate_reader(reader: FactorReader, drawn: int, redrawn: int) -> dict[str, Any]:
    """Scores on drawings that were not trained on, and on the first of them after refinement."""
    factors, pictures = drawings(drawn, HELD_OUT_SEED, reader.size)
    closely = as_readings(read_closely(reader, pictures[:redrawn]))
    return {
        "drawings": drawn,
        "factors": scores(reader.read(pictures), factors),
        "refined": scores(closely, {name: values[:redrawn] for name, values in factors.items()}),
    }


def evaluate_samples(reader: FactorReader, samples: torch.Tensor, drawn: int, redrawn: int) -> dict[str, Any]:
    """Numbers of samples, each beside that of as many drawings.

    Args:
        reader: Reads the factors.
        samples: Pictures ``[n, 3, S, S]`` in [0, 1].
        drawn: How many drawings stand for the distribution that samples should have.
        redrawn: How many of the pictures are drawn again, which takes a fifth of a second each.
    """
    n = len(samples)
    _, reference = drawings(drawn, HELD_OUT_SEED + 1, reader.size)
    _, control = drawings(n, HELD_OUT_SEED + 2, reader.size)
    shuffled = pictures_of(shuffled_tiles(images_of(control), np.random.default_rng(0)))
    known = reader.read(reference)
    result: dict[str, Any] = {"samples": n}
    for name, pictures in (("samples", samples), ("drawings", control), ("shuffled_drawings", shuffled)):
        readings = reader.read(pictures)
        result[f"of_{name}"] = {
            "factor_distances": distances(readings, known),
            "frechet": frechet(reader, pictures, reference),
            "redrawn_psnr_db": redrawn_psnr(reader, pictures[:redrawn]),
            "strongest_correlation": strongest_correlation(readings),
        }
    return result


def card_lines(quality: dict[str, Any], training: dict[str, Any]) -> list[str]:
    """The tables of the model card."""
    kinds = [quality[f"of_{name}"] for name in ("samples", "drawings", "shuffled_drawings")]
    means = [np.mean(list(kind["factor_distances"].values())) for kind in kinds]
    lines = [
        "| | samples | drawings | shuffled drawings |",
        "| --- | --- | --- | --- |",
        f"| distance of the factors' distributions from those of drawings, mean | {means[0]:.3f} | {means[1]:.3f} "
        f"| {means[2]:.3f} |",
        "| PSNR with the nearest avatar, median, dB | "
        + " | ".join(f"{kind['redrawn_psnr_db']:.1f}" for kind in kinds)
        + " |",
        "| Fréchet distance of the reader's hidden values to drawings | "
        + " | ".join(f"{kind['frechet']:.2f}" for kind in kinds)
        + " |",
        "| strongest correlation of two factors | "
        + " | ".join("{} and {}: {:+.2f}".format(*kind["strongest_correlation"]) for kind in kinds)
        + " |",
        "",
        f"{quality['samples']} samples, {quality['steps']} DDIM steps; trained on {training['images_seen']:,} images.",
        "",
        "| factor | read on new drawings | and refined | distance of samples | of as many drawings |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in quality["reader"]["factors"]:
        read, refined = (score_text(quality["reader"][kind][name]) for kind in ("factors", "refined"))
        near, control = (kind["factor_distances"][name] for kind in kinds[:2])
        lines.append(f"| {name} | {read} | {refined} | {near:.3f} | {control:.3f} |")
    return lines


def score_text(score: dict[str, float]) -> str:
    """One score of a reader in words."""
    return f"R² {score['r2']:.3f}" if "r2" in score else f"{score['accuracy']:.1%} (chance {score['chance']:.1%})"


def factor_lines() -> list[str]:
    """The table of factors in the model card."""
    lines = ["| factor | kind | meaning |", "| --- | --- | --- |"]
    for f in FACTORS:
        kind = f.kind
        if f.kind == "continuous":
            kind += f", {f.low:g} to {f.high:g}"
        elif f.probability is not None:
            kind += f", 1 with probability {f.probability:g}"
        meaning = f"{f.meaning}: {', '.join(f.choices)}" if f.choices else f.meaning
        lines.append(f"| {f.name} | {kind} | {meaning} |")
    return lines


def reader_at(path: Path, images: int, size: int, seed: int) -> FactorReader:
    """The reader in a file; it is trained and written if there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        train_reader(images, size=size, seed=seed, progress=True).save(path)
    return FactorReader.load(path)


def evaluate_model(args: argparse.Namespace, model: latentjac.Model, reader: FactorReader) -> None:
    """Sample a model, measure, and fill its card."""
    images = draw_samples(model, args.samples, args.steps, args.seed)
    quality = {
        **evaluate_samples(reader, pictures_of(images), args.drawings, args.redrawn),
        "steps": args.steps,
        "reader": evaluate_reader(reader, args.drawings, args.redrawn),
        "model_identity": model.identity(),
    }
    print(to_json(quality, indent=2))
    write_json(args.model / "quality.json", quality)
    training = read_json("evaluate_avatars", args.model / "training.json")
    card = args.model / "README.md"
    if not card.exists():
        write_bytes(card, CARD.read_bytes())
    fill_card(card, factor_lines(), "factors")
    fill_card(card, card_lines(quality, training))
    if args.sheet:
        write_png(args.sheet, sheet(images[:40], min(10, len(images))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a reader, and a model if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="pipeline folder; its card gets the numbers")
    parser.add_argument("--reader", type=Path, help="file of the reader (default: reader.safetensors in the model)")
    parser.add_argument("--reader-images", type=int, default=50_000, help="drawings that a new reader is taught on")
    parser.add_argument("--drawings", type=int, default=2000, help="new drawings to compare with (default 2000)")
    parser.add_argument(
        "--redrawn", type=int, default=100, help="pictures to find the nearest avatars of (default 100)"
    )
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a sheet of the first 40 samples here")
    args = parser.parse_args(arguments)
    if args.model is None and args.reader is None:
        parser.error("--model or --reader: expected at least one of them, got neither")
    model = latentjac.load(args.model) if args.model else None
    path = args.reader or args.model / "reader.safetensors"
    reader = reader_at(path, args.reader_images, model.codec.size[0] if model else 64, args.seed)
    if model is None:
        print(to_json(evaluate_reader(reader, args.drawings, args.redrawn), indent=2))
    else:
        evaluate_model(args, model, reader)


if __name__ == "__main__":
    main()
