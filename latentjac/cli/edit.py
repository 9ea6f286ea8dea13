"""``latentjac edit``: a photo edited along directions of a basis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latentjac.cli import values
from latentjac.cli.edit_method import PAPERS, build_method, check_mask_flags
from latentjac.cli.options import (
    FRAMES,
    STEPS_BELOW,
    BasisFile,
    ClassLabel,
    Crop,
    Device,
    EditPrompt,
    EditSteps,
    Frames,
    Gif,
    Grid,
    LayerOfEdit,
    MaskFile,
    MethodName,
    ModelConfig,
    ModelIPAdapter,
    ModelLora,
    ModelName,
    ModelSize,
    Out,
    Photo,
    Prompt,
    Refinement,
    Residual,
    Seed,
    Solver,
    TOfBasis,
    Tol,
    option,
    parse_crop,
    parse_distances,
)
from latentjac.cli.pictures import NO_PICTURES, Pictures, with_pictures
from latentjac.edit_options import FARTHEST, INJECTIONS, LARGEST_GAIN, MOST_STEPS, NULL_RANK, K

PUBLISHED_STEPS = 100  # of the published code that --compat names
TRANSPORTS = ("park2023", "pseudoinverse")  # of latentjac.geometry, which imports torch


@with_pictures
def edit(
    context: typer.Context,
    photo: Photo,
    direction: Annotated[
        str, option("--direction", values.indices, help="Directions, comma-separated; the first, strongest one is 1.")
    ] = "1",
    basis: BasisFile = None,
    method: MethodName = "guidance",
    mask: MaskFile = None,
    null_rank: Annotated[
        int | None,
        option(
            "--null-rank",
            values.whole,
            0,
            help=f"With --mask: how many directions of the outside no step takes; default: {NULL_RANK}.",
        ),
    ] = None,
    null_energy: Annotated[
        float | None,
        option(
            "--null-energy",
            values.number,
            0,
            1,
            help="Instead: the part of the energy of the outside's Jacobian they carry, between 0 and 1; no default.",
        ),
    ] = None,
    compose: Annotated[
        bool, typer.Option("--compose", help="Go along all directions at once; --distance has one number for each.")
    ] = False,
    reestimate: Annotated[
        int | None,
        option(
            "--reestimate",
            values.whole,
            1,
            MOST_STEPS,
            help="With guidance: look the direction up in a new basis every so many steps; default: never.",
        ),
    ] = None,
    k: Annotated[
        int,
        option("-k", values.whole, 1, help="Number of directions of the bases that geodesics and --reestimate follow."),
    ] = K,
    compat: Annotated[
        str | None,
        option(
            "--compat",
            values.choice,
            tuple(PAPERS),
            help="park2023: invert, find directions and edit as the published code of Park et al. (2023) does, both "
            "ways along each direction; most other options are fixed then; default: the methods of this package.",
        ),
    ] = None,
    gain: Annotated[
        float | None,
        option(
            "--gain",
            values.number,
            0,
            LARGEST_GAIN,
            help="With --compat: gain of guidance, a factor; default: that of the published scripts, 0.1 or, with "
            "text, 1.",
        ),
    ] = None,
    inject: Annotated[
        str,
        option(
            "--inject",
            values.choice,
            INJECTIONS,
            help="With h-space: add in every step below the point, or only at the point itself.",
        ),
    ] = INJECTIONS[0],
    asymmetric: Annotated[
        bool, typer.Option("--asymmetric", help="With h-space: add for the predicted image only, not for the noise.")
    ] = False,
    transport: Annotated[
        str,
        option(
            "--transport",
            values.choice,
            TRANSPORTS,
            help="With geodesic: carry directions as Park et al. (2023) do, or by the pseudoinverse.",
        ),
    ] = TRANSPORTS[0],
    out: Out = Path("latentjac-edit"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Annotated[
        int | None,
        option(
            "--steps",
            values.whole,
            1,
            help="Steps between photo and noise, at most T (often 1000); default: those of --basis, or "
            f"{STEPS_BELOW}, with --compat 100.",
        ),
    ] = None,
    grid: Grid = "rho",
    solver: Solver = "multistep",
    refinement: Refinement = None,
    t: TOfBasis = None,
    layer: LayerOfEdit = None,
    tol: Tol = 1e-3,
    distance: Annotated[
        str | None,
        option(
            "--distance",
            values.numbers,
            -FARTHEST,
            FARTHEST,
            help="Signed distances, comma-separated: noise standard deviations, default -6,-3,3,6, or with h-space "
            "standard deviations of the features, default -120,-60,60,120.",
        ),
    ] = None,
    edit_steps: EditSteps = None,
    residual: Residual = True,
    gif: Gif = False,
    frames: Frames = FRAMES,
    seed: Seed = 0,
    prompt: Prompt = None,
    edit_prompt: EditPrompt = None,
    class_label: ClassLabel = None,
    size: ModelSize = None,
    config: ModelConfig = None,
    lora: ModelLora = None,
    ip_adapter: ModelIPAdapter = None,
    pictures: Pictures = NO_PICTURES,
) -> None:
    """Edit a photo along directions of its own basis, or of a saved one.

    A basis saved from one photo edits another: latentjac basis A.jpg --out a, then
    latentjac edit B.jpg --basis a/basis.safetensors.
    """
    arguments = dict(locals())
    values.check_file("PHOTO", "a picture file", photo)
    values.check_file("--mask", "a picture file", mask)
    values.check_file("--basis", "a basis file", basis)
    from latentjac.cli import beside, checks, stages
    from latentjac.cli.inversion import inversion_of
    from latentjac.cli.photo import fit_mask, open_mask, read_photo
    from latentjac.cli.run_folder import open_run
    from latentjac.cli.saved_basis import check_basis, open_basis, place_of_basis
    from latentjac.editing.masks import OUTPUT_LAYERS

    checks.check_frames(gif, frames)
    fixed = {
        "--distance": (distance, None), "--method": (method, "guidance"), "--mask": (mask, None),
        "--compose": (compose, False), "--grid": (grid, "rho"), "--solver": (solver, "multistep"),
        "--refinement": (refinement, None), "--residual": (residual, True), "--tol": (tol, 1e-3), "--gif": (gif, False),
    }  # fmt: skip
    checks.check_fixed(compat, fixed)
    options = {
        "num_steps": edit_steps, "prompt": edit_prompt, "reestimate": reestimate, "transport": transport, "k": k,
        "inject": inject, "asymmetric": asymmetric, "gain": gain,
    }  # fmt: skip
    built = build_method(method, compat, options)
    null = {"null_rank": null_rank, "null_energy": null_energy}
    check_mask_flags(built, mask is not None, null)
    distance = distance or ("-120,-60,60,120" if built.in_features else "-6,-3,3,6")
    chosen, distances = _asked_for(direction, distance, compose=compose)
    saved = None
    if basis is not None:
        left = {"--tol": (tol, 1e-3), **({} if compat else {"--seed": (seed, 0)})}
        saved = open_basis(basis, chosen, left)
        steps, t = place_of_basis(saved, steps, t)
    usual = STEPS_BELOW if compat is None else PUBLISHED_STEPS
    steps, t = usual if steps is None else steps, 0.7 if t is None else t
    how = inversion_of(steps, t, grid, solver, refinement)
    pictures.check_files()
    run = open_run(context, out, "edit", {**arguments, "steps": steps, "t": t})
    picture = read_photo("PHOTO", photo, parse_crop(crop))
    given = beside.read_beside(picture, pictures)
    drawn = None if mask is None else open_mask(mask, picture)
    loaded = stages.load_model(run, model, device, size, config, lora, ip_adapter)

    under = checks.check_prompts(loaded, prompt, edit_prompt, class_label, given)
    _, height, width = loaded.sample_shape
    inside = None if drawn is None else fit_mask(drawn, picture, (height, width), loaded.codec.size)
    if saved is not None:
        layer = layer or saved.metadata.get("layer")
    elif layer is None:
        layer = "mid" if inside is None or built.in_features else "x0"
    built = checks.at_layer(loaded, built, layer)
    place = checks.check_place(loaded, how, t, built.layer_in(loaded), compat)
    area = checks.check_mask(inside, null, loaded.sample_shape[0], built)
    part = inside if place.layer in OUTPUT_LAYERS else None
    if method == "geodesic" or reestimate is not None:
        checks.check_count("-k", k, place.triplets)
    if saved is None:
        count = place.triplets if part is None else loaded.sample_shape[0] * int(part.sum())
        checks.check_directions(chosen, count, "the singular triplets of --layer")
    else:
        check_basis(loaded, saved, place, built)

    inverted = stages.invert_photo(run, loaded, picture, how, compat, under)
    if saved is None:
        point, used = stages.compute_basis(
            run, inverted, t, max(chosen) + 1, place.layer, tol, seed, part, compat, edit_prompt
        )
    else:
        point, used = stages.point_of(run, inverted, saved, t), saved
    if compat and not point.conditioning:
        built = stages.with_noise(built, seed)
    asked = None if compat else distances
    result = stages.edit_and_draw(
        run,
        inverted,
        point,
        used,
        chosen,
        asked,
        built,
        mask=area,
        compose=compose,
        residual=residual and compat is None,
    )
    stages.write_edits(run, result, chosen, direction, distance, compose=compose)
    made = stages.draw_ways(run, inverted, point, result, 0 if compat else frames, gif)
    stages.draw_sliders(run, inverted, used, result, chosen, made)
    run.finish()


def _asked_for(direction: str, distance: str, *, compose: bool) -> tuple[list[int], list[float]]:
    """Indices of directions, and distances: each once, or with ``--compose`` one for each direction."""
    chosen, distances = values.parse_indices("--direction", direction), parse_distances(distance, distinct=not compose)
    if compose and len(distances) != len(chosen):
        raise values.refusal("--distance", f"one number for each of {len(chosen)} composed directions", distance)
    if not compose:
        values.check_different("--direction", chosen, direction)
    return chosen, distances
