"""Edits of an image along directions at one point of its trajectory."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from latentjac.arguments import check_bool, check_int
from latentjac.compat import find_preset
from latentjac.diffusion import Point, denoise, place
from latentjac.diffusion.arguments import check_model
from latentjac.diffusion.park2023 import check_park2023
from latentjac.editing.arguments import (
    Job,
    Options,
    check_composed,
    check_distances,
    check_options,
    choose_layer,
    unit_directions,
)
from latentjac.editing.diagnostics import features, leakage
from latentjac.editing.h_space import edit_h_space
from latentjac.editing.masks import MaskInput, as_mask, check_rank
from latentjac.editing.pullback import edit_as_published
from latentjac.editing.result import Edit
from latentjac.editing.x_space import edit_x_space
from latentjac.models import Model, to_pil
from latentjac.public import public
from latentjac.solvers.building import building


@public
@torch.no_grad()
def edit(
    model: Model,
    point: Point,
    directions: torch.Tensor,
    distance: float | Sequence[float] = 3.0,
    num_steps: int = 16,
    *,
    method: str = "guidance",
    prompt: str | None = None,
    compose: bool = False,
    mask: MaskInput | None = None,
    null_rank: int | None = None,
    null_energy: float | None = None,
    reestimate: int | None = None,
    transport: str = "paper",
    k: int = 8,
    tol: float = 1e-2,
    layer: str | None = None,
    linearity_tolerance: float = 0.1,
    inject: str = "below",
    asymmetric: bool = False,
    compat: str | None = None,
    gain: float | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Edit:
    """Move a noisy sample along directions, then make images by deterministic DDIM.

    A distance is the way the noisy sample travels, in standard deviations ``sqrt(1 - alpha_bar_t)`` of the
    noise at the point. Noise itself varies by 1 along any direction there, so a distance means the same for
    every image and timestep. With ``"h-space"`` it is the way of the features, in standard deviations of their
    entries at the point. docs/editing.md has the formulas.

    Steps of ``"guidance"`` and ``"geodesic"`` longer than the range in which the network is linear along a
    direction are split: ``num_steps`` in the result can be larger than asked for. An option that the method has no
    use for is refused unless it is left at its default.

    Args:
        model: The model.
        point: Where to edit, from ``invert(...).at(t)``; one sample.
        directions: ``[C, H, W]`` or ``[q, C, H, W]``, such as ``basis.v``; any length, used as unit directions.
            With ``"h-space"``, of the shape of the layer's output, such as ``basis.u``.
        distance: Signed distance, or several, of less than 10,000; 0 gives the reconstruction.
        num_steps: Least number of steps of a walk, at most 1000; ``"h-space"`` takes none.
        method: ``"guidance"`` (differences of the predicted noise), ``"linear"`` (straight on), ``"geodesic"``
            (straight on in the geometry of ``layer``) or ``"h-space"`` (added to the output of ``layer``).
        prompt: For models with text, what the walk is under, as in the published code of Park et al. (2023); images are
            made under the conditioning of the point, which is also that of the walk by default. Not with ``"h-space"``.
        compose: Go along all directions at once, each with its own distance, instead of along each alone.
        mask: Where the edit is meant to be: bool tensor or array ``[H, W]`` at sample size, or a PIL image of that
            size (bright is inside). No step takes a direction to which the posterior mean outside listens most,
            and ``leakage`` is measured; with ``"h-space"`` it is only measured.
        null_rank: With a mask, how many such directions, 5 by default, 0 for none; see
            :func:`latentjac.editing.null_space`.
        null_energy: Instead: part of the energy of the Jacobian outside the mask they carry.
        reestimate: With ``"guidance"``, look the direction up in a new local basis every so many steps.
        transport: With ``"geodesic"``, how directions are carried; see :func:`latentjac.geometry.pull_back`.
        k: Directions of the bases of ``"geodesic"`` and ``reestimate``.
        tol: Largest relative residual of those bases, and of the one outside a mask.
        layer: Feature map of those bases, of the lengths in ``along`` and of ``"h-space"``; by default ``"mid"``, or
            ``"eps"`` for networks that have no such layer.
        linearity_tolerance: Relative change of the noise difference that still counts as linear.
        inject: With ``"h-space"``, ``"below"`` adds in every step from the point down, ``"point"`` in the first.
        asymmetric: With ``"h-space"``, take only the predicted image from the network with the addition, and the noise
            of each step from the one without (Kwon et al. 2023).
        compat: ``"pullback"`` goes both ways along each direction as the published code of Park et al. (2023) does, at
            a point of its grid: by steps of guidance with a constant gain, with images at every
            ``(num_steps + 1) // 4``-th. ``distances`` in the result are signed numbers of steps; see docs/pullback.md.
        gain: With compat, the gain; by default that of the published scripts, 1 with text and 0.1 without.
        generator: With compat, source of the noise of the last steps; a CPU generator seeded with 0 by default.
        progress: Show a progress bar.

    Returns:
        Images, samples and diagnostics.

    Raises:
        KeyboardInterrupt: On Ctrl-C, also while a basis is computed.
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is out of range, or does not fit the model or the method.
    """
    check_model("edit", model)
    schedule, level = place("edit", model, point)
    fixed = {
        "distance": (distance, 3.0),
        "method": (method, "guidance"),
        "compose": (compose, False),
        "mask": (mask, None),
        "reestimate": (reestimate, None),
    }
    preset = find_preset("edit", compat, fixed)
    if preset:
        check_park2023("edit", model, point)
    if len(point.sample) != 1:
        raise ValueError(f"edit: point must hold one sample, got {len(point.sample)}")
    inside = None if mask is None else as_mask("edit", mask, model)
    options = Options(
        num_steps=num_steps, method=method, prompt=prompt, compose=compose, masked=mask is not None,
        null_rank=null_rank, null_energy=null_energy, reestimate=reestimate, transport=transport, k=k, tol=tol,
        layer=choose_layer(model, layer, method), linearity_tolerance=linearity_tolerance, inject=inject,
        asymmetric=asymmetric, compat=compat, gain=gain, generator=generator,
    )  # fmt: skip
    options = check_options(options)
    if inside is not None:
        check_rank("edit", "null_rank", options.null_rank, ~inside, model)
    if options.method == "geodesic" or options.reestimate is not None:
        check_int("edit", "k", options.k, 1, point.sample.numel())
    distances, progress = check_distances(distance), check_bool("edit", "progress", progress)
    walked = point if options.prompt is None else point.with_prompt(model, options.prompt)
    method = options.method
    space = features(model, point.sample, point, options.layer) if method == "h-space" else point.sample
    rows = unit_directions(directions, space)
    check_composed(rows, distances, options.compose)
    job = Job(model, walked, point.conditioning, schedule, level, rows, distances, options, progress)
    with building("edit") as built:
        if preset:
            made = edit_as_published(job, preset)
        elif method == "h-space":
            made = edit_h_space(job, float(space.double().std()))
        else:
            made = edit_x_space(job, inside)
    pictures = model.codec.decode(made["samples"].flatten(0, 1))
    if inside is not None:
        reference = model.codec.decode(denoise(model, point.sample, schedule, level, point.conditioning))[0]
        made["leakage"] = leakage(pictures, reference, inside).view(made["samples"].shape[:2])
    found = {"images": to_pil(pictures), "distances": distances, "method": method, "layer": options.layer}
    made["status"] = built.status
    return Edit(**{**found, **made})
