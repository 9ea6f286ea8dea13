"""Every autoencoder that a pipeline can have, scaled as the pipelines of diffusers scale it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    ConsistencyDecoderVAE,
    LDMPipeline,
    VQModel,
)
from networks import build_scheduler, build_tiny_unet, rand
from pipelines import build_autoencoder, build_latent_diffusion

import latentjac
from latentjac.models import LatentCodec, autoencoders

Tensor = torch.Tensor
MEAN, STD = [0.5, -1.0, 2.0, 0.1], [2.0, 0.5, 3.0, 1.0]


def changed(autoencoder: Any, **changes: Any) -> Any:
    """One of another configuration."""
    config = {key: value for key, value in autoencoder.config.items() if not key.startswith("_")}
    return type(autoencoder).from_config({**config, **changes}).eval()


def remade(autoencoder: Any, **changes: Any) -> Any:
    """The same weights under another configuration."""
    other = changed(autoencoder, **changes)
    other.load_state_dict(autoencoder.state_dict())
    return other


def build_tiny() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        scaling_factor=1.5,
    )


def build_asymmetric() -> AsymmetricAutoencoderKL:
    torch.manual_seed(0)
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        norm_num_groups=4,
    )


def build_deep() -> AutoencoderDC:
    """Of 32 pixels along a side for one latent, as the published ones."""
    torch.manual_seed(0)
    widths = (8,) * 6
    return AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        scaling_factor=0.4,
    )


def mode(vae: Any, pixels: Tensor) -> Tensor:
    return vae.encode(pixels).latent_dist.mode()


# What pipelines of diffusers compute: to the network's latents, and from those to what is decoded.
ROWS: dict[str, tuple[Callable[[], Any], int, Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]] = {
    "stable diffusion": (
        build_autoencoder, 2,
        lambda vae, pixels: vae.config.scaling_factor * mode(vae, pixels),
        lambda vae, z: z / vae.config.scaling_factor,
    ),
    "stable diffusion 3 and flux": (
        lambda: remade(build_autoencoder(), shift_factor=0.7), 2,
        lambda vae, pixels: (mode(vae, pixels) - vae.config.shift_factor) * vae.config.scaling_factor,
        lambda vae, z: (z / vae.config.scaling_factor) + vae.config.shift_factor,
    ),
    "stable diffusion xl": (
        lambda: remade(build_autoencoder(), latents_mean=MEAN, latents_std=STD), 2,
        lambda vae, pixels: (mode(vae, pixels) - numbers(MEAN)) * vae.config.scaling_factor / numbers(STD),
        lambda vae, z: z * numbers(STD) / vae.config.scaling_factor + numbers(MEAN),
    ),
    "without deviations": (  # means count for nothing then
        lambda: remade(build_autoencoder(), latents_mean=MEAN), 2,
        lambda vae, pixels: mode(vae, pixels) * vae.config.scaling_factor,
        lambda vae, z: z / vae.config.scaling_factor,
    ),
    "latent diffusion": (
        lambda: build_latent_diffusion().vqvae.eval(), 2,
        lambda vae, pixels: vae.encode(pixels).latents * vae.config.scaling_factor,
        lambda vae, z: z / vae.config.scaling_factor,
    ),
    "taesd": (
        build_tiny, 2,
        lambda vae, pixels: vae.config.scaling_factor * vae.encode(pixels).latents,
        lambda vae, z: z / vae.config.scaling_factor,
    ),
    "asymmetric": (
        build_asymmetric, 2,
        lambda vae, pixels: vae.config.scaling_factor * mode(vae, pixels),
        lambda vae, z: z / vae.config.scaling_factor,
    ),
    "sana": (
        build_deep, 32,
        lambda vae, pixels: vae.encode(pixels).latent * vae.config.scaling_factor,
        lambda vae, z: z / vae.config.scaling_factor,
    ),
}  # fmt: skip


def numbers(values: list[float]) -> Tensor:
    return torch.tensor(values).view(1, 4, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize("row", ROWS)
def test_latents_are_those_of_the_pipelines(row: str) -> None:
    build, factor, encoded, decoded = ROWS[row]
    autoencoder = build().eval()
    codec = LatentCodec(autoencoder, (2, 3))
    assert codec.size == (2 * factor, 3 * factor)
    pictures = rand(1, 3, *codec.size).sigmoid().float()
    latents = codec.encode(pictures)
    assert latents.shape == (1, codec.latent_channels, 2, 3)
    torch.testing.assert_close(latents, encoded(autoencoder, pictures * 2 - 1))
    expected = autoencoder.decode(decoded(autoencoder, latents), return_dict=False)[0]
    torch.testing.assert_close(codec.decode(latents), (expected / 2 + 0.5).clamp(0, 1))


def test_the_table_is_of_classes_that_diffusers_has() -> None:
    for name in (*autoencoders.KINDS, *autoencoders.REFUSED):
        assert isinstance(getattr(diffusers, name), type)


@pytest.mark.parametrize(
    ("build", "channels"),
    [(build_tiny, 4), (build_asymmetric, 4), (lambda: remade(build_autoencoder(), shift_factor=0.7), 4)],
)
def test_pipelines_with_them_are_loaded(build, channels: int, tmp_path) -> None:
    config = {**build_tiny_unet(size=8).config, "in_channels": channels, "out_channels": channels}
    pipeline = LDMPipeline(vqvae=build(), unet=diffusers.UNet2DModel.from_config(config), scheduler=build_scheduler())
    pipeline.save_pretrained(tmp_path)
    found, expected = latentjac.load(tmp_path), latentjac.load(pipeline)
    latents = rand(1, channels, 8, 8).float()
    torch.testing.assert_close(found.codec.decode(latents), expected.codec.decode(latents), rtol=0, atol=0)
    assert found.codec.size == (16, 16)


def test_autoencoders_that_are_refused() -> None:
    with pytest.raises(TypeError, match=r"LatentCodec: autoencoder must be one of \['AutoencoderKL'.*got Linear"):
        LatentCodec(torch.nn.Linear(1, 1), 8)
    noisy = ConsistencyDecoderVAE.__new__(ConsistencyDecoderVAE)
    with pytest.raises(TypeError, match=r"got ConsistencyDecoderVAE \(its decoder draws noise"):
        LatentCodec(noisy, 8)
    with pytest.raises(ValueError, match="autoencoder must have 4 numbers of latents_std, got 2"):
        LatentCodec(remade(build_autoencoder(), latents_mean=MEAN, latents_std=STD[:2]), 8)
    with pytest.raises(ValueError, match=r"must have shift_factor or latents_mean, got 0\.7 beside the mean"):
        LatentCodec(remade(build_autoencoder(), latents_mean=MEAN, latents_std=STD, shift_factor=0.7), 8)


def test_latents_of_other_channels_than_the_samples_are_refused() -> None:
    pipeline = LDMPipeline(vqvae=build_autoencoder(), unet=build_tiny_unet(size=8), scheduler=build_scheduler())
    with pytest.raises(latentjac.LoadError, match=r"autoencoder must have latents of 3 channels, .* got 4"):
        latentjac.load(pipeline)


@pytest.mark.parametrize(
    ("key", "value"), [("latents_std", [1.0, 1.0, 0.0, 1.0]), ("latents_mean", 3.0), ("shift_factor", float("nan"))]
)
def test_numbers_that_cannot_be(key: str, value: Any) -> None:
    pipeline = build_latent_diffusion()
    pipeline.vqvae.register_to_config(**{key: value})
    with pytest.raises(latentjac.LoadError, match=f"config of VQModel: {key} must be"):
        latentjac.load(pipeline)


def test_quantized_latents_can_have_other_channels() -> None:
    codec = LatentCodec(changed(build_latent_diffusion().vqvae, vq_embed_dim=2), 8)
    assert codec.encode(torch.zeros(1, 3, 16, 16)).shape == (1, 2, 8, 8)
    assert codec.decode(torch.zeros(1, 2, 8, 8)).shape == (1, 3, 16, 16)


# --- another size -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "shape"), [(24, (24, 24)), ((8, 20), (8, 20))])
def test_pictures_of_another_size(size, shape, tiny_folder) -> None:
    """Values at the size are the network's own."""
    model = latentjac.load(tiny_folder, size=size)
    assert model.sample_shape == (3, *shape)
    assert model.codec.size == shape
    x = rand(1, *model.sample_shape).float()
    with torch.no_grad():
        expected = build_tiny_unet()(x, 5).sample
    torch.testing.assert_close(model.eps(x, torch.tensor(5)), expected, rtol=0, atol=1e-5)
    assert latentjac.sample(model, num_inference_steps=2)[0].size == shape[::-1]


