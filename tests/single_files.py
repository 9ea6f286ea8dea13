"""Pipelines as one file in the layout of the authors of Stable Diffusion: the inverse of what diffusers converts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_AROUND = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0",
    "conv_out": "out.2", "conv_in": "input_blocks.0.0", "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_SD3 = {
    "pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder",
    "time_text_embed.timestep_embedder.linear_": "t_embedder.mlp.", "proj_out": "final_layer.linear",
    "time_text_embed.text_embedder.linear_": "y_embedder.mlp.", "norm_out.linear": "final_layer.adaLN_modulation.1",
}  # fmt: skip
_SD3_BLOCK = {
    "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
    "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
}  # fmt: skip
_OPEN = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
_OPEN_AROUND = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def save_as_one(pipeline: Any, file: Path, **more: torch.Tensor) -> Path:
    """Write the weights of the parts that Stable Diffusion 1 or XL has, and more by name."""
    weights = {f"model.diffusion_model.{name}": value for name, value in unet(pipeline.unet).items()}
    weights |= {f"first_stage_model.{name}": value for name, value in autoencoder(pipeline.vae).items()}
    second = getattr(pipeline, "text_encoder_2", None)
    place = "cond_stage_model.transformer" if second is None else "conditioner.embedders.0.transformer"
    for name, value in pipeline.text_encoder.state_dict().items():
        weights[f"{place}.text_model.{name.removeprefix('text_model.')}"] = value
    if second is not None:
        weights |= {f"conditioner.embedders.1.model.{name}": value for name, value in open_clip(second).items()}
    save_file({name: value.contiguous() for name, value in {**weights, **more}.items()}, file)
    return file


def save_stable_diffusion_3(pipeline: Any, file: Path) -> Path:
    """The same of the parts that Stable Diffusion 3 has, with T5."""
    weights = {f"model.diffusion_model.{name}": value for name, value in sd3(pipeline.transformer).items()}
    weights |= {f"first_stage_model.{name}": value for name, value in autoencoder(pipeline.vae).items()}
    encoders = {"clip_l": pipeline.text_encoder, "clip_g": pipeline.text_encoder_2, "t5xxl": pipeline.text_encoder_3}
    for place, encoder in encoders.items():
        weights |= {f"text_encoders.{place}.transformer.{name}": v for name, v in encoder.state_dict().items()}
    save_file({name: value.clone().contiguous() for name, value in weights.items()}, file)
    return file


def sd3(network: Any) -> dict[str, torch.Tensor]:
    """Weights of a transformer of Stable Diffusion 3 by the names of its authors."""
    weights, found = dict(network.state_dict()), {}
    last = network.config.num_layers - 1
    for swapped in ("norm_out.linear", f"transformer_blocks.{last}.norm1_context.linear"):
        for kind in ("weight", "bias"):
            weights[f"{swapped}.{kind}"] = torch.cat(weights[f"{swapped}.{kind}"].chunk(2)[::-1])
    for i in range(last + 1):
        for block, parts in (("x_block", "to_{}"), ("context_block", "add_{}_proj")):
            for kind in ("weight", "bias"):
                names = [f"transformer_blocks.{i}.attn.{parts.format(part)}.{kind}" for part in "qkv"]
                found[f"joint_blocks.{i}.{block}.attn.qkv.{kind}"] = torch.cat([weights.pop(name) for name in names])
        for new, old in _SD3_BLOCK.items():
            for name in [name for name in weights if name.startswith(f"transformer_blocks.{i}.{new}.")]:
                found[f"joint_blocks.{i}.{old}.{name.rsplit('.', 1)[1]}"] = weights.pop(name)
    for name, value in weights.items():
        new, old = next((new, old) for new, old in _SD3.items() if name.startswith(new))
        rest = name.removeprefix(new)
        found[old + (rest.replace("1.", "0.", 1) if new.endswith("_") else rest)] = value
    return found


def unet(network: Any) -> dict[str, torch.Tensor]:
    """Weights of a U-Net by their older names."""
    layers = network.config.layers_per_block + 1
    has_attention = {name.rsplit(".attentions", 1)[0] for name in network.state_dict() if ".attentions." in name}

    def renamed(name: str) -> str:
        around = next((old for new, old in _AROUND.items() if name.startswith(f"{new}.")), None)
        if around is not None:
            return f"{around}.{name.rsplit('.', 1)[1]}"
        side, _, rest = name.partition(".")
        if side == "mid_block":
            kind, number, rest = rest.split(".", 2)
            return f"middle_block.{2 * int(number) if kind == 'resnets' else 1}.{_in_block(kind, rest)}"
        block, kind, number, rest = rest.split(".", 3)
        down, first = side == "down_blocks", int(block) * layers
        if kind == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":
            place = 2 if f"up_blocks.{block}" in has_attention else 1
            return f"output_blocks.{first + layers - 1}.{place}.{rest}"
        place = first + int(number) + down
        return f"{'input' if down else 'output'}_blocks.{place}.{int(kind == 'attentions')}.{_in_block(kind, rest)}"

    return {renamed(name): value for name, value in network.state_dict().items()}


def _in_block(kind: str, name: str) -> str:
    part, _, rest = name.partition(".")
    return f"{_RESNET[part]}.{rest}" if kind == "resnets" else name


def autoencoder(network: Any) -> dict[str, torch.Tensor]:
    """Weights of an autoencoder by their older names; attention of 1x1 convolutions."""
    last, found = len(network.config.block_out_channels) - 1, {}
    for name, value in network.state_dict().items():
        new = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_norm_out", "norm_out")
        new = new.replace("mid_block.resnets.0", "mid.block_1").replace("mid_block.resnets.1", "mid.block_2")
        for i in range(last + 1):
            new = new.replace(f"down_blocks.{i}.resnets", f"down.{i}.block")
            new = new.replace(f"up_blocks.{i}.resnets", f"up.{last - i}.block")
            new = new.replace(f"down_blocks.{i}.downsamplers.0", f"down.{i}.downsample")
            new = new.replace(f"up_blocks.{i}.upsamplers.0", f"up.{last - i}.upsample")
        new = new.replace("conv_shortcut", "nin_shortcut")
        if ".attn_1." in new:
            for part, old in _ATTENTION.items():
                new = new.replace(f".{part}.", f".{old}.")
            value = value[..., None, None] if value.ndim == 2 else value
        found[new] = value
    return found


def open_clip(network: Any) -> dict[str, torch.Tensor]:
    """Weights of a text encoder with a projection in the layout of OpenCLIP."""
    weights = {name.removeprefix("text_model."): value for name, value in network.state_dict().items()}
    found = {"text_projection": weights.pop("text_projection.weight").T, "logit_scale": torch.ones(())}
    found |= {old: weights.pop(new) for new, old in _OPEN_AROUND.items()}
    for layer in range(network.config.num_hidden_layers):
        start, place = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [weights.pop(f"{start}self_attn.{part}_proj.{kind}") for part in "qkv"]
            found[f"{place}attn.in_proj_{kind}"] = torch.cat(parts)
            found |= {f"{place}{old}.{kind}": weights.pop(f"{start}{new}.{kind}") for new, old in _OPEN.items()}
    assert not weights
    return found
