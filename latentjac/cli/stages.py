"""The parts that commands are made of: photo, inversion, basis, edit and their pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

import latentjac
from latentjac.cli.edit_method import name_of
from latentjac.cli.inversion import Inversion
from latentjac.cli.photo import Picture
from latentjac.cli.refusals import Refusal, in_options
from latentjac.cli.run_folder import RunFolder
from latentjac.cli.values import parse_adapter, parse_size, refusal
from latentjac.files import write_bytes
from latentjac.models import to_pil
from latentjac.models.codec import NoCodec, PixelCodec, media_of
from latentjac.report import Row, contact_sheet, direction_image, edit_strips, scrubber, spectrum_plot, walk_gif
from latentjac.solvers import SolverState


@dataclass(frozen=True)
class Inverted:
    """A photo that was inverted by a model."""

    model: latentjac.Model
    photo: Image.Image
    trajectory: latentjac.Trajectory


def load_model(
    run: RunFolder,
    source: str,
    device: str,
    size: str | None = None,
    config: str | None = None,
    lora: list[str] | None = None,
    ip_adapter: list[str] | None = None,
) -> latentjac.Model:
    """Load a model as :func:`open_model` does, and write down where it computes."""
    with run.timed("loading the model"):
        model = open_model(source, device, size, config, lora, ip_adapter)
    run.record.update(device=str(model.device), threads=torch.get_num_threads())
    return model


def open_model(
    source: str,
    device: str,
    size: str | None = None,
    config: str | None = None,
    lora: list[str] | None = None,
    ip_adapter: list[str] | None = None,
    option: str = "--model",
) -> latentjac.Model:
    """Load a model of pictures, at a size of ``--size`` if one is given; raise where there is none such.

    Args:
        source: Which.
        device: Where it computes, or ``"auto"``.
        size: Of its pictures.
        config: What belongs to it, if it is a single file.
        lora: Low-rank adapters for it, each a path, with a colon and a scale behind it or not.
        ip_adapter: The same of IP-Adapters.
        option: Where source comes from, for messages.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    count = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
        raise refusal("--device", "one that torch sees", device, f", but torch sees {count or 'no'} GPUs")
    try:
        pixels = None if size is None else parse_size("--size", size)
        given = {"lora": ("--lora", lora), "ip_adapter": ("--ip-adapter", ip_adapter)}
        adapters: dict[str, Any] = {
            name: dict(parse_adapter(flag, text) for text in texts) for name, (flag, texts) in given.items() if texts
        }
        model = latentjac.load(source, device=device, size=pixels, config=config, **adapters)
    except (latentjac.LoadError, ValueError, TypeError, OSError) as error:
        message = in_options(str(error), {"source": option})
        message = message.replace("None unless source is", f"left out unless {option} is")
        if not message.startswith(("--", option)):
            message = str(refusal(option, "one that can be loaded", source, f": {message}"))
        raise Refusal(message) from error
    media = media_of(model)
    if media != PixelCodec.media:
        what = f"are {media}"
        if media == NoCodec.media:
            what = f"have {model.sample_shape[0]} channels and no autoencoder"
        raise refusal(option, "one of pictures", source, f", whose samples {what}")
    return model


def describe_model(model: latentjac.Model) -> dict[str, Any]:
    """What tells a model from others in a record."""
    return {"name": model.name, "identity": model.identity(), "sample_shape": list(model.sample_shape)}


