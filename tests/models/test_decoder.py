"""Pictures as functions of samples: smooth, and with the Jacobian of a dense float64 computation."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers import LDMPipeline
from networks import build_scheduler, build_tiny_unet, point_at, rand
from pipelines import build_autoencoder, build_latent_diffusion
from truth import dense_jacobian

import latentjac
from latentjac.models import decoder_map

Tensor = torch.Tensor
SIZE = (8, 8)
T = torch.tensor(599)


def on_pixels() -> Any:
    return diffusers.DDIMPipeline(unet=build_tiny_unet(), scheduler=build_scheduler())


def on_latents() -> Any:
    config = {**build_tiny_unet().config, "in_channels": 4, "out_channels": 4}
    unet = diffusers.UNet2DModel.from_config(config)
    return LDMPipeline(vqvae=build_autoencoder(), unet=unet, scheduler=build_scheduler())


@pytest.fixture(params=[on_pixels, on_latents, build_latent_diffusion])
def model(request) -> latentjac.Model:
    return latentjac.load(request.param(), size=SIZE, dtype=torch.float64)


def expected(model: latentjac.Model, x: Tensor) -> Tensor:
    """The picture by the formulas of diffusers."""
    power = model.scheduler.alphas_cumprod[T].double()
    clean = (x - (1 - power).sqrt() * model.network(x, T).sample) / power.sqrt()
    autoencoder = getattr(model.codec, "autoencoder", None)
    if autoencoder is not None:
        smooth = {"force_not_quantize": True} if type(autoencoder).__name__ == "VQModel" else {}
        clean = autoencoder.decode(clean / autoencoder.config.scaling_factor, **smooth).sample
    return clean / 2 + 0.5


@pytest.mark.parametrize("model", [on_pixels, build_latent_diffusion], indirect=True)
def test_the_jacobian_of_the_picture(model) -> None:
    x = rand(1, *model.sample_shape)
    lin = model.linearization("image", x, T)
    jacobian = dense_jacobian(lambda z: expected(model, z), x)
    torch.testing.assert_close(lin.y, expected(model, x), rtol=1e-9, atol=1e-10)
    assert lin.y.shape == (1, 3, *SIZE)
    v, u = rand(3, *x.shape, seed=2), rand(2, *lin.y.shape, seed=3)
    scale = jacobian.abs().max()
    torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T, rtol=1e-8, atol=1e-9 * scale)
    torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian, rtol=1e-8, atol=1e-9 * scale)
    basis = latentjac.local_basis(model, point_at(x, 599), k=2, layer="image", tol=1e-6)
    torch.testing.assert_close(basis.s, torch.linalg.svdvals(jacobian)[:2], rtol=1e-6, atol=0)
    assert basis.u.shape == (2, 3, *SIZE)
    if hasattr(model.codec, "autoencoder"):  # the trace is of the decoder, too
        before = lin.jvp(v)
        model.codec.autoencoder.decoder.conv_out.weight.data.mul_(2)
        torch.testing.assert_close(model.linearization("image", x, T).jvp(v), 2 * before)


def test_the_decoder_alone(model) -> None:
    decode, z = decoder_map(model), 3 * rand(1, *model.sample_shape)
    autoencoder = getattr(model.codec, "autoencoder", None)
    if autoencoder is not None:
        autoencoder.decoder.conv_out.weight.data.mul_(10)
    lin = latentjac.linearize(decode, z)
    assert lin.y.min() < 0
    assert lin.y.max() > 1
    jacobian = dense_jacobian(decode, z)
    v, u = rand(3, *z.shape, seed=2), rand(2, *lin.y.shape, seed=3)
    torch.testing.assert_close(lin.jvp(v).flatten(1), v.flatten(1) @ jacobian.T, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(lin.vjp(u).flatten(1), u.flatten(1) @ jacobian, rtol=1e-9, atol=1e-10)
    assert lin.check_adjoint() < 1e-12
    moved = (decode(z + 1e-5 * v[0]) - decode(z - 1e-5 * v[0])) / 2e-5
    torch.testing.assert_close(lin.jvp(v)[0], moved, rtol=1e-4, atol=1e-5)
    if not hasattr(autoencoder, "quantize"):
        torch.testing.assert_close(model.codec.decode(z), lin.y.clamp(0, 1).float())


def test_types_of_the_parts_may_differ() -> None:
    model = latentjac.load(on_latents(), dtype={"network": torch.float64, "autoencoder": torch.float32})
    z = rand(1, *model.sample_shape)
    assert decoder_map(model)(z).dtype == torch.float64
    torch.testing.assert_close(decoder_map(model)(z).clamp(0, 1).float(), model.codec.decode(z))


def test_models_without_pictures() -> None:
    network = diffusers.UNet2DModel.from_config({**build_tiny_unet().config, "in_channels": 4, "out_channels": 4})
    model = latentjac.load(network, build_scheduler())
    with pytest.raises(ValueError, match="decoder_map: model must have a codec with _unclipped, got NoCodec"):
        decoder_map(model)
    with pytest.raises(ValueError, match="feature_map: model must have a codec with _unclipped"):
        model.feature_map("image")
