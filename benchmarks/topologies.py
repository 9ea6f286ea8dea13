"""Networks with all the blocks of published ones: of their full width, or so narrow that a forward takes a moment.

What is kept of a narrow one is what a pass sees: the kinds of blocks, in which order, and what is fed to it beside the
sample; transformers have half the blocks, Flux a third. Weights are random: what a pass costs depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import diffusers
import torch

from latentjac.models import Conditioning, adapters
from latentjac.models.layers import Tap

Tensor = torch.Tensor
Shapes = Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...] | Tensor]]


@dataclass(frozen=True)
class Topology:
    """A published network.

    Attributes:
        network: Its class in diffusers.
        family: Name of its family in ``latentjac.models.adapters``.
        config: As published, where that differs from the defaults of the class.
        narrow: What is smaller in the narrow one.
        shapes: Of the tensors beside sample and timestep, one row each, of a configuration; those whose values count
            are tensors.
        size: Height and width of a latent of the narrow one.
        cut: What is smaller where the whole does not fit into memory.
        behind: Sizes of a sample behind its channels, of that of a latent.
        joined: Whether its family has it inside of a network of latentjac.
    """

    network: str
    family: str
    config: Mapping[str, Any]
    narrow: Mapping[str, Any]
    shapes: Shapes
    size: int = 32
    cut: Mapping[str, Any] = field(default_factory=dict)
    behind: Callable[[int], tuple[int, ...]] = lambda side: (side, side)
    joined: bool = False

    def settings(self, kind: str) -> dict[str, Any]:
        """Configuration of the ``"narrow"``, ``"full"`` or ``"cut"`` one."""
        more: Mapping[str, Any] = {"narrow": self.narrow, "full": {}, "cut": self.cut}[kind]
        return {**self.config, **more}


def _text(tokens: int, key: str, pooled: str | None = None) -> Shapes:
    def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        found = {"text": (1, tokens, config[key])}
        return found if pooled is None else {**found, "pooled": (1, config[pooled])}

    return shapes


def _sdxl(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
    return {"text": (1, 77, config["cross_attention_dim"]), "pooled": (1, pooled), "time_ids": (1, 6)}


_DIT = {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 28, "out_channels": 8, "sample_size": 32}
TOPOLOGIES: dict[str, Topology] = {
    "sd15": Topology(
        "UNet2DConditionModel",
        "TEXT_UNET",
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        {"block_out_channels": (64, 128, 256, 256), "cross_attention_dim": 192, "sample_size": 32},
        _text(77, "cross_attention_dim"),
    ),
    "sdxl": Topology(
        "UNet2DConditionModel",
        "SDXL",
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "cross_attention_dim": 2048,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        {
            "block_out_channels": (64, 128, 256),
            "transformer_layers_per_block": (1, 2, 4),
            "attention_head_dim": (4, 8, 16),
            "cross_attention_dim": 256,
            "addition_time_embed_dim": 32,
            "projection_class_embeddings_input_dim": 352,
        },
        _sdxl,
    ),
    "dit": Topology(
        "DiTTransformer2DModel",
        "DIT",
        {**_DIT, "num_embeds_ada_norm": 1000},
        {"attention_head_dim": 16, "num_layers": 14},
        lambda config: {"class_label": (1,)},
    ),
    "pixart": Topology(
        "PixArtTransformer2DModel",
        "PIXART",
        {**_DIT, "sample_size": 64, "cross_attention_dim": 1152, "caption_channels": 4096},
        {
            "attention_head_dim": 16,
            "num_layers": 14,
            "cross_attention_dim": 256,
            "caption_channels": 512,
            "sample_size": 32,
        },
        lambda config: {"text": (1, 120, config["caption_channels"]), "text_mask": (1, 120)},
    ),
    "sd3": Topology(
        "SD3Transformer2DModel",
        "SD3",
        {
            "sample_size": 128,
            "num_layers": 24,
            "num_attention_heads": 24,
            "caption_projection_dim": 1536,
            "pos_embed_max_size": 192,
        },
        {
            "num_layers": 12,
            "attention_head_dim": 8,
            "caption_projection_dim": 192,
            "joint_attention_dim": 512,
            "pooled_projection_dim": 256,
        },
        _text(154, "joint_attention_dim", "pooled_projection_dim"),
    ),
    "flux": Topology(
        "FluxTransformer2DModel",
        "FLUX",
        {"guidance_embeds": True, "pooled_projection_dim": 768},
        {
            "num_layers": 6,
            "num_single_layers": 12,
            "attention_head_dim": 8,
            "axes_dims_rope": (2, 2, 4),
            "joint_attention_dim": 512,
            "pooled_projection_dim": 128,
        },
        lambda config: {
            **_text(128, "joint_attention_dim", "pooled_projection_dim")(config),
            "guidance_embedding": (1,),
        },
        cut={"num_layers": 5, "num_single_layers": 10},
    ),
}
# Whose full size alone is of interest.
FURTHER: dict[str, Topology] = {
    "kandinsky-2-2": Topology(
        "UNet2DConditionModel",
        "KANDINSKY",
        {
            "sample_size": 64,
            "out_channels": 8,
            "block_out_channels": (384, 768, 1152, 1536),
            "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * 3),
            "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
            "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * 3, "ResnetUpsampleBlock2D"),
            "layers_per_block": 3,
            "attention_head_dim": 64,
            "cross_attention_dim": 768,
            "encoder_hid_dim": 1280,
            "encoder_hid_dim_type": "image_proj",
            "addition_embed_type": "image",
            "resnet_time_scale_shift": "scale_shift",
        },
        {},
        lambda config: {"image_embedding": (1, config["encoder_hid_dim"])},
    ),
    "sana": Topology(
        "SanaTransformer2DModel",
        "SANA",
        {},
        {},
        lambda config: {"text": (1, 300, config["caption_channels"]), "text_mask": (1, 300)},
    ),
    "wan": Topology(
        "WanTransformer3DModel",
        "WAN",
        {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960},
        {},
        lambda config: {"text": (1, 512, config["text_dim"])},
        behind=lambda side: (3, side, side),
    ),
    "hunyuan-dit": Topology(
        "HunyuanDiT2DModel",
        "HUNYUAN_DIT",
        {
            "in_channels": 4,
            "patch_size": 2,
            "sample_size": 128,
            "hidden_size": 1408,
            "num_layers": 40,
            "mlp_ratio": 4.3637,
        },
        {},
        lambda config: {
            "text": (1, 77, config["cross_attention_dim"]),
            "text_mask": (1, 77),
            "text_2": (1, 256, config["cross_attention_dim_t5"]),
            "text_mask_2": torch.ones(1, 256),
            "time_ids": torch.tensor([[1024.0, 1024.0, 1024.0, 1024.0, 0.0, 0.0]]),
        },
    ),
    "lumina-2": Topology(
        "Lumina2Transformer2DModel",
        "LUMINA2",
        {"cap_feat_dim": 2304},
        {},
        lambda config: {"text": (1, 64, config["cap_feat_dim"]), "text_mask": (1, 0)},
        joined=True,
    ),
    "aura-flow": Topology(
        "AuraFlowTransformer2DModel",
        "AURA_FLOW",
        {},
        {},
        _text(256, "joint_attention_dim"),
        cut={"num_mmdit_layers": 1, "num_single_dit_layers": 8},
    ),
    "qwen-image": Topology(
        "QwenImageTransformer2DModel",
        "QWEN_IMAGE",
        {},
        {},
        lambda config: {"text": (1, 64, config["joint_attention_dim"]), "text_mask": (1, 64)},
        cut={"num_layers": 8},
    ),
    "cogview-4": Topology(
        "CogView4Transformer2DModel",
        "COG_VIEW4",
        {"num_layers": 28, "attention_head_dim": 128, "num_attention_heads": 32},
        {},
        lambda config: {
            "text": (1, 64, config["text_embed_dim"]),
            "size": torch.tensor([[1024.0, 1024.0]]),
            "shift": torch.ones(1),
        },
        cut={"num_layers": 7},
    ),
    "z-image": Topology(
        "ZImageTransformer2DModel",
        "Z_IMAGE",
        {},
        {},
        lambda config: {"text": (1, 64, config["cap_feat_dim"]), "text_mask": (1, 0)},
        cut={"n_layers": 8},
    ),
    "chroma": Topology(
        "ChromaTransformer2DModel",
        "CHROMA",
        {},
        {},
        lambda config: {"text": (1, 128, config["joint_attention_dim"]), "text_mask": (1, 128)},
        cut={"num_layers": 5, "num_single_layers": 10},
    ),
    "ltx": Topology(
        "LTXVideoTransformer3DModel",
        "LTX",
        {},
        {},
        lambda config: {
            "text": (1, 128, config["caption_channels"]),
            "text_mask": (1, 128),
            "frame_rate": torch.tensor([[25.0]]),
            "factors": torch.tensor([[8.0, 32.0, 32.0]]),
        },
        behind=lambda side: (3, side, side),
    ),
    "cogvideox": Topology(
        "CogVideoXTransformer3DModel",
        "COGVIDEOX",
        {},
        {},
        _text(226, "text_embed_dim"),
        behind=lambda side: (3, side, side),
    ),
    "stable-audio": Topology(
        "StableAudioDiTModel",
        "STABLE_AUDIO",
        {},
        {},
        lambda config: {"text": (1, 130, 768), "duration": (1, 1, config["global_states_input_dim"])},
        behind=lambda side: (16 * side,),
    ),
}


@dataclass(frozen=True)
class Traced:
    """A network with what is linearized of it.

    Attributes:
        network: It.
        f: Features or the prediction, of ``(x, t, *tensors)``.
        x: A sample ``[1, C, H, W]``.
        constants: Timestep ``[]`` and the tensors of a conditioning.
        parameters: How many.
    """

    network: torch.nn.Module
    f: Callable[..., Tensor]
    x: Tensor
    constants: tuple[Tensor, ...]
    parameters: int

    def batch(self, count: int) -> tuple[Tensor, ...]:
        """Arguments of a plain forward of so many samples."""
        x = torch.randn(count, *self.x.shape[1:]).to(self.x)
        return x, *(c.expand(count, *c.shape[1:]).contiguous() if c.dim() else c for c in self.constants)


def traced(name: str, kind: str, layer: str, dtype: torch.dtype = torch.float32, size: int | None = None) -> Traced:
    """One of ``TOPOLOGIES`` or ``FURTHER`` at noise.

    Args:
        name: Of the network.
        kind: ``"narrow"``, ``"full"`` or ``"cut"``.
        layer: ``"mid"``, or ``"whole"`` for the prediction.
        dtype: Of weights and samples.
        size: Height and width of the latent.
    """
    one = {**TOPOLOGIES, **FURTHER}[name]
    family = getattr(adapters, one.family)
    settings = one.settings(kind)
    if "sample_size" in settings and name in ("dit", "pixart") and size is not None:
        settings["sample_size"] = size  # which their table of positions is for
    network = random_network(one.network, settings, dtype)
    generator = torch.Generator().manual_seed(1)
    shapes = one.shapes({**network.config})
    tensors = {
        key: shape if isinstance(shape, Tensor) else torch.randn(shape, generator=generator).to(dtype)
        for key, shape in shapes.items()
    }
    if "class_label" in tensors:
        tensors["class_label"] = torch.tensor([207])
    if "text_mask" in tensors:
        tensors["text_mask"] = torch.ones_like(tensors["text_mask"])
    if one.joined:
        network = family.join(network)
    names, call = tuple(tensors), family.call
    if layer == "mid":
        call = Tap(network, family.layers(network)["mid"], call)
    side = size or one.size
    channels = family.sample_shape(network)[0]

    def f(x: Tensor, t: Tensor, *given: Tensor) -> Tensor:
        return call(network, x, t, Conditioning._traced(names, given))

    x = torch.randn(1, channels, *one.behind(side), generator=generator).to(dtype)
    count = sum(p.numel() for p in network.parameters())
    return Traced(network, f, x, (torch.tensor(500.0), *tensors.values()), count)


def unfilled() -> Any:
    """A context in which layers are made without their first values, which take minutes for billions of them."""
    names = (
        "kaiming_uniform_",
        "kaiming_normal_",
        "xavier_uniform_",
        "xavier_normal_",
        "trunc_normal_",
        "uniform_",
        "normal_",
    )
    return mock.patch.multiple(torch.nn.init, **{name: lambda tensor, *more, **named: tensor for name in names})


def random_network(kind: str, settings: Mapping[str, Any], dtype: torch.dtype) -> torch.nn.Module:
    """A network with weights of a type from the start: a larger one of float32 would not fit first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with unfilled():
            network = getattr(diffusers, kind)(**settings).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.buffers():
            value.normal_(generator=generator)  # tables of positions
        for name, value in network.named_parameters():
            if value.ndim < 2:
                value.fill_(float(name.endswith("weight")))
            else:
                value.normal_(0, value[0].numel() ** -0.5, generator=generator)
    if all(p.ndim < 5 for p in network.parameters()):
        network.to(memory_format=torch.channels_last)  # as a Model has it on a processor
    return network


def described(name: str, kind: str) -> str:
    """What a configuration differs in from the published one."""
    one = {**TOPOLOGIES, **FURTHER}[name]
    changed = {key: value for key, value in one.settings(kind).items() if one.config.get(key) != value}
    return ", ".join(f"{key} {value}" for key, value in changed.items()) or "as published"