def invert_photo(
    run: RunFolder,
    model: latentjac.Model,
    picture: Picture,
    how: Inversion,
    compat: str | None = None,
    conditioning: latentjac.Conditioning | None = None,
) -> Inverted:
    """Fit the photo to the model, invert it and say how well that went."""
    prepared = picture.fitted(model.codec.size)
    for note in prepared.notes:
        print(f"photo: {note}")
    with run.timed("inverting the photo"):
        if compat is None:
            options: dict[str, Any] = {"t": how.t, "grid": how.grid, "solver": how.solver}
            trajectory = latentjac.invert(
                model, prepared.image, how.steps, conditioning=conditioning, progress=True, **options
            )
        else:
            paper = getattr(latentjac.papers, compat)
            trajectory = paper.invert(model, prepared.image, how.steps, conditioning=conditioning, progress=True)
    status = trajectory.status[0]
    print(f"reconstruction: {trajectory.psnr[0]:.1f} dB ({trajectory.evaluations} network evaluations, {status.value})")
    run.record.update(
        model=describe_model(model),
        photo={"file": str(picture.file), "notes": prepared.notes},
        psnr_db=round(trajectory.psnr[0], 3),
        inversion=status.value,
    )
    return Inverted(model, prepared.image, trajectory)


def draw_inversion(run: RunFolder, inverted: Inverted, steps: int) -> None:
    """Write the way to noise and back, as pictures and as samples."""
    path, decode = inverted.trajectory, inverted.model.codec.decode
    levels = [round(i * (len(path.samples) - 1) / 5) for i in range(6)]
    pictures = [to_pil(decode(path.samples[level]))[0] for level in levels]
    captions = [f"t = {path.schedule.timesteps[i]}" for i in levels]
    back = to_pil(decode(path.reconstruction))[0]
    rows = [
        Row("inversion", f"{steps} steps", pictures, captions),
        Row("reconstruction", f"{path.psnr[0]:.1f} dB", [inverted.photo, back], ["photo", "reconstruction"]),
    ]
    run.picture("sheet.png", "the photo on its way to noise, and back", contact_sheet(rows))
    run.picture("reconstruction.png", "the reconstruction", back)
    path.save(run.target("trajectory.safetensors", "noisy samples at every level, the image first"))


def compute_basis(
    run: RunFolder,
    inverted: Inverted,
    t: float,
    k: int,
    layer: str,
    tol: float,
    seed: int,
    mask: torch.Tensor | None = None,
    compat: str | None = None,
    prompt: str | None = None,
) -> tuple[latentjac.Point, latentjac.LocalBasis]:
    """Local basis at a point of the trajectory, saved with its spectrum; of an output's part where there is a mask.

    With a prompt the basis is that under it; the point that is handed back is as the photo was inverted.
    """
    point = inverted.trajectory.at(t)
    seen = point if prompt is None else point.with_prompt(inverted.model, prompt)
    with run.timed("computing the local basis"), tqdm(total=k, desc="local basis", unit="triplet") as bar:

        def show(state: SolverState) -> None:
            bar.n = state.converged
            bar.set_postfix(passes=state.passes, residual=f"{state.residuals.max().item():.1e}")

        generator = torch.Generator().manual_seed(seed)
        options: dict[str, Any] = {"layer": layer, "generator": generator, "callback": show}
        if compat is not None:
            basis = getattr(latentjac.papers, compat).local_basis(inverted.model, seen, k, **options)
        elif mask is None:
            basis = latentjac.local_basis(inverted.model, seen, k, tol=tol, **options)
        else:
            basis = latentjac.editing.masked_basis(inverted.model, seen, mask, k, tol=tol, **options)
    if basis.status is latentjac.Status.INTERRUPTED:
        raise KeyboardInterrupt
    run.record["seed"] = seed
    run.record["basis"] = {
        "layer": layer,
        "timestep": point.timestep,
        "status": basis.status.value,
        "singular_values": basis.s.tolist(),
        "residuals": basis.residuals.tolist(),
        "jvps": basis.jvps,
        "vjps": basis.vjps,
    }
    basis.save(run.target("basis.safetensors", "the local basis: singular values, directions, residuals"))
    title = f"local basis at t = {point.t:.2f}, layer {layer!r}"
    run.picture("spectrum.png", "its singular values and residuals", spectrum_plot(basis, title))
    rows = [Row(f"direction {i + 1}", f"s = {basis.s[i]:.3g}", [direction_image(basis.v[i])]) for i in range(basis.k)]
    run.picture("directions.png", "the directions as images", contact_sheet(rows, cell=96))
    print(f"basis: {basis}")
    return point, basis


