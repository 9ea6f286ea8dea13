"""``latentjac slider apply``: a slider applied to photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentjac.cli import values
from latentjac.cli.options import Device, ModelConfig, ModelIPAdapter, ModelLora, Out, Residual, option
from latentjac.cli.refusals import refusing


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
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
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
    from latentjac.cli import slider_pages, stages
    from latentjac.cli.inversion import Inversion
    from latentjac.cli.photo import read_photo
    from latentjac.cli.run_folder import open_run
    from latentjac.editing.applying import grid_of

    with refusing(path="SLIDER"):
        read = Slider.load(slider)
    run = open_run(context, out, "slider apply", arguments)
    pictures = [read_photo("PHOTO", file, None) for file in photo]
    loaded = stages.load_model(
        run, model or read.metadata["model"], device, config=config, lora=lora, ip_adapter=ip_adapter
    )
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
    slider_pages.write_applied(run, read, inverted, pictures, applied, residual=residual)
    run.finish()
