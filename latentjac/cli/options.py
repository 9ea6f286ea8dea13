"""Options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from latentjac.cli import values
from latentjac.edit_options import FARTHEST, METHODS, MOST_STEPS

FRAMES = 9
STEPS = 16  # of inversions to the noisiest level
STEPS_BELOW = 12  # of those that end where the photo is edited
SOLVERS = ("multistep", "ddim", "implicit")
GRIDS = ("rho", "uniform", "own")
MOST_SEED = 2**63 - 1
MOST_STRENGTH = 100

_METAVARS = {
    values.whole: "INTEGER",
    values.number: "NUMBER",
    values.numbers: "NUMBER,...",
    values.indices: "INTEGER,...",
    values.size: "SIZE",
    values.box: "LEFT,TOP,RIGHT,BOTTOM",
    values.file: "FILE",
    values.folder: "FOLDER",
    values.name: "NAME",
    values.choice: "NAME",
    values.device: "NAME",
    values.sentence: "TEXT",
    values.adapter: "PATH[:SCALE]",
}


def option(names: str, kind: Any, *limits: Any, help: str, **details: Any) -> Any:
    """An option whose text is read by a parser of :mod:`latentjac.cli.values`.

    Args:
        names: As it is typed, such as ``"--out -o"``; messages use the first.
        kind: What makes the parser.
        *limits: For kind, behind the name.
        help: What it means, with its unit.
        **details: For kind.
    """
    first, *others = names.split()
    parser = kind(first, *limits, **details)
    return typer.Option(first, *others, parser=parser, metavar=_METAVARS[kind], help=help)


Photo = Annotated[
    Path,
    typer.Argument(
        parser=values.file("PHOTO", "a picture file"),
        metavar="PHOTO",
        help="Picture file: any format, mode, size and EXIF orientation.",
    ),
]
Out = Annotated[Path, option("--out -o", values.folder, help="Folder to write into; made if missing.")]
ModelName = Annotated[
    str,
    option(
        "--model",
        values.name,
        "a model",
        help="Built-in name (such as faces), diffusers pipeline folder, single .safetensors file or hub id.",
    ),
]
Crop = Annotated[
    str | None,
    option(
        "--crop",
        values.box,
        help="Box in pixels of the upright photo; default: the largest one in its middle of the model's shape.",
    ),
]
Steps = Annotated[
    int, option("--steps", values.whole, 1, help="Steps between photo and noise, at most T (often 1000).")
]
Solver = Annotated[
    str,
    option(
        "--solver",
        values.choice,
        SOLVERS,
        help="How samples go up to noise and back: multistep, of second order, one network evaluation a step; ddim, of "
        "first order; implicit, the same, solved until the way back undoes it.",
    ),
]
Grid = Annotated[
    str,
    option(
        "--grid",
        values.choice,
        GRIDS,
        help="Where the steps lie: rho, closest together near the photo; uniform in the timestep; own, as the "
        "scheduler has them.",
    ),
]
Refinement = Annotated[
    int | None,
    option(
        "--refinement",
        values.whole,
        0,
        1000,
        help="With --solver ddim: fixed-point iterations a step of the inversion, each of one network evaluation; "
        "default: 1.",
    ),
]
Residual = Annotated[
    bool,
    typer.Option(
        "--residual/--no-residual",
        help="Add to every picture what the way back misses of the photo, so that distance 0 is the photo.",
    ),
]
T = Annotated[
    float,
    option(
        "--t", values.number, 0, 1, ends=True, what="a fraction of T",
        help="Noise level of the basis, a fraction of T: 1 is pure noise, 0 the least noisy level.",
    ),
]  # fmt: skip
K = Annotated[int, option("-k", values.whole, 1, help="Number of directions.")]
Layer = Annotated[
    str,
    option(
        "--layer", values.name, "a feature map", help="Feature map: mid (h-space), a module name, eps, x0 or image."
    ),
]
Tol = Annotated[
    float,
    option("--tol", values.number, 0, 1, help="Largest relative residual of a singular triplet, between 0 and 1."),
]
Device = Annotated[
    str, option("--device", values.device, help="cpu, cuda, cuda:N, or auto: a GPU where torch sees one.")
]
Prompt = Annotated[
    str | None,
    option("--prompt", values.sentence, help="For models with text: what the photo shows; default: the empty text."),
]
EditPrompt = Annotated[
    str | None,
    option(
        "--edit-prompt",
        values.sentence,
        help="For models with text: what directions are found and followed under; default: --prompt.",
    ),
]
ClassLabel = Annotated[
    int | None,
    option(
        "--class-label",
        values.whole,
        0,
        help="For models with classes: number of the class that the photo shows, or of the samples; default: no class, "
        "where there is one that stands for none.",
    ),
]
Image = Annotated[
    Path | None,
    option(
        "--image",
        values.file,
        "a picture file",
        help="For models that edit, complete or enlarge a picture: that picture; default: PHOTO.",
    ),
]
InpaintMask = Annotated[
    Path | None,
    option(
        "--inpaint-mask",
        values.file,
        "a picture file",
        help="For models that complete a picture: a picture that is white where they paint; default: none, which such "
        "models refuse.",
    ),
]
Control = Annotated[
    Path | None,
    option(
        "--control",
        values.file,
        "a picture file",
        help="For models with a ControlNet or a T2I-Adapter: what it sees, such as edges or a pose; for models with "
        "depth a map of it; default: none, which such models refuse.",
    ),
]
ControlStrength = Annotated[
    float | None,
    option(
        "--control-strength",
        values.number,
        -MOST_STRENGTH,
        MOST_STRENGTH,
        ends=True,
        help="With --control: factor of what the ControlNet or T2I-Adapter adds; default: 1.",
    ),
]
ControlMode = Annotated[
    int | None,
    option(
        "--control-mode",
        values.whole,
        0,
        help="With --control, for a ControlNet of several kinds of pictures (union): the number of the kind that it "
        "sees, as its authors count them; default: none, which such models refuse.",
    ),
]
ImagePrompt = Annotated[
    Path | None,
    option(
        "--image-prompt",
        values.file,
        "a picture file",
        help="For models that get the embedding of a picture, such as image variations: that picture; default: none, "
        "which such models refuse.",
    ),
]
ModelSize = Annotated[
    str | None,
    option(
        "--size",
        values.size,
        help="Size in pixels of the pictures that the model works on, WIDTHxHEIGHT or the side of a square; default: "
        "that of the model.",
    ),
]
BasisFile = Annotated[
    Path | None,
    option(
        "--basis",
        values.file,
        "a basis file (basis.safetensors)",
        help="Saved basis to take directions from; default: computed from the photo.",
    ),
]
MethodName = Annotated[
    str,
    option(
        "--method",
        values.choice,
        tuple(METHODS),
        help="guidance follows differences of the predicted noise; linear goes straight on; geodesic goes straight on "
        "in the geometry of --layer; h-space leaves the sample and adds to the output of --layer.",
    ),
]
MaskFile = Annotated[
    Path | None,
    option(
        "--mask",
        values.file,
        "a picture file",
        help="Picture, white where changes are meant to be, of the photo's size or the model's. Directions are then "
        "those of the predicted picture inside, and no step takes what the picture outside listens to most; default: "
        "no mask.",
    ),
]
TOfBasis = Annotated[
    float | None,
    option(
        "--t", values.number, 0, 1, ends=True, what="a fraction of T",
        help="Noise level, a fraction of T: 1 is pure noise; default: that of --basis, or 0.7.",
    ),
]  # fmt: skip
LayerOfEdit = Annotated[
    str | None,
    option(
        "--layer", values.name, "a feature map",
        help="Feature map: mid (h-space), a module name, eps, x0 or image; default: that of --basis, or mid, or x0 "
        "with --mask.",
    ),
]  # fmt: skip
ModelConfig = Annotated[
    str | None,
    option(
        "--config",
        values.name,
        "a pipeline folder or a hub id",
        help="With a model of a single .safetensors file: the pipeline folder or hub id with configurations, scheduler "
        "and tokenizers of it; default: those that diffusers takes the file for, if the cache of the hub has them.",
    ),
]
ModelLora = Annotated[
    list[str] | None,
    option(
        "--lora",
        values.adapter,
        help="Low-rank adapter to put onto the model, a safetensors file or a folder with one, and its scale; default "
        "scale: 1; repeated for several; default: none.",
    ),
]
ModelIPAdapter = Annotated[
    list[str] | None,
    option(
        "--ip-adapter",
        values.adapter,
        help="IP-Adapter to put onto the model, a safetensors file, and its scale; default scale: 1; repeated for "
        "several; default: none.",
    ),
]
Seed = Annotated[int, option("--seed", values.whole, 0, MOST_SEED, help="Seed of the solver's start block.")]
Distances = Annotated[
    str,
    option(
        "--distance", values.numbers, -FARTHEST, FARTHEST,
        help="Signed distances, comma-separated, in noise standard deviations.",
    ),
]  # fmt: skip
EditSteps = Annotated[
    int | None,
    option(
        "--edit-steps", values.whole, 1, MOST_STEPS,
        help="Least number of steps of a walk; default: as many as its accuracy takes. h-space takes none.",
    ),
]  # fmt: skip
Gif = Annotated[bool, typer.Option("--gif/--no-gif", help="Draw walks as animations too, of the pictures of --frames.")]
Frames = Annotated[
    int,
    option(
        "--frames",
        values.whole,
        0,
        1000,
        help="Pictures that each slider of the page goes through, from the lowest distance to the highest; 0 computes "
        "none beside those of --distance, which saves about a third of the time.",
    ),
]

# Of a group of commands; typer's own would import pydantic.
Help = Annotated[bool, typer.Option("--help", help="Show this message and exit.")]


def parse_distances(text: str, *, distinct: bool = True) -> list[float]:
    """Distances of ``--distance``, each once."""
    distances = values.parse_numbers("--distance", text, -FARTHEST, FARTHEST)
    if distinct:
        values.check_different("--distance", distances, text)
    return distances


def parse_crop(text: str | None) -> tuple[int, int, int, int] | None:
    """The box of ``--crop``, or None where there is none."""
    return None if text is None else values.parse_box("--crop", text)


def help_without_command(context: typer.Context, show_help: Help = False) -> None:
    """Print help and end where it is asked for, or a command is missing."""
    if show_help or context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(0 if show_help else 2)
