"""Does a text model draw what it is asked for? A reader of the factors says what is on its samples.

Captions of avatars that were never drawn in training are given to the model, without and with guidance. Per factor: how
often the reader finds on a sample what its caption says; how often on samples of other captions (chance); and how often
on the avatar that the caption was made for (as much as the reader can find). The same for pairs of words that no
caption of the training held, beside pairs of the same kinds that it did.

    python training/evaluate_text.py --model latentjac/models/builtin/avatars-text --sheet docs/images/avatars-text.png
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captions import HELD_OUT_PAIRS, TERMS, TERMS_OF, Term, choose_terms, seen_together, sentence, true_terms
from evaluate_avatars import frechet, images_of
from factors.measures import as_factors, distances, psnr
from factors.reader import FactorReader
from factors.reader_training import HELD_OUT_SEED, drawings
from measures import fill_card, sheet
from torch import Tensor
from tqdm import tqdm

import latentjac
from latentjac.report import write_json, write_png

READER = Path(__file__).parents[1] / "latentjac/models/builtin/avatars/reader.safetensors"
AT_ONCE = 32
# Rows of the sheet: the first two combine words that no caption of the training held together.
SHEET_PROMPTS = (
    "a portrait of an avatar with blue hair and glasses",
    "a bearded person with pigtails",
    "a smiling face with long blond hair and a red shirt",
    "a stern person with a buzz cut, dark skin and a yellow background",
    "a sad avatar with pink curls, glasses, a head turned left and a blue background",
    "",
)
SHEET_COLUMNS = 8


@dataclass(frozen=True)
class Asked:
    """A prompt and the terms that it says."""

    prompt: str
    terms: tuple[Term, ...]


def ask(terms: Sequence[Term], rng: random.Random) -> Asked:
    """A prompt of these terms, phrased at random."""
    return Asked(sentence(terms, rng), tuple(terms))


def ask_for(factors: dict[str, Tensor], rng: random.Random) -> list[Asked]:
    """A prompt for each avatar, of words as in training; none is empty."""
    asked = []
    for true in true_terms(factors):
        terms: list[Term] = []
        while not terms:
            terms = choose_terms(true, rng)
        asked.append(ask(terms, rng))
    return asked


def held_out_prompts(each: int, rng: random.Random) -> list[Asked]:
    """So many prompts for each pair of terms that is held out."""
    return [ask([TERMS[a], TERMS[b]], rng) for a, b in HELD_OUT_PAIRS for _ in range(each)]


def control_prompts(each: int, rng: random.Random) -> list[Asked]:
    """As many prompts of the same first terms, each with another term of the second's factor, seen together."""
    asked = []
    for a, b in HELD_OUT_PAIRS:
        others = [term for term in TERMS_OF[TERMS[b].factor] if seen_together([TERMS[a], term])]
        asked += [ask([TERMS[a], rng.choice(others)], rng) for _ in range(each)]
    return asked


