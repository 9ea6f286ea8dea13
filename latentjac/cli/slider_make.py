"""``latentjac slider make``: a direction at a photo, with a calibrated scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    STEPS_BELOW,
    BasisFile,
    Crop,
    Device,
    Grid,
    LayerOfEdit,
    MaskFile,
    MethodName,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelName,
    Out,
    Photo,
    Prompt,
    Seed,
    Solver,
    TOfBasis,
    Tol,
    option,
    parse_crop,
)
from latentjac.cli.refusals import Refusal, refusing
from latentjac.edit_options import CHANGE, METHODS

if TYPE_CHECKING:
    from latentjac.editing import Carry

CARRIES = ("as-is", "transported", "words")
FILE = "slider.safetensors"


def make(
    context: typer.Context,
    photo: Photo,
    direction: Annotated[
        str, option("--direction", values.indices, help="Which direction of the basis; the first, strongest one is 1.")
    ] = "1",
    basis: BasisFile = None,
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
        option(
            "--change",
            values.number,
            0,
            1,
            help="RMS change of the picture at value 1, of 1 from black to white; with --mask of the part inside.",
        ),
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
    method: MethodName = "guidance",
    mask: MaskFile = None,
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
    t: TOfBasis = None,
    layer: LayerOfEdit = None,
    tol: Tol = 1e-3,
    seed: Seed = 0,
    prompt: Prompt = None,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
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
    from latentjac.cli import checks, slider_pages, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import fit_mask, open_mask, read_photo
    from latentjac.cli.run_folder import open_run
    from latentjac.cli.slider_source import Site, source_of

    chosen = values.parse_indices("--direction", direction)
    if len(chosen) != 1:
        raise values.refusal("--direction", "one direction", direction)
    source = source_of(chosen[0], tol, seed, basis=basis, words=words, away=away, before=before, after=after)
    brought = _carry(carry, words, away)
    built = getattr(editing, METHODS[method])()
    if built.in_features and source.of_samples:
        raise Refusal(f"--method must be guidance, linear or geodesic for a direction of samples, got {method}")
    steps, t = source.place(steps, t)
    steps, t = STEPS_BELOW if steps is None else steps, 0.7 if t is None else t
    how = inversion_of(steps, t, grid, solver, None)
    run = open_run(context, out, "slider make", {**arguments, "steps": steps, "t": t})
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    source.read()
    drawn = None if mask is None else open_mask(mask, picture)
    loaded = stages.load_model(run, model, device, config=config, lora=lora, ip_adapter=ip_adapter)
    under = checks.check_prompts(loaded, prompt)
    _, height, width = loaded.sample_shape
    inside = None if drawn is None else fit_mask(drawn, picture, (height, width), loaded.codec.size)
    usual = "mid" if inside is None or built.in_features else "x0"
    built = checks.at_layer(loaded, built, layer or source.layer or usual)
    place = checks.check_place(loaded, how, t, built.layer_in(loaded))
    area = checks.check_mask(inside, {}, loaded.sample_shape[0], built)
    site = Site(loaded, how, t, place, built, area)
    source.check(site)

    inverted = stages.invert_photo(run, loaded, picture, how, conditioning=under)
    point = inverted.trajectory.at(t)
    found = source.find(run, inverted, site)
    with run.timed("calibrating the slider"), refusing(change="--change", carry="--carry", direction="--direction"):
        made = editing.Slider.make(
            loaded,
            point,
            found.direction,
            change=change,
            method=built,
            carry=brought,
            mask=area,
            others=found.others,
            photo=inverted.photo,
            progress=True,
        )
    made.save(run.target(FILE, "the slider"))
    slider_pages.describe(run, made)
    slider_pages.draw_made(run, inverted, point, made)
    run.finish()


def _carry(carry: str, words: str | None, away: str | None) -> Carry:
    """The choice of ``--carry``."""
    from latentjac.editing import AsIs, FromWords, Transported

    if carry != "words":
        return Transported() if carry == "transported" else AsIs()
    if words is None:
        raise values.refusal("--carry", "as-is or transported without --from-words", carry)
    return FromWords(words, away)
