"""An IP-Adapter of random weights in a file, with its encoder of pictures, beside the pipeline that it is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pipelines import build_image_encoder
from safetensors.torch import save_file

FILE = "ip-adapter.safetensors"


def saved(build: Any, folder: Path) -> Path:
    """A pipeline in ``saved``, and an adapter for it with its encoder of pictures in ``adapter``."""
    (folder / "adapter").mkdir(parents=True)
    pipeline = build(folder)
    pipeline.save_pretrained(folder / "saved")
    unet, generator = pipeline.unet, torch.Generator().manual_seed(3)
    width = unet.config.cross_attention_dim
    weights = {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}
    weights["image_proj.proj.bias"] = torch.zeros(4 * width)
    shapes = {"image_proj.proj.weight": (4 * width, 12)}
    places = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    for i, place in enumerate(places):
        for letter in "kv":
            shapes[f"ip_adapter.{2 * i + 1}.to_{letter}_ip.weight"] = unet.get_submodule(place).to_q.out_features, width
    weights |= {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "adapter" / FILE)
    build_image_encoder()[1].save_pretrained(folder / "adapter" / "image_encoder")
    return folder
