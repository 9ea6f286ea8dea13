"""Inversion and sampling."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet, build_tiny_unet
from PIL import Image
from safetensors.torch import save_file

import latentjac
from latentjac.diffusion import DDIM, InversionStatus, Own
from latentjac.diffusion.inversion import psnr
from latentjac.strict_json import from_json, to_json
from latentjac.tensor_files import digest, read_header, read_tensors


@pytest.fixture
def picture() -> Image.Image:
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    return Image.fromarray(
        np.stack([np.tile(ramp, (16, 1)), np.tile(ramp[:, None], (1, 16)), np.full((16, 16), 90, np.uint8)], -1)
    )


def test_refinement_solves_the_step_equation(picture) -> None:
    """With enough refinement, a step up and the step down that generation takes are inverse to each other."""
    network = build_shallow_unet(size=16).double()
    network.conv_out.weight.data.mul_(0.1)  # the iteration contracts
    model = latentjac.load(network, build_scheduler())
    rough, fine = (latentjac.invert(model, picture, 30, grid=Own(), solver=DDIM(r)) for r in (0, 12))
    assert fine.psnr[0] > 120
    assert fine.psnr[0] > rough.psnr[0] + 20
    assert (rough.evaluations, fine.evaluations) == (30, 390)


def test_trajectory_starts_at_the_picture_and_ends_at_the_last_level(tiny_model, picture) -> None:
    path = latentjac.invert(tiny_model, picture, 10, grid=Own())
    torch.testing.assert_close(path.samples[0], tiny_model.codec.encode(picture).double())
    assert len(path.samples) == 11
    point = path.at(0.6)
    assert point.timestep == 599
    assert torch.equal(point.sample, path.samples[6])
    assert torch.equal(path.at(timestep=999).sample, path.samples[-1])


def test_sampling_from_the_end_is_the_reconstruction(tiny_model, picture) -> None:
    path = latentjac.invert(tiny_model, picture, 10)
    again = latentjac.sample(tiny_model, path.at(1.0), output_type="latent")
    torch.testing.assert_close(again, path.reconstruction)


def test_several_pictures_are_inverted_like_each_alone(tiny_model, picture) -> None:
    other = picture.rotate(90)
    both = latentjac.invert(tiny_model, [picture, other], 5)
    alone = latentjac.invert(tiny_model, other, 5)
    torch.testing.assert_close(both.samples[:, 1:], alone.samples)
    assert both.psnr[1] == pytest.approx(alone.psnr[0])


def test_psnr(tiny_model) -> None:
    black, grey = torch.full((1, 3, 16, 16), -1.0), torch.full((1, 3, 16, 16), -0.8)
    assert psnr(tiny_model, black, grey)[0] == pytest.approx(20.0, abs=1e-4)


def test_levels_of_equal_noise_cost_nothing(picture) -> None:
    scheduler = build_scheduler(timestep_spacing="leading", set_alpha_to_one=False)
    model = latentjac.load(build_tiny_unet().double(), scheduler)
    assert latentjac.invert(model, picture, 10, grid=Own(), solver=DDIM(0)).evaluations == 9


@pytest.mark.parametrize(
    ("output_type", "kind"), [("pil", list), ("np", np.ndarray), ("pt", torch.Tensor), ("latent", torch.Tensor)]
)
def test_output_types(tiny_model, output_type: str, kind: type) -> None:
    out = latentjac.sample(tiny_model, num_images=2, num_inference_steps=2, output_type=output_type)
    assert isinstance(out, kind)
    assert len(out) == 2


def test_same_generator_same_images(tiny_model) -> None:
    images = [
        latentjac.sample(
            tiny_model, num_inference_steps=2, generator=torch.Generator().manual_seed(5), output_type="pt"
        )
        for _ in range(2)
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_other_predictions_give_the_same_noise(prediction_type: str) -> None:
    """A network that predicts v or the clean sample of a known noise must be read as that noise."""
    scheduler = build_scheduler(prediction_type=prediction_type)
    model = latentjac.load(build_tiny_unet().double(), scheduler)
    clean, noise = torch.randn(2, 1, 3, 16, 16, dtype=torch.float64)
    t = torch.tensor(400)
    a = scheduler.alphas_cumprod[400].double()
    x = a.sqrt() * clean + (1 - a).sqrt() * noise
    output = clean if prediction_type == "sample" else a.sqrt() * noise - (1 - a).sqrt() * clean
    model.call = lambda *args: output
    torch.testing.assert_close(model.eps(x, t), noise)
    torch.testing.assert_close(model.x0(x, t), clean)


def test_how_an_inversion_ended_comes_back_from_its_file(own_model, picture, tmp_path) -> None:
    """With an estimate of the error of the noisy samples by twice as many steps; files of before have neither."""
    own_model.network.conv_out.weight.data.mul_(0.1)
    path = latentjac.invert(own_model, [picture, picture.rotate(90)], 8, t=0.6, estimate_error=True)
    fine, finer = (latentjac.invert(own_model, [picture, picture.rotate(90)], n, t=0.6).samples[-1] for n in (16, 96))
    true = (path.samples[-1] - finer).flatten(1).norm(dim=1) / finer.flatten(1).norm(dim=1)
    assert path.error == pytest.approx(true.tolist(), rel=0.5)
    own = (path.samples[-1] - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
    assert path.error == pytest.approx(own.tolist())
    found = latentjac.Trajectory.load(path.save(tmp_path / "t.safetensors"))
    assert (found.status, found.error, repr(found)) == (path.status, path.error, repr(path))
    assert "error of the last sample" in repr(path)
    assert path.evaluations == 8
    old = replace(path, status=(), error=())
    assert (old.status, old.error) == ((InversionStatus.EXPLICIT,) * 2, ())
    with pytest.raises(ValueError, match=r"Trajectory: error must be 2 values, one an image, got 1"):
        replace(path, error=(0.1,))


def test_a_trajectory_file_of_before_is_read(own_model, picture, tmp_path) -> None:
    path = latentjac.invert(own_model, picture, 4, grid=Own(), solver=DDIM())
    file = path.save(tmp_path / "t.safetensors")
    header = read_header("test", file)
    held = dict(read_tensors("test", file, "any", lambda header: None))
    facts = from_json(header.metadata["latentjac-trajectory"].encode())
    del facts["status"], facts["error"], facts["schedule"]["until"], facts["schedule"]["solver"]
    text = to_json(facts)
    save_file(held, file, {"schema": "1", "latentjac-trajectory": text, "sha256": digest(held, text)})
    found = latentjac.Trajectory.load(file)
    assert torch.equal(found.samples, path.samples)
    assert (found.schedule, found.status, found.error) == (path.schedule, path.status, ())
    point = found.at(0.5)
    facts["status"], facts["error"] = ["FINE"], []
    text = to_json(facts)
    save_file(held, file, {"schema": "1", "latentjac-trajectory": text, "sha256": digest(held, text)})
    with pytest.raises(latentjac.FileError, match=r"status must be names of .*'FINE'"):
        latentjac.Trajectory.load(file)
    assert point.schedule.solver == DDIM()
