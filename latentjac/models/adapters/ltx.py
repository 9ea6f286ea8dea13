"""Transformers of videos that are told the rate of frames: LTX-Video."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.autoencoders import video_kind_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TRAINED = (21, 16, 22)  # latents of 161 frames of 512 x 704 pixels, the default of diffusers
_FRAME_RATE = 25.0  # its default, too
_FACTORS = (8, 32)  # of a network without an autoencoder


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, F, H, W]`` under ``"text"``, ``[B, tokens, channels]``, where ``"text_mask"`` is 1.

    Where tokens are follows from ``"frame_rate"``, frames a second, ``[B, 1]``, and ``"factors"``, frames, rows and
    columns of pixels for each latent, ``[B, 3]``. Tokens are packed here and unpacked: one for each latent.
    """
    rate, factors = (conditioning[name].float() for name in ("frame_rate", "factors"))
    scales = torch.cat([factors[:, :1] / rate, factors[:, 1:]], dim=1)
    _, _, frames, height, width = x.shape
    out = network(
        hidden_states=x.flatten(2).transpose(1, 2),
        encoder_hidden_states=conditioning["text"],
        timestep=times(x, t),
        encoder_attention_mask=conditioning["text_mask"],
        num_frames=frames,
        height=height,
        width=width,
        rope_interpolation_scale=tuple(scale.view(-1, 1, 1, 1, 1) for scale in scales.unbind(1)),
        return_dict=False,
    )[0]
    return out.transpose(1, 2).reshape(x.shape)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size that diffusers makes by default."""
    return network.config["in_channels"], *_TRAINED


def layers(network: Any) -> Mapping[str, str]:
    """The middle block; see the layers of DiT."""
    return middle_of(network, "transformer_blocks")


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A token for each latent."""
    return shape[1:]


def inputs(model: Any, text: Mapping[str, torch.Tensor], scale: float, away: bool) -> dict[str, torch.Tensor]:
    """How far latents are apart, in frames and pixels, and frames in time."""
    autoencoder = getattr(model.codec, "autoencoder", None)
    time, space = _FACTORS if autoencoder is None else video_kind_of(autoencoder).factors(autoencoder)
    return {"frame_rate": torch.tensor([[_FRAME_RATE]]), "factors": torch.tensor([[time, space, space]])}


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets frames beside the sample, or packs patches."""
    if pipeline != "LTXPipeline":
        return f"it must be that of a LTXPipeline, got one of a {pipeline}, which gets frames or a picture as well"
    patches = {key: config.get(key, 1) for key in ("patch_size", "patch_size_t")}
    return None if set(patches.values()) == {1} else f"it must have patches of one latent, got {patches}"


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5, and which of them are of words."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, mask, _, _ = pipeline.encode_prompt(prompts, do_classifier_free_guidance=False)
        return {"text": text, "text_mask": mask}

    return PipelineText("LTXPipeline", parts, encode)


LTX = Family(
    "LTXVideoTransformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="videos",
    sized=True,
    conditioning=("text", "text_mask", "frame_rate", "factors"),
    inputs=inputs,
    refusal=refusal,
    guidance_scale=3.0,
    grid=BlockOutput("transformer_blocks", grid),
    requires={"text_encoder": ("T5EncoderModel",), "vae": ("AutoencoderKLLTXVideo",)},
    allows=("tokenizer",),
    make_text=make_text,
)
