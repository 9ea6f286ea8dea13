"""``latentjac slider``: directions with a calibrated scale, made from one photo and applied to others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentjac.cli import values
from latentjac.cli.edit_method import METHODS
from latentjac.cli.options import (
    STEPS_BELOW,
    Crop,
    Device,
    Grid,
    ModelConfig,
    ModelName,
    Out,
    Photo,
    Prompt,
    Residual,
    Seed,
    Solver,
    Tol,
    help_without_command,
    option,
    parse_crop,
)
from latentjac.cli.refusals import Refusal, refusing
from latentjac.edit_options import CHANGE

if TYPE_CHECKING:
    import torch

    from latentjac.cli.photo import Picture
    from latentjac.cli.run_folder import RunFolder
    from latentjac.cli.stages import Inverted
    from latentjac.editing import Applied, Carry, Mask, Slider

app = typer.Typer(
    rich_markup_mode=None,
    add_help_option=False,
    help="Directions with a scale: at value 1 every picture changes by the same stated amount, at -1 by as much the "
    "other way. A slider is one file, made from one photo and applied to any others.",
)
app.callback(invoke_without_command=True)(help_without_command)

CARRIES = ("as-is", "transported", "words")
FILE = "slider.safetensors"


@app.command("make", short_help="Make a slider of a direction at a photo.")
def make(
    context: typer.Context,
    photo: Photo,
    direction: Annotated[
        str, option("--direction", values.indices, help="Which direction of the basis; the first, strongest one is 1.")
    ] = "1",
    basis: Annotated[
        Path | None,
        option(
            "--basis",
            values.file,
            "a basis file (basis.safetensors)",
            help="Saved basis to take the direction from; default: computed from the photo.",
        ),
    ] = None,
    words: Annotated[
        str | None,
        option(
            "--from-words",
            values.name,
            "a prompt",
            help="For models with text, instead of a basis: prompt to go to, such as 'a smiling face'; default: none.",
        ),
    ] = None,
    away: Annotated[
        str | None,
        option(
            "--away",
            values.sentence,
            help="With --from-words: prompt to come from, such as 'a face'; default: --prompt.",
        ),
    ] = None,
    before: Annotated[
        Path | None,
        option(
            "--before",
            values.file,
            "a picture file",
            help="With --after, instead of a basis: a picture without what the slider is to add; default: none.",
        ),
    ] = None,
    after: Annotated[
        Path | None,
        option("--after", values.file, "a picture file", help="The same picture with it; default: none."),
    ] = None,
    change: Annotated[
        float,
        option("--change", values.number, 0, 1, help="RMS change of the picture at value 1, of 1 from black to white."),
    ] = CHANGE,
    carry: Annotated[
        str,
        option(
            "--carry",
            values.choice,
            CARRIES,
            help="How the direction comes to other photos: as-is; transported, by way of the features of mid; words, "
            "found anew from --from-words.",
        ),
    ] = CARRIES[0],
    method: Annotated[
        str,
        option(
            "--method",
            values.choice,
            tuple(METHODS),
            help="guidance follows differences of the predicted noise; linear goes straight on; geodesic goes "
            "straight on in the geometry of --layer; h-space adds to the output of --layer.",
        ),
    ] = "guidance",
    mask: Annotated[
        Path | None,
        option(
            "--mask",
            values.file,
            "a picture file",
            help="Picture, white where the slider is to act, of the photo's size or the model's; --change is then that "
            "inside; default: no mask.",
        ),
    ] = None,
    out: Out = Path("latentjac-slider"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Annotated[
        int | None,
        option(
            "--steps",
            values.whole,
            1,
            help=f"Steps between photo and noise, at most T (often 1000); default: those of --basis, or {STEPS_BELOW}.",
        ),
    ] = None,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    t: Annotated[
        float | None,
        option(
            "--t", values.number, 0, 1, ends=True, what="a fraction of T",
            help="Noise level of the slider, a fraction of T: 1 is pure noise; default: that of --basis, or 0.7.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        option(
            "--layer",
            values.name,
            "a feature map",
            help="Feature map of basis and method: mid (h-space), a module name, eps, x0 or image; default: mid, or x0 "
            "with --mask.",
        ),
    ] = None,
    tol: Tol = 1e-3,
    seed: Seed = 0,
    prompt: Prompt = None,
    config: ModelConfig = None,
) -> None:  # fmt: skip
    """Make a slider of a direction at a photo.

    The direction is one of a basis, or leads from one prompt to another (--from-words), or from one picture to another
    (--before, --after). Then: latentjac slider apply latentjac-slider/slider.safetensors PHOTO.jpg OTHER.jpg
    """
    arguments = dict(locals())
    for name, expected, file in (
        ("PHOTO", "a picture file", photo),
        ("--basis", "a basis file", basis),
        ("--before", "a picture file", before),
        ("--after", "a picture file", after),
        ("--mask", "a picture file", mask),
    ):
        values.check_file(name, expected, file)
    from latentjac import editing
    from latentjac.cli import checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import fit_mask, open_mask, read_photo
    from latentjac.cli.run_folder import open_run
    from latentjac.cli.saved_basis import check_basis, open_basis, place_of_basis
    from latentjac.editing.masks import OUTPUT_LAYERS

    chosen = values.parse_indices("--direction", direction)
    if len(chosen) != 1:
        raise values.refusal("--direction", "one direction", direction)
    _check_source(basis, words, away, before, after, carry)
    built = getattr(editing, METHODS[method])()
    if built.in_features and (words is not None or before is not None):
        raise Refusal(f"--method must be guidance, linear or geodesic for a direction of samples, got {method}")
    saved = None
    if basis is not None:
        saved = open_basis(basis, chosen, {"--tol": (tol, 1e-3), "--seed": (seed, 0)})
        steps, t = place_of_basis(saved, steps, t)
    steps, t = STEPS_BELOW if steps is None else steps, 0.7 if t is None else t
    how = inversion_of(steps, t, grid, solver, None)
    run = open_run(context, out, "slider make", {**arguments, "steps": steps, "t": t})
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    pair = [read_photo(name, file, None) for name, file in (("--before", before), ("--after", after)) if file]
    drawn = None if mask is None else open_mask(mask, picture)
    loaded = stages.load_model(run, model, device, config=config)
    under = checks.check_prompts(loaded, prompt)
    if words is not None:
        with refusing(prompt="--from-words"):
            loaded.conditioning(words)
    _, height, width = loaded.sample_shape
    inside = None if drawn is None else fit_mask(drawn, picture, (height, width), loaded.codec.size)
    if layer is None:
        own = None if saved is None else saved.metadata.get("layer")
        layer = own or ("mid" if inside is None or built.in_features else "x0")
    built = checks.at_layer(loaded, built, layer)
    place = checks.check_place(loaded, how, t, built.layer_in(loaded))
    area = checks.check_mask(inside, {}, loaded.sample_shape[0], built)
    if saved is not None:
        check_basis(loaded, saved, place, built)
    part = inside if place.layer in OUTPUT_LAYERS else None
    if saved is None and words is None and not pair:
        count = place.triplets if part is None else loaded.sample_shape[0] * int(part.sum())
        checks.check_directions(chosen, count, "the singular triplets of --layer")

    inverted = stages.invert_photo(run, loaded, picture, how, conditioning=under)
    point, others = inverted.trajectory.at(t), None
    if words is not None:
        with run.timed("finding the direction of the words"), refusing(prompt="--from-words", away="--away"):
            v = editing.word_direction(loaded, point, words, away, mask=area)
    elif pair:
        v = _of_pair(run, inverted, pair, how, under, t, area)
    else:
        if saved is None:
            _, saved = stages.compute_basis(run, inverted, t, chosen[0] + 1, place.layer, tol, seed, part)
        v = (saved.u if built.in_features else saved.v)[chosen[0]]
        others = None if built.in_features else saved
    brought = _carry(carry, words, away)
    made = _made(run, inverted, point, v, change=change, method=built, carry=brought, mask=area, others=others)
    made.save(run.target(FILE, "the slider"))
    _describe(run, made)
    run.finish()


def _check_source(
    basis: Path | None, words: str | None, away: str | None, before: Path | None, after: Path | None, carry: str
) -> None:
    """Raise where a direction is asked for in two ways, or in half of one."""
    if (before is None) != (after is None):
        missing, there = ("--before", after) if before is None else ("--after", before)
        raise Refusal(f"{missing} must be given with the other picture of the pair, {there}, got none")
    given = {"--basis": basis, "--from-words": words, "--before": before}
    several = [name for name, value in given.items() if value is not None]
    if len(several) > 1:
        raise values.refusal(several[1], f"left out with {several[0]}", given[several[1]])
    if away is not None and words is None:
        raise values.refusal("--away", "left out without --from-words", away)
    if carry == "words" and words is None:
        raise values.refusal("--carry", "as-is or transported without --from-words", carry)


def _carry(carry: str, words: str | None, away: str | None) -> Carry:
    """The choice of ``--carry``."""
    from latentjac.editing import AsIs, FromWords, Transported

    if carry == "words":
        assert words is not None
        return FromWords(words, away)
    return Transported() if carry == "transported" else AsIs()


def _of_pair(
    run: RunFolder, inverted: Inverted, pair: list[Picture], how: Any, under: Any, t: float, area: Mask | None
) -> torch.Tensor:
    """The direction from one picture of a pair to the other."""
    import latentjac
    from latentjac.editing import pair_direction

    model = inverted.model
    with run.timed("inverting the pair"), refusing(before="--before", after="--after"):
        pictures: list[Any] = [picture.fitted(model.codec.size).image for picture in pair]
        options: dict[str, Any] = {"t": how.t, "grid": how.grid, "solver": how.solver}
        path = latentjac.invert(model, pictures, how.steps, conditioning=under, **options)
        first, second = path.at(t).split()
        return pair_direction(first, second, mask=area)


def _made(run: RunFolder, inverted: Inverted, point: Any, v: torch.Tensor, **options: Any) -> Slider:
    import latentjac

    with run.timed("calibrating the slider"), refusing(change="--change", carry="--carry", direction="--direction"):
        return latentjac.Slider.make(inverted.model, point, v, progress=True, **options)


def _describe(run: RunFolder, slider: Slider) -> None:
    """Write down what a slider is and print the main numbers."""
    unit = slider.method.unit
    run.record["slider"] = {
        "change": slider.change, "values": slider.values, "distances": slider.distances, "changes": slider.changes,
        "linear": slider.linear, "cosines": slider.cosines, "leakage": slider.leakage, "others": slider.others,
        "unit": unit, "carry": str(slider.carry), "method": str(slider.method),
    }  # fmt: skip
    picture = slider.picture
    assert picture is not None
    run.picture("sheet.png", "the photo at -1, -1/2, 0, 1/2 and 1", picture)
    low, high = slider.distances[0], slider.distances[-1]
    print(f"slider: -1 to 1 is {low:+.3g} to {high:+.3g} {unit}, an RMS change of {slider.change:g} at both ends")
    if slider.linear is not None:
        print(f"slider: the network is linear from {slider.linear[0]:+.2f} to {slider.linear[1]:+.2f}")
    if slider.leakage is not None:
        print(f"slider: changes outside the mask are up to {max(slider.leakage):.2g} of those inside (RMS)")


@app.command("apply", short_help="Apply a slider to photos.")
def apply(
    context: typer.Context,
    slider: Annotated[
        Path,
        typer.Argument(
            parser=values.file("SLIDER", "a slider file"),
            metavar="SLIDER",
            help="File that latentjac slider make wrote (slider.safetensors).",
        ),
    ],
    photo: Annotated[
        list[Path],
        typer.Argument(
            parser=values.file("PHOTO", "a picture file"),
            metavar="PHOTO",
            help="Picture files, one or several: any format, mode, size and EXIF orientation.",
        ),
    ],
    at: Annotated[
        str,
        option("--values", values.numbers, -1, 1, help="Values from -1 to 1, comma-separated; 0 changes nothing."),
    ] = "-1,-0.5,0.5,1",
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Find the scale of every photo anew, so that a value changes all by the same amount; about three "
            "times as long.",
        ),
    ] = True,
    residual: Residual = True,
    out: Out = Path("latentjac-slider-apply"),
    model: Annotated[
        str | None,
        option(
            "--model", values.name, "a model",
            help="Where the model of the slider is, if its name alone does not say: pipeline folder or hub id; "
            "default: its name.",
        ),
    ] = None,
    device: Device = "auto",
    config: ModelConfig = None,
) -> None:  # fmt: skip
    """Apply a slider to photos.

    They are inverted as the photo of the slider was, and edited side by side.
    """
    arguments = {name: value for name, value in locals().items() if name != "photo"}
    arguments["photos"] = ", ".join(map(str, photo))
    values.check_file("SLIDER", "a slider file", slider)
    for file in photo:
        values.check_file("PHOTO", "a picture file", file)
    wanted = values.parse_numbers("--values", at, -1, 1)
    values.check_different("--values", wanted, at)
    from latentjac import Slider
    from latentjac.cli import stages
    from latentjac.cli.inversion import Inversion
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run
    from latentjac.editing.applying import grid_of

    with refusing(path="SLIDER"):
        read = Slider.load(slider)
    run = open_run(context, out, "slider apply", arguments)
    pictures = [read_photo("PHOTO", file, None) for file in photo]
    loaded = stages.load_model(run, model or read.metadata["model"], device, config=config)
    with refusing(model="--model", point="SLIDER"):
        read.check_model("apply", loaded)
        grid = grid_of(loaded, read.schedule)
    how = Inversion(read.schedule.num_inference_steps, read.schedule.until, grid, read.schedule.solver)
    under = read.conditioning.to(loaded.device)
    inverted = [stages.invert_photo(run, loaded, picture, how, conditioning=under) for picture in pictures]
    points = [each.trajectory.at(timestep=read.schedule.timesteps[read.level]) for each in inverted]
    photos = [each.photo for each in inverted] if residual else None
    with run.timed("editing"), refusing():
        applied = read.apply(loaded, points, wanted, calibrate=calibrate, photo=photos, progress=True)
    assert isinstance(applied, list)
    _write_applied(run, read, inverted, pictures, applied)
    run.finish()


def _write_applied(
    run: RunFolder, slider: Slider, inverted: list[Inverted], pictures: list[Picture], applied: list[Applied]
) -> None:
    """The sheet, every picture, and what was measured."""
    from latentjac.report import Row, contact_sheet

    rows, record = [], []
    for number, (source, picture, each) in enumerate(zip(inverted, pictures, applied, strict=True), 1):
        captions = ["photo", *(f"{value:+g}" for value in each.values)]
        linear = "" if each.linear is None else f"linear {each.linear[0]:+.2f} to {each.linear[1]:+.2f}"
        rows.append(Row(picture.file.stem[:24], linear, [source.photo, *each.images], captions))
        record.append({
            "photo": str(picture.file), "distances": each.edit.distances, "changes": each.changes.tolist(),
            "linear": each.linear, "retained": each.retained,
        })  # fmt: skip
        for value, image in zip(each.values, each.images, strict=True):
            run.picture(f"photo{number}_{value:+g}.png", f"photo {number} at {value:+g}", image)
        changes = ", ".join(f"{change:.3f}" for change in each.changes.tolist())
        print(f"photo {number}: RMS changes {changes} at values {', '.join(f'{v:+g}' for v in each.values)}")
    run.record["applied"] = {"values": list(applied[0].values), "change at 1": slider.change, "photos": record}
    heading = f"At value 1 every picture changes by {slider.change:g} (RMS)"
    run.picture("sheet.png", "every photo, and what the slider makes of it", contact_sheet(rows, heading=heading))