def with_noise(method: latentjac.editing.Method, seed: int) -> latentjac.editing.Method:
    """A method as it is published, with a source of the noise of its last steps."""
    return replace(method, generator=torch.Generator().manual_seed(seed))  # type: ignore[type-var, call-arg]


def point_of(run: RunFolder, inverted: Inverted, basis: latentjac.LocalBasis, t: float) -> latentjac.Point:
    """The point of this photo that corresponds to the one a saved basis was computed at."""
    run.record["basis"] = {
        **basis.metadata, "singular_values": basis.s.tolist(), "residuals": basis.residuals.tolist()
    }  # fmt: skip
    return inverted.trajectory.at(t)


def edit_and_draw(
    run: RunFolder,
    inverted: Inverted,
    point: latentjac.Point,
    basis: latentjac.LocalBasis,
    chosen: list[int],
    distances: list[float] | None,
    method: latentjac.editing.Method,
    *,
    mask: latentjac.editing.Mask | None = None,
    compose: bool = False,
    residual: bool = False,
) -> latentjac.Edit:
    """Edit along chosen directions and draw the contact sheet; distances of None are left to the method."""
    options: dict[str, Any] = {"mask": mask, "compose": compose, "progress": True}
    if residual:
        options["photo"] = inverted.photo
    if distances is not None:
        options["distance"] = distances
    with run.timed("editing"):
        directions = (basis.u if method.in_features else basis.v)[chosen]
        edit = latentjac.edit(inverted.model, point, directions, method=method, **options)
    _record_edit(run, edit, chosen)
    sheet = draw_sheet(inverted, point, basis, edit, chosen, None if mask is None else mask.pixels)
    run.picture("sheet.png", "the photo, its reconstruction and every direction walked both ways", sheet)
    return edit


def write_edits(
    run: RunFolder, edit: latentjac.Edit, chosen: list[int], directions: str, distances: str, *, compose: bool
) -> None:
    """Write every edited picture."""
    if compose:
        run.picture("composed.png", f"directions {directions}, distances {distances}", edit.images[0])
        return
    for row, i in enumerate(chosen):
        for column, d in enumerate(edit.distances):
            run.picture(f"direction{i + 1}_{d:+g}.png", f"direction {i + 1}, distance {d:+g}", edit.image(row, column))


def _record_edit(run: RunFolder, edit: latentjac.Edit, chosen: list[int]) -> None:
    """Write down what was measured and print the main numbers."""
    along, linearity = edit.along, edit.linearity
    assert along is not None
    assert linearity is not None
    run.record["edit"] = {
        "method": name_of(edit.method),
        "unit": edit.unit,
        "directions": [i + 1 for i in chosen],
        "distances": list(edit.distances),
        "num_steps": edit.num_steps,
        "linear_up_to": [entry.radius for entry in linearity],
        "path": along.path.tolist(),
        "feature_path": along.feature_path.tolist(),
        "norm_ratio": along.norm_ratio.tolist(),
        "cosine": along.cosine.tolist(),
        **{
            name: values.tolist()
            for name in ("gains", "retained", "overlaps", "leakage")
            if (values := getattr(edit, name)) is not None
        },
    }
    radii = ", ".join(f"{entry.radius:g}" for entry in linearity)
    unit = "feature" if edit.method.in_features else "noise"
    print(f"edit: {edit.num_steps} steps a walk; the network is linear up to {radii} {unit} standard deviations")
    print(f"walks: cosine of the features' steps with their tangents at least {along.cosine.min().item():.3f}")
    if edit.retained is not None:
        print(f"geodesics: every step keeps at least {edit.retained.min().item():.0%} of the direction's energy")
    if edit.leakage is not None:
        print(f"leakage: changes outside the mask are up to {edit.leakage.max().item():.2g} of those inside (RMS)")


