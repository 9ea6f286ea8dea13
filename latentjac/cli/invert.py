"""``latentjac invert``: a photo taken to noise and back."""

from __future__ import annotations

from pathlib import Path

import typer
from safetensors.torch import save

from latentjac.cli import stages
from latentjac.cli.options import Crop, Device, ModelName, Out, Photo, Prompt, Refinement, Steps, parse_box
from latentjac.cli.run_folder import open_run
from latentjac.files import write_bytes
from latentjac.models import to_pil
from latentjac.report import Row, contact_sheet


def invert(
    context: typer.Context,
    photo: Photo,
    out: Out = Path("latentjac-invert"),
    model: ModelName = "faces",
    device: Device = "auto",
    crop: Crop = None,
    steps: Steps = 100,
    refinement: Refinement = 1,
    prompt: Prompt = None,
) -> None:
    """Invert a photo to noise, go back, and say how well that worked."""
    run = open_run(context, out, "invert", locals())
    inverted = stages.invert_photo(run, model, device, photo, parse_box(crop), steps, refinement, prompt=prompt)
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
