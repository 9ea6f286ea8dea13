"""Small pipelines of transformers with IP-Adapters, of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from image_transformers import build_chroma
from pipelines import build_flux, build_image_encoder, build_stable_diffusion_3

_CHANNELS = 12  # of the embedding of a picture


def seeing(pipeline: Any) -> Any:
    """With an encoder of pictures."""
    processor, encoder = build_image_encoder()
    pipeline.register_modules(image_encoder=encoder, feature_extractor=processor)
    return pipeline


def with_projections(pipeline: Any, count: int = 1) -> Any:
    """With so many adapters of Flux, each of embeddings of pictures as a whole."""
    network = seeing(pipeline).transformer
    torch.manual_seed(12)
    states = [{"image_proj": _projection(network), "ip_adapter": _attention(network)} for _ in range(count)]
    network._load_ip_adapter_weights(states, low_cpu_mem_usage=False)
    network.requires_grad_(False)
    return pipeline


def _projection(network: Any) -> dict[str, torch.Tensor]:
    width = network.config.joint_attention_dim
    drawn = {"proj.weight": torch.randn(4 * width, _CHANNELS), "proj.bias": torch.randn(4 * width)}
    return drawn | {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}


def _attention(network: Any) -> dict[str, torch.Tensor]:
    width, inner = network.config.joint_attention_dim, network.inner_dim
    names = [(i, part) for i in range(len(network.transformer_blocks)) for part in "kv"]
    weights = {f"{i}.to_{part}_ip.weight": torch.randn(inner, width) for i, part in names}
    return weights | {f"{i}.to_{part}_ip.bias": torch.randn(inner) for i, part in names}


def build_prompted_flux(folder: Path, count: int = 1, **options: Any) -> Any:
    """Flux with so many adapters."""
    return with_projections(build_flux(folder, **options), count)


def build_prompted_chroma(folder: Path) -> Any:
    """Chroma with an adapter of Flux."""
    return with_projections(build_chroma())


def build_prompted_sd3(folder: Path) -> Any:
    """Stable Diffusion 3 with an adapter of the tokens of a picture."""
    pipeline = seeing(build_stable_diffusion_3(folder))
    network = pipeline.transformer
    width = network.inner_dim
    torch.manual_seed(13)
    network.image_proj = IPAdapterTimeImageProjection(
        embed_dim=16, output_dim=width, hidden_dim=16, depth=1, dim_head=8, heads=2, num_queries=3, timestep_in_dim=8
    )
    network.set_attn_processor({
        name: SD3IPAdapterJointAttnProcessor2_0(width, width, network.config.attention_head_dim, 16)
        for name in network.attn_processors
    })  # fmt: skip
    network.eval().requires_grad_(False)
    return pipeline
