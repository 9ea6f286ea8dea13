"""Commands and their options."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import latentjac
from latentjac.cli import stages
from latentjac.cli.run_folder import RunFolder
from latentjac.edit.arguments import METHODS
from latentjac.models import open_image, to_pil

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Which directions at this noisy image does a diffusion network listen to? "
    "Finds them as singular vectors of its Jacobian and edits photos along them.",
)

ASSET_PHOTO = Path(__file__).parent.parent / "assets" / "face.jpg"

Photo = Annotated[Path, typer.Argument(help="Picture file: any format, mode, size and EXIF orientation.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write into; made if missing.")]
ModelName = Annotated[str, typer.Option("--model", help="Built-in name, diffusers pipeline folder or hub id.")]
Crop = Annotated[
    str | None,
    typer.Option(help="Box 'left,top,right,bottom' in pixels; default: the centred square."),
]
Steps = Annotated[int, typer.Option(help="DDIM steps between photo and noise.")]
Refinement = Annotated[int, typer.Option(help="Fixed-point iterations of every inversion step.")]
T = Annotated[
    float,
    typer.Option("--t", help="Noise level of the basis, a fraction of T: 1 is pure noise, 0 the least noisy level."),
]
K = Annotated[int, typer.Option("-k", help="Number of directions.")]
Layer = Annotated[str, typer.Option(help="Feature map: 'mid' (h-space), a module name, 'eps' or 'x0'.")]
Tol = Annotated[float, typer.Option(help="Largest relative residual of a singular triplet.")]
Device = Annotated[str, typer.Option(help="'cpu', 'cuda' or 'auto': a GPU where torch sees one.")]
Seed = Annotated[int, typer.Option(help="Seed of the solver's start block.")]
Distances = Annotated[
    str, typer.Option("--distance", help="Signed distances, comma-separated, in noise standard deviations.")
]
EditSteps = Annotated[int, typer.Option("--edit-steps", help="Least number of guidance steps of a walk.")]


@app.command()
def demo(
    photo: Annotated[Path | None, typer.Option(help="Your own photo; by default a face that ships along.")] = None,
    out: Out = Path("latentjac-demo"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 60,
    refinement: Refinement = 1,
    t: T = 0.7,
    k: K = 5,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    distance: Distances = "-6,-3,3,6",
    edit_steps: EditSteps = 16,
    seed: Seed = 0,
) -> None:
    """The main job from end to end: invert a face, find directions, walk along each both ways."""
    run = RunFolder(out, "demo", locals())
    distances, box = _numbers(distance), _box(crop)
    inverted = stages.invert_photo(run, model, device, photo or ASSET_PHOTO, box, steps, refinement)
    point, basis = stages.compute_basis(run, inverted, t, k, layer, tol, seed)
    stages.edit_and_draw(run, inverted, point, basis, list(range(k)), distances, edit_steps)
    run.finish()
    print(
        f"\nLook at {out / 'sheet.png'} first. Then try:\n"
        "  latentjac demo --photo mine.jpg          your own photo (--crop left,top,right,bottom for the face)\n"
        "  latentjac demo --t 0.5                   a cleaner point: finer changes\n"
        "  latentjac edit PHOTO --direction 2 --distance -4,-2,2,4\n"
        "  latentjac --help"
    )


@app.command()
def edit(
    photo: Photo,
    direction: Annotated[str, typer.Option(help="Directions, comma-separated, the first is 1.")] = "1",
    basis: Annotated[Path | None, typer.Option(help="Saved basis to take them from, instead of computing it.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="'guidance' follows differences of the predicted noise; 'linear' goes straight on; 'geodesic' goes "
            "straight on in the geometry of --layer; 'h-space' leaves the sample and adds to the output of --layer."
        ),
    ] = "guidance",
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Picture, white where the edit is meant to be, of the photo's size or the model's. Directions are "
            "then those of the predicted picture inside, and no step takes what the picture outside listens to most."
        ),
    ] = None,
    null_rank: Annotated[
        int | None,
        typer.Option(help="With --mask: how many directions of the outside no step takes; default: 5."),
    ] = None,
    null_energy: Annotated[
        float | None, typer.Option(help="Instead: the part of the outside's Jacobian they carry, such as 0.5.")
    ] = None,
    compose: Annotated[
        bool, typer.Option("--compose", help="Go along all directions at once; --distance has one number for each.")
    ] = False,
    reestimate: Annotated[
        int | None,
        typer.Option(help="With guidance: look the direction up in a new basis every so many steps; default: never."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Directions of the bases that geodesics and --reestimate follow.")] = 8,
    inject: Annotated[
        str, typer.Option(help="With h-space: add in every step 'below' the point, or only at the 'point' itself.")
    ] = "below",
    out: Out = Path("latentjac-edit"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
    t: T = 0.7,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Feature map: 'mid' (h-space), a module name, 'eps' or 'x0'; default: 'mid', or 'x0' with --mask."
        ),
    ] = None,
    tol: Tol = 1e-3,
    distance: Annotated[
        str | None,
        typer.Option(
            help="Signed distances, comma-separated: noise standard deviations, default -6,-3,3,6, or with h-space "
            "standard deviations of the features, default -120,-60,60,120."
        ),
    ] = None,
    edit_steps: EditSteps = 16,
    seed: Seed = 0,
) -> None:
    """Edit a photo along directions of its own basis, or of a saved one.

    A basis saved from one photo edits another: latentjac basis A.jpg --out a, then
    latentjac edit B.jpg --basis a/basis.safetensors.
    """
    run = RunFolder(out, "edit", locals())
    distance = distance or ("-120,-60,60,120" if method == "h-space" else "-6,-3,3,6")
    distances, chosen = _numbers(distance, distinct=not compose), _indices(direction)
    box = _box(crop)
    if method not in METHODS:  # before minutes go by
        raise ValueError(f"--method: expected one of {list(METHODS)}, got {method!r}")
    drawn = None if mask is None else open_image(mask)
    loaded = latentjac.LocalBasis.load(basis) if basis else None
    if loaded is not None:
        if max(chosen) >= loaded.k:
            raise ValueError(f"--direction: expected numbers in [1, {loaded.k}] ({basis}), got {direction!r}")
        # The basis says which grid and which point it belongs to.
        steps = loaded.metadata.get("num_inference_steps", steps)
    inverted = stages.invert_photo(run, model, device, photo, box, steps, refinement)
    inside = None if drawn is None else stages.read_mask(drawn, photo, box, inverted.model.sample_shape[-1])
    if loaded is None:
        layer = layer or ("mid" if inside is None or method == "h-space" else "x0")
        part = inside if layer in ("x0", "eps") else None
        point, loaded = stages.compute_basis(run, inverted, t, max(chosen) + 1, layer, tol, seed, part)
    else:
        point = stages.point_of(run, inverted, loaded, t)
        layer = layer or loaded.metadata.get("layer")
    result = stages.edit_and_draw(
        run, inverted, point, loaded, chosen, distances, edit_steps, method=method, mask=inside, null_rank=null_rank,
        null_energy=null_energy, compose=compose, reestimate=reestimate, k=k, layer=layer, inject=inject,
    )  # fmt: skip
    if compose:
        run.picture("composed.png", f"directions {direction}, distances {distance}", result.images[0])
    else:
        for row, i in enumerate(chosen):
            for column, d in enumerate(result.distances):
                name = f"direction{i + 1}_{d:+g}.png"
                run.picture(name, f"direction {i + 1}, distance {d:+g}", result.image(row, column))
    run.finish()


@app.command("basis")
def basis_command(
    photo: Photo,
    out: Out = Path("latentjac-basis"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
    t: T = 0.7,
    k: K = 8,
    layer: Layer = "mid",
    tol: Tol = 1e-3,
    seed: Seed = 0,
) -> None:
    """Compute the local basis of a photo at one noise level and save it."""
    run = RunFolder(out, "basis", locals())
    inverted = stages.invert_photo(run, model, device, photo, _box(crop), steps, refinement)
    stages.compute_basis(run, inverted, t, k, layer, tol, seed)
    run.finish()


@app.command()
def invert(
    photo: Photo,
    out: Out = Path("latentjac-invert"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
) -> None:
    """Invert a photo to noise, go back, and say how well that worked."""
    from safetensors.torch import save

    from latentjac.files import write_bytes
    from latentjac.report import Row, contact_sheet

    run = RunFolder(out, "invert", locals())
    inverted = stages.invert_photo(run, model, device, photo, _box(crop), steps, refinement)
    path, decode = inverted.trajectory, inverted.model.codec.decode
    levels = [round(i * (len(path.samples) - 1) / 5) for i in range(6)]
    pictures = [to_pil(decode(path.samples[level]))[0] for level in levels]
    captions = [f"t = {path.schedule.timesteps[i - 1] if i else 0}" for i in levels]
    back = to_pil(decode(path.reconstruction))[0]
    rows = [
        Row("inversion", f"{steps} steps", pictures, captions),
        Row("reconstruction", f"{path.psnr[0]:.1f} dB", [inverted.photo, back], ["photo", "reconstruction"]),
    ]
    run.picture("sheet.png", "the photo on its way to noise, and back", contact_sheet(rows))
    run.picture("reconstruction.png", "the reconstruction", back)
    samples = {"samples": path.samples[:, 0].cpu().contiguous()}
    write_bytes(run.target("trajectory.safetensors", "noisy samples at every level, the image first"), save(samples))
    run.finish()


@app.command()
def info() -> None:
    """Say what is installed and built in, and run the self-test of the kernels."""
    from latentjac import kernels
    from latentjac.report import versions

    for name, value in versions().items():
        print(f"{name:<18} {value}")
    print(f"{'models':<18} {', '.join(latentjac.builtin_models()) or 'none'}\n")
    for name, value in asdict(kernels.build_info()).items():
        if value != "":
            shown = ", ".join(value) if isinstance(value, tuple) else value
            print(f"{name.replace('_', ' '):<18} {shown}")
    results = kernels.self_test()
    failed = [result for result in results if not result[1]]
    print(f"\nself-test: {len(results) - len(failed)} of {len(results)} checks of the kernels passed")
    for name, _, error in failed:
        print(f"  FAIL  {name}  (error {error:.1e})")
    if failed:
        raise typer.Exit(1)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(latentjac.__version__)
        raise typer.Exit


def _numbers(text: str, distinct: bool = True) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    repeated = distinct and len({f"{n:g}" for n in numbers}) < len(numbers)
    if not numbers or not all(map(math.isfinite, numbers)) or repeated:
        raise ValueError(f"--distance: expected different comma-separated numbers, got {text!r}")
    return numbers


def _indices(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) >= 1 for part in parts):
        raise ValueError(f"--direction: expected comma-separated numbers from 1, got {text!r}")
    return [int(part) - 1 for part in parts]


def _box(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().lstrip("-").isdigit() for part in parts):
        raise ValueError(f"--crop: expected 'left,top,right,bottom' in pixels, got {text!r}")
    left, top, right, bottom = (int(part) for part in parts)
    return left, top, right, bottom


def run() -> None:
    """Run the application; errors a user can mend become one line and exit status 2."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *args, **kwargs: print(f"warning: {message}", file=sys.stderr)
            app()
    except (ValueError, TypeError, OSError, ImportError, latentjac.LoadError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