def test_latents_of_another_size() -> None:
    model = latentjac.load(build_latent_diffusion(), size=(16, 24))
    assert model.sample_shape == (3, 8, 12)
    assert latentjac.invert(model, torch.rand(3, 16, 24), 2).samples.shape[2:] == (3, 8, 12)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((16, 18), r"size must be one that the network takes, such as multiples of 8, got \(16, 18\)"),
        (17, r"size must be of multiples of 2, the pixels of a latent of VQModel, got \(17, 17\)"),
        (1, "size must be of multiples of 2"),
        (0, "size must be"),
        ((8, 8, 8), r"size must be \(height, width\) or the side of a square"),
    ],
)
def test_sizes_that_cannot_be(size, message: str) -> None:
    with pytest.raises(ValueError, match=f"^load: {message}"):
        latentjac.load(build_latent_diffusion(), size=size)


def test_a_network_that_leaves_its_size_open() -> None:
    network = build_tiny_unet()
    network.register_to_config(sample_size=None)
    assert latentjac.load(network, build_scheduler(), size=8).sample_shape == (3, 8, 8)
    with pytest.raises(latentjac.LoadError, match="sample_size"):
        latentjac.load(network, build_scheduler())


# --- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [False, True])
def test_a_type_for_each_part(stored: bool, tmp_path) -> None:
    source: Any = build_latent_diffusion()
    if stored:
        source.save_pretrained(tmp_path)
        source = tmp_path
    model = latentjac.load(source, dtype={"network": torch.float64, "autoencoder": torch.bfloat16})
    assert model.dtype == torch.float64
    assert next(model.codec.autoencoder.parameters()).dtype == torch.bfloat16
    assert model.codec.decode(rand(1, 3, 8, 8)).dtype == torch.float32
    for wrong in ({"unet": torch.float16}, {"network": "float16"}):
        with pytest.raises((TypeError, ValueError), match="load: dtype"):
            latentjac.load(source, dtype=wrong)


def test_autoencoders_are_as_they_were_for_a_network_alone() -> None:
    pipeline = build_latent_diffusion()
    model = latentjac.load(pipeline, dtype={"network": torch.float64})
    assert next(model.codec.autoencoder.parameters()).dtype == torch.float32
    assert isinstance(pipeline.vqvae, VQModel | AutoencoderKL)
