"""Transformers of videos with text and video side by side: CogVideoX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from latentjac.models.adapters.dit import times
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.pipeline_text import PipelineText

_TAKEN = ("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline")
# What the configuration of a network can ask for that is not given here.
_LEFT = {"patch_size_t": "latents padded to whole patches", "ofs_embed_dim": "an offset of a picture"}


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The prediction ``[B, C, F, H, W]`` beside ``"text"``, ``[B, tokens, channels]``; the network has frames first."""
    return network(
        hidden_states=x.transpose(1, 2),
        encoder_hidden_states=conditioning["text"],
        timestep=times(x, t),
        image_rotary_emb=_turned(network.config, x),
        return_dict=False,
    )[0].transpose(1, 2)


def _turned(config: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Tables of the rotation of tokens, of networks that have one: scaled to the size that they were trained at."""
    if not config["use_rotary_positional_embeddings"]:
        return None
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    sides = tuple(side // config["patch_size"] for side in x.shape[3:])
    width, height = (config[key] // config["patch_size"] for key in ("sample_width", "sample_height"))
    region = get_resize_crop_region_for_grid(sides, width, height)
    return get_3d_rotary_pos_embed(config["attention_head_dim"], region, sides, x.shape[2], device=x.device)


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size that the configuration names; frames are those of the video."""
    config = network.config
    frames = (config["sample_frames"] - 1) // config["temporal_compression_ratio"] + 1
    return config["in_channels"], frames, config["sample_height"], config["sample_width"]


def layers(network: Any) -> Mapping[str, str]:
    """The middle block; see the layers of DiT."""
    return middle_of(network, "transformer_blocks")


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along frames, height and width."""
    return shape[1], *(side // network.config["patch_size"] for side in shape[2:])


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample, or padded latents."""
    if pipeline not in _TAKEN:
        return f"it must be that of a {' or '.join(_TAKEN)}, got one of a {pipeline}, which gets a picture as well"
    asked = [f"{key} {config[key]} ({what})" for key, what in _LEFT.items() if config.get(key) is not None]
    return f"it must get nothing but samples and a text, got {' and '.join(asked)}" if asked else None


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of T5."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        most = pipeline.transformer.config.max_text_seq_length
        return {"text": pipeline.encode_prompt(prompts, None, False, max_sequence_length=most)[0]}

    return PipelineText("CogVideoXPipeline", parts, encode)


COGVIDEOX = Family(
    "CogVideoXTransformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="videos",
    sized=True,
    conditioning=("text",),
    refusal=refusal,
    guidance_scale=6.0,
    grid=BlockOutput("transformer_blocks", grid),
    requires={"text_encoder": ("T5EncoderModel",), "vae": ("AutoencoderKLCogVideoX",)},
    allows=("tokenizer",),
    make_text=make_text,
)