def draw_prompts(model: latentjac.Model, prompts: Sequence[str], scale: float, steps: int, seed: int) -> Tensor:
    """A picture ``[3, S, S]`` in [0, 1] for each prompt, stacked; the noise depends on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for i in tqdm(range(0, len(prompts), AT_ONCE), desc=f"guidance {scale:g}", unit="batch"):
        some = list(prompts[i : i + AT_ONCE])
        parts.append(
            latentjac.sample(
                model,
                num_images=len(some),
                num_inference_steps=steps,
                prompt=some,
                guidance_scale=scale,
                generator=generator,
                output_type="pt",
            )
        )
    return torch.cat(parts)


def found(reader: FactorReader, pictures: Tensor) -> dict[str, Tensor]:
    """For every term, whether the reader finds it on pictures ``[n, 3, S, S]``, bool ``[n]``."""
    factors = as_factors(reader.read(pictures))
    return {name: term.holds(factors[term.factor]) for name, term in TERMS.items()}


def by_factor(asked: Sequence[Asked], finds: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """How often what was asked for was found, by factor, and how often it was found on all the other samples."""
    hits: dict[str, list[float]] = {factor: [] for factor in TERMS_OF}
    elsewhere: dict[str, list[float]] = {factor: [] for factor in TERMS_OF}
    for i, one in enumerate(asked):
        for term in one.terms:
            holds = finds[term.name].double()
            hits[term.factor].append(holds[i].item())
            elsewhere[term.factor].append(((holds.sum() - holds[i]) / max(1, len(holds) - 1)).item())
    return {
        factor: {"asked": len(values), "found": _mean(values), "chance": _mean(elsewhere[factor])}
        for factor, values in hits.items()
        if values
    }


def together(asked: Sequence[Asked], finds: dict[str, Tensor]) -> float:
    """How often all that was asked for was found."""
    return _mean([float(all(finds[term.name][i] for term in one.terms)) for i, one in enumerate(asked)])


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def evaluate_autoencoder(model: latentjac.Model, pictures: Tensor) -> dict[str, float]:
    """PSNR of pictures in [0, 1] after encoding and decoding, and how normal their latents are."""
    latents = model.codec.encode(pictures)
    decibels = psnr(model.codec.decode(latents), pictures)
    return {
        "pictures": len(pictures),
        "psnr_db": round(decibels.mean().item(), 2),
        "worst_psnr_db": round(decibels.min().item(), 2),
        "latent_mean": round(latents.mean().item(), 3),
        "latent_deviation": round(latents.std().item(), 3),
    }


def evaluate_prompts(model: latentjac.Model, reader: FactorReader, args: argparse.Namespace) -> dict[str, Any]:
    """What is found of captions, without and with guidance, and of pairs that are held out."""
    rng = random.Random(args.seed)
    factors, truth = drawings(args.prompts, HELD_OUT_SEED + 4, reader.size)
    asked = ask_for(factors, rng)
    pairs, controls = held_out_prompts(args.each_pair, rng), control_prompts(args.each_pair, rng)
    every = [*asked, *pairs, *controls]
    result: dict[str, Any] = {
        "prompts": len(asked),
        "pair_prompts": len(pairs),
        "drawings": by_factor(asked, found(reader, truth)),
    }
    for scale in (1.0, args.guidance):
        pictures = draw_prompts(model, [one.prompt for one in every], scale, args.steps, args.seed)
        of_captions, of_pairs, of_controls = pictures.split([len(asked), len(pairs), len(controls)])
        finds = found(reader, of_captions)
        result[f"guidance_{scale:g}"] = {
            "factors": by_factor(asked, finds),
            "held_out_pairs": together(pairs, found(reader, of_pairs)),
            "pairs_seen": together(controls, found(reader, of_controls)),
            "held_out_pairs_by_chance": _mean(
                [(finds[a] & finds[b]).double().mean().item() for a, b in HELD_OUT_PAIRS]
            ),
            "by_pair": {
                f"{a}, {b}": together(pairs[i : i + args.each_pair], found(reader, of_pairs[i : i + args.each_pair]))
                for i, (a, b) in zip(range(0, len(pairs), args.each_pair), HELD_OUT_PAIRS, strict=True)
            },
        }
    return result


def evaluate_unprompted(model: latentjac.Model, reader: FactorReader, args: argparse.Namespace) -> dict[str, Any]:
    """Samples of the empty prompt beside drawings, and as many other drawings beside them."""
    _, reference = drawings(args.drawings, HELD_OUT_SEED + 1, reader.size)
    _, control = drawings(args.unprompted, HELD_OUT_SEED + 2, reader.size)
    samples = draw_prompts(model, [""] * args.unprompted, 1.0, args.steps, args.seed)
    known = reader.read(reference)
    return {
        name: {"factor_distances": distances(reader.read(x), known), "frechet": frechet(reader, x, reference)}
        for name, x in (("samples", samples), ("drawings", control))
    } | {"pictures": args.unprompted}


def card_lines(quality: dict[str, Any]) -> list[str]:
    """The tables of the model card."""
    plain, guided = (quality["prompts"][key] for key in quality["scales"])
    coder, free, scale = quality["autoencoder"], quality["unprompted"], quality["guidance"]
    mean = {kind: np.mean(list(free[kind]["factor_distances"].values())) for kind in ("samples", "drawings")}
    lines = [
        f"The autoencoder: PSNR {coder['psnr_db']:.1f} dB in the mean of {coder['pictures']} avatars that it was not "
        f"trained on, {coder['worst_psnr_db']:.1f} dB at worst.",
        "",
        f"How often the reader finds what a caption says ({quality['prompts']['prompts']} captions, "
        f"{quality['steps']} DDIM steps). Chance: on samples of the other captions, with guidance. Drawings: on the "
        "avatars that the captions were made for.",
        "",
        f"| factor | without guidance | guidance {scale:g} | chance | drawings |",
        "| --- | --- | --- | --- | --- |",
    ]
    for factor, score in guided["factors"].items():
        lines.append(
            f"| {factor} | {plain['factors'][factor]['found']:.0%} | {score['found']:.0%} | {score['chance']:.0%} "
            f"| {quality['prompts']['drawings'][factor]['found']:.0%} |"
        )
    lines += [
        "",
        f"| both words of a pair ({quality['prompts']['pair_prompts']} prompts each) | without guidance "
        f"| guidance {scale:g} |",
        "| --- | --- | --- |",
        f"| pairs that no caption of the training held | {plain['held_out_pairs']:.0%} "
        f"| {guided['held_out_pairs']:.0%} |",
        f"| pairs of the same factors that some held | {plain['pairs_seen']:.0%} | {guided['pairs_seen']:.0%} |",
        f"| the held-out pairs, by chance | {plain['held_out_pairs_by_chance']:.0%} "
        f"| {guided['held_out_pairs_by_chance']:.0%} |",
        "",
        "With the empty prompt: distance of the factors' distributions from those of drawings "
        f"{mean['samples']:.3f} in the mean (as many drawings: {mean['drawings']:.3f}), Fréchet distance of the "
        f"reader's hidden values {free['samples']['frechet']:.2f} ({free['drawings']['frechet']:.2f}); "
        f"{free['pictures']} samples.",
        "",
        training_line(quality["training"]),
    ]
    return lines


def training_line(training: dict[str, int]) -> str:
    """What the model and its autoencoder have seen."""
    pool = f", {training['avatars_drawn']:,} different ones" if "avatars_drawn" in training else ""
    return (
        f"Trained on {training['images_seen']:,} avatars{pool}, the autoencoder before it on "
        f"{training['images_seen_by_autoencoder']:,}."
    )


def term_lines() -> list[str]:
    """The table of words in the model card."""
    lines = ["| factor | from | to | said as |", "| --- | --- | --- | --- |"]
    for term in TERMS.values():
        said = ", ".join([*term.phrases, *term.adjectives])
        lines.append(f"| {term.factor} | {term.low:.2f} | {term.high:.2f} | {said} |")
    pairs = "; ".join(f"{a} with {b}" for a, b in HELD_OUT_PAIRS)
    return [*lines, "", f"Never said together in training: {pairs}."]


def write_sheet(model: latentjac.Model, args: argparse.Namespace) -> None:
    """A row of samples for each prompt of the sheet, under the same noise in every row."""
    rows = [
        images_of(draw_prompts(model, [prompt] * SHEET_COLUMNS, args.guidance, args.steps, args.seed))
        for prompt in SHEET_PROMPTS
    ]
    write_png(args.sheet, sheet(np.concatenate(rows), SHEET_COLUMNS))


def evaluation_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="pipeline folder; its card gets the numbers")
    parser.add_argument("--reader", type=Path, default=READER, help="file of the reader (default: that of avatars)")
    parser.add_argument("--prompts", type=int, default=400, help="captions of avatars (default 400)")
    parser.add_argument("--each-pair", type=int, default=16, help="prompts for each held-out pair (default 16)")
    parser.add_argument("--unprompted", type=int, default=200, help="samples of the empty prompt (default 200)")
    parser.add_argument("--drawings", type=int, default=2000, help="drawings to compare with (default 2000)")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sheet", type=Path, help="write a sheet of samples here, a prompt a row")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a text model and fill its card."""
    parser = evaluation_parser()
    args = parser.parse_args(arguments)
    if args.guidance == 1:
        parser.error("--guidance: expected another scale than 1, which is measured anyway")
    model, reader = latentjac.load(args.model, device=args.device), FactorReader.load(args.reader)
    _, pictures = drawings(args.unprompted, HELD_OUT_SEED + 5, reader.size)
    quality = {
        "autoencoder": evaluate_autoencoder(model, (pictures * 255).round() / 255),
        "prompts": evaluate_prompts(model, reader, args),
        "unprompted": evaluate_unprompted(model, reader, args),
        "scales": ["guidance_1", f"guidance_{args.guidance:g}"],
        "guidance": args.guidance,
        "steps": args.steps,
        "training": json.loads((args.model / "training.json").read_text()),
        "model_identity": model.identity(),
    }
    print(json.dumps(quality, indent=2))
    write_json(args.model / "quality.json", quality)
    fill_card(args.model / "README.md", term_lines(), "words")
    fill_card(args.model / "README.md", card_lines(quality))
    if args.sheet:
        write_sheet(model, args)


if __name__ == "__main__":
    main()
