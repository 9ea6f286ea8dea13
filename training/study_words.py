"""Does a direction made of words change the factor that the words name?

At noisy samples of the text model, directions from one caption to another are followed to equal changes of the picture
(RMS ``--change``, both ways), and a reader of the factors says what became of it: how often it finds what the caption
names, and which part of all changes is in the named factor. Beside them a random direction of the same span as the six
to which the predicted picture listens most.

    OMP_NUM_THREADS=1 python training/study_words.py
    OMP_NUM_THREADS=1 python training/study_words.py --samples 1 --words 1    # a minute, to see that it runs
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from captions import TERMS
from factors.measures import changes
from factors.reader import FactorReader
from torch import Tensor

import latentjac
from latentjac.editing import Linear, word_direction
from latentjac.editing.calibration import walk_to_changes
from latentjac.editing.edit import job_of, pictures_unchanged
from latentjac.report import write_json

READER = Path(__file__).parents[1] / "latentjac/models/builtin/avatars/reader.safetensors"
# Terms of captions, where to and where from.
WORDS = (
    ("a blue background", "a peach background"),
    ("long hair", "a buzz cut"),
    ("a lean to the left", "a lean to the right"),
    ("a beard", "no beard"),
    ("a smile", "a sad mouth"),
    ("glasses", "no glasses"),
    ("blond hair", "black hair"),
    ("dark skin", "pale skin"),
)
TRANSPOSED, DIFFERENCE, RANDOM = "words, transposed", "words, difference", "random, same span"
SPAN = 6
METHOD, TOLERANCE = Linear(diagnostics=False), 0.05


def term_of(words: str) -> str:
    """The name of the term that words say."""
    return next(name for name, term in TERMS.items() if words in term.phrases)


def arms(
    model: latentjac.Model, point: latentjac.Point, to: str, away: str, span: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    """The directions that are compared at a point."""
    said, unsaid = (f"a person with {words}" for words in (to, away))
    made = {
        name: word_direction(model, point, said, unsaid, kind=kind)
        for name, kind in ((TRANSPOSED, "transposed"), (DIFFERENCE, "difference"))
    }
    weights = torch.randn(len(span), generator=rng).to(span)
    return {**made, RANDOM: torch.einsum("k,k...->...", weights, span)}


def follow(
    model: latentjac.Model, reader: FactorReader, walks: Sequence[tuple[latentjac.Point, Tensor]], change: float
) -> list[dict[str, Tensor] | None]:
    """Readings at -1, 0 and 1 of each direction, where both ends change the picture by so much; None elsewhere."""
    jobs = [job_of(model, point, v, 0.0, METHOD, None, False, False) for point, v in walks]
    unchanged = pictures_unchanged(jobs)
    found = walk_to_changes(
        "study", METHOD, jobs, [(-1.0, 1.0)] * len(jobs), change, unchanged, [None] * len(jobs), TOLERANCE
    )
    return [
        reader.read(torch.stack([each.pictures[0], picture, each.pictures[1]])) if all(each.reached) else None
        for each, picture in zip(found, unchanged, strict=True)
    ]


def measured(readings: dict[str, Tensor], to: str) -> dict[str, float]:
    """Part of the changes in the named factor, and where the term is found."""
    term = TERMS[term_of(to)]
    rows = {end: {name: values[i : i + 1] for name, values in readings.items()} for i, end in enumerate("-0+")}
    shares, size = [], []
    for end in "-+":
        squares = {name: float(values**2) for name, values in changes(rows["0"], rows[end]).items()}
        shares.append(squares[term.factor] / sum(squares.values()))
        size.append(squares[term.factor] ** 0.5)
    values = readings[term.factor]
    probability = values[:, int(term.low)] if values.ndim == 2 else values
    return {"part": sum(shares) / 2, "size": sum(size) / 2, **{
        f"at {end}": float(value) for end, value in zip("-0+", probability, strict=True)
    }}  # fmt: skip


def study(args: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    model, reader = latentjac.load(args.model), FactorReader.load(READER)
    generator = torch.Generator().manual_seed(args.seed)
    pictures = latentjac.sample(
        model, num_images=args.samples, num_inference_steps=25, prompt="", generator=generator, output_type="pt"
    )
    points = latentjac.invert(model, pictures, args.steps, t=args.t).at(args.t).split()
    spans = [latentjac.local_basis(model, point, SPAN, "x0", tol=1e-2).v for point in points]
    found: dict[str, Any] = {}
    for to, away in WORDS[: args.words]:
        walks = [
            (arm, point, v)
            for point, span in zip(points, spans, strict=True)
            for arm, v in arms(model, point, to, away, span, generator).items()
        ]
        rows: dict[str, list[dict[str, float]]] = {arm: [] for arm, _, _ in walks}
        readings = follow(model, reader, [(point, v) for _, point, v in walks], args.change)
        for (arm, _, _), read in zip(walks, readings, strict=True):
            if read is not None:
                rows[arm].append(measured(read, to))
        found[to] = {arm: _mean(entries) for arm, entries in rows.items()}
        print(to, found[to], flush=True)
    return {"settings": {**vars(args), "out": str(args.out)}, "words": found}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {
        "points": len(rows),
        **({name: round(sum(row[name] for row in rows) / len(rows), 3) for name in rows[0]} if rows else {}),
    }


def table(found: dict[str, Any]) -> list[str]:
    """The results as a table of Markdown."""
    lines = ["| words | factor | direction | part in it | reading at -1, 0, 1 |", "| --- | --- | --- | --- | --- |"]
    for to, arms_of in found["words"].items():
        for arm, row in arms_of.items():
            values = ", ".join(f"{row[f'at {end}']:.2f}" for end in "-0+") if row["points"] else ""
            part = f"{row['part']:.2f}" if row["points"] else "not reached"
            lines.append(f"| {to} | {TERMS[term_of(to)].factor} | {arm} | {part} | {values} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-text")
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--words", type=int, default=5, help="how many of the words, from the first")
    parser.add_argument("--t", type=float, default=0.8)
    parser.add_argument("--change", type=float, default=0.08, help="RMS change of the picture")
    parser.add_argument("--steps", type=int, default=8, help="levels between the picture and t")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    found = study(args)
    if args.out is not None:
        write_json(args.out, found)
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