def draw_ways(
    run: RunFolder, inverted: Inverted, point: latentjac.Point, edit: latentjac.Edit, frames: int, gif: bool
) -> list[latentjac.editing.Frames]:
    """So many pictures of every direction's way, from its one end to the other; animations of them, if asked for."""
    if not frames:
        return []
    directions = run.record["edit"]["directions"]
    names = [f"direction{i}" for i in directions] if len(edit.samples) == len(directions) else ["composed"]
    path = inverted.trajectory
    known = path.reconstruction if len(path.samples) - 1 == point.level else None
    with run.timed("drawing pictures for sliders"):
        drawn = [
            latentjac.editing.walk_frames(inverted.model, point, edit, row, frames, unmoved=known, progress=True)
            for row in range(len(names))
        ]
    if gif:
        for name, made in zip(names, drawn, strict=True):
            write_bytes(run.target(f"walk_{name}.gif", f"the way of {name} and back"), walk_gif(made.images))
    return drawn


def draw_sliders(
    run: RunFolder,
    inverted: Inverted,
    basis: latentjac.LocalBasis,
    edit: latentjac.Edit,
    chosen: list[int],
    frames: list[latentjac.editing.Frames],
) -> None:
    """Put sliders on the page that go through pictures of every way, or of the edit where there are none."""
    unchanged = unchanged_of(inverted, residual=edit.residual is not None)
    titles, notes = [f"direction {i + 1}" for i in chosen], [f"s = {basis.s[i]:.3g}" for i in chosen]
    if edit.composed:
        titles, notes = [f"directions {', '.join(str(i + 1) for i in chosen)}"], []
    strips = edit_strips(edit, titles, notes, unchanged=unchanged, frames=frames)
    if strips:
        run.sliders = scrubber(strips, original=inverted.photo, original_title="photo")


def unchanged_of(inverted: Inverted, *, residual: bool) -> Image.Image:
    """The picture without an edit: the photo where what the way back misses is added, else the reconstruction."""
    if residual:
        return inverted.photo
    return to_pil(inverted.model.codec.decode(inverted.trajectory.reconstruction))[0]


def draw_sheet(
    inverted: Inverted,
    point: latentjac.Point,
    basis: latentjac.LocalBasis,
    edit: latentjac.Edit,
    chosen: list[int],
    mask: torch.Tensor | None = None,
) -> Image.Image:
    """Contact sheet: the photo, its reconstruction and the mask above; then a row a direction, with a picture of it."""
    back = to_pil(inverted.model.codec.decode(inverted.trajectory.reconstruction))[0]
    psnr = f"{inverted.trajectory.psnr[0]:.1f} dB"
    rows = [Row("input", f"{inverted.model.name}", [inverted.photo, back], ["photo", f"reconstruction, {psnr}"])]
    if mask is not None:
        inside = Image.fromarray(mask.numpy()).resize(back.size)
        faint = Image.blend(back, Image.new("RGB", back.size, "white"), 0.7)
        rows.append(Row("mask", f"{int(mask.sum())} of {mask.numel()}", [Image.composite(back, faint, inside)]))
    captions = [f"{d:+g}" if d else "0" for d in edit.distances]
    if len(edit.images) < len(chosen) * len(captions):
        rows.append(Row("composed", f"of {', '.join(str(i + 1) for i in chosen)}", edit.images, [", ".join(captions)]))
        chosen = []
    for row, i in enumerate(chosen):
        images = [edit.image(row, j) for j in range(len(captions))]
        v = basis.v[i] if edit.method.in_features else edit.directions[row]
        rows.append(Row(f"direction {i + 1}", f"s = {basis.s[i]:.3g}", images, captions, direction_image(v)))
    heading = f"Walks along the local basis at t = {point.t:.2f} (distances in {edit.unit})"
    return contact_sheet(rows, heading=heading)
