"""``latentjac explore``: a web application on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentjac.cli import values
from latentjac.cli.options import (
    STEPS,
    ClassLabel,
    Device,
    Grid,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelSize,
    Refinement,
    Seed,
    Solver,
    Steps,
    Tol,
    option,
)
from latentjac.cli.pictures import NO_PICTURES, Pictures, with_pictures

if TYPE_CHECKING:
    from latentjac.models import Conditioning, Model, PreparedImage
    from latentjac.models.prepare import Box


@with_pictures
def explore(
    model: Annotated[
        str,
        typer.Argument(
            parser=values.name("MODEL", "a model"),
            metavar="MODEL",
            help="Built-in name (such as faces), diffusers pipeline folder or hub id.",
        ),
    ] = "faces",
    port: Annotated[
        int | None,
        option("--port", values.whole, 1024, 65535, help="Port of the page; default: the first free one from 7860."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    share: Annotated[
        bool,
        typer.Option(
            "--share",
            help="Give the page a public address for 72 hours, too, through a server of Gradio: anybody "
            "who has it can use this machine. Without it the page is for this machine alone.",
        ),
    ] = False,
    device: Device = "auto",
    steps: Steps = STEPS,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    refinement: Refinement = None,
    tol: Tol = 1e-2,
    seed: Seed = 0,
    class_label: ClassLabel = None,
    size: ModelSize = None,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
    pictures: Pictures = NO_PICTURES,
) -> None:
    """Look at directions in a browser: drop a photo, choose a noise level, move sliders.

    The page is served to this machine alone and asks nothing of any other; Ctrl-C ends it.
    """  # fmt: skip
    import tempfile

    from latentjac.explore.environment import settle

    with tempfile.TemporaryDirectory(prefix="latentjac-explore-") as folder:
        settle(Path(folder))
        from latentjac.cli import checks, stages
        from latentjac.cli.inversion import inversion_of
        from latentjac.explore import Shared
        from latentjac.explore.serve import serve, wait

        how = inversion_of(steps, 1.0, grid, solver, refinement)
        pictures.check_files()
        loaded = stages.open_model(model, device, size, config, lora, ip_adapter, "MODEL")
        checks.check_steps(loaded, how)

        under = _conditioning(loaded, class_label, pictures)
        options = {"grid": how.grid, "solver": how.solver}
        shared = Shared(loaded, steps, tol, seed, options, under, Path(folder))
        page = serve(shared, port=port, share=share, browser=browser)
        print(f"latentjac explore: {page.blocks.local_url} (Ctrl-C ends it)", flush=True)
        if page.blocks.share_url:
            print(f"for everybody: {page.blocks.share_url}", flush=True)
        wait(page)


def _conditioning(
    model: Model, class_label: int | None, pictures: Pictures
) -> Callable[[PreparedImage, Box, str | None], Conditioning]:
    """What a photo, its box and a prompt are inverted under; raise now where it would for any photo."""
    from PIL import Image

    from latentjac.cli import beside
    from latentjac.cli.photo import Picture
    from latentjac.cli.refusals import Refusal
    from latentjac.models import PreparedImage
    from latentjac.models.prepare import crop_image

    def asked(photo: PreparedImage, box: Box, prompt: str | None) -> Conditioning:
        picture = Picture(Path("photo"), photo.image.size, box, crop_image(photo, box, "crop"))
        return beside.read_beside(picture, pictures).conditioning(model, prompt, class_label)

    def under(photo: PreparedImage, box: Box, prompt: str | None) -> Conditioning:
        try:
            return asked(photo, box, prompt)
        except Refusal as error:
            raise ValueError(str(error)) from error

    height, width = model.codec.size
    asked(PreparedImage(Image.new("RGB", (width, height))), (0, 0, width, height), None)
    return under
