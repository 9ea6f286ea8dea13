"""A network in training: its state on disk, its updates, and the pipeline folder that comes out of it."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


class Trainer:
    """Weights, their moving average, the optimizer and the counters, saved and restored together."""

    def __init__(self, network: nn.Module, work: Path, rate: float, device: torch.device) -> None:
        self.network = network.to(device=device, memory_format=torch.channels_last)
        self.average = {k: p.detach().clone() for k, p in network.named_parameters()}
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.path, self.rate, self.device = work / "state.safetensors", rate, device
        self.steps = self.images = 0

    def save(self) -> None:
        tensors = {}
        for name, p in self.network.named_parameters():
            tensors[f"weights.{name}"] = p.detach().contiguous()
            tensors[f"average.{name}"] = self.average[name].contiguous()
            for moment, value in self.optimizer.state.get(p, {}).items():
                tensors[f"{moment}.{name}"] = value.contiguous()
        part = self.path.with_suffix(".part")
        save_file(tensors, part, metadata={"steps": str(self.steps), "images": str(self.images)})
        part.replace(self.path)

    def restore(self) -> bool:
        if not self.path.exists():
            return False
        with safe_open(self.path, "pt") as f:
            self.steps, self.images = (int(f.metadata()[k]) for k in ("steps", "images"))
        tensors = load_file(self.path, device=str(self.device))
        for name, p in self.network.named_parameters():
            p.data.copy_(tensors[f"weights.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            moments = {m: tensors[f"{m}.{name}"] for m in ("step", "exp_avg", "exp_avg_sq") if f"{m}.{name}" in tensors}
            if moments:
                # The count of steps is read by the host at every one.
                self.optimizer.state[p] = moments | {"step": moments["step"].cpu()}
        return True

    def update(self, loss: torch.Tensor, images: int) -> float:
        """One update along the gradient of a loss of so many images; returns the loss."""
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.images += images
        decay = min(0.999, (1 + self.steps) / (20 + self.steps))
        names, params = zip(*self.network.named_parameters(), strict=True)
        torch._foreach_lerp_([self.average[n] for n in names], [p.detach() for p in params], 1 - decay)
        return loss.item()

    def averaged(self) -> nn.Module:
        """A copy of the network with the averaged weights, in single precision on the CPU."""
        network = copy.deepcopy(self.network).to("cpu", memory_format=torch.contiguous_format)
        network.load_state_dict({k: v.float().cpu() for k, v in self.average.items()}, strict=False)
        return network.eval()


def write_pipeline(pipeline: DiffusionPipeline, folder: Path, images_seen: dict[str, int]) -> None:
    """Write a pipeline folder that diffusers loads, file by file: the folder may also hold a model card.

    Args:
        pipeline: Its weights are written as they are.
        folder: Where to.
        images_seen: Goes to ``training.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        pipeline.save_pretrained(part, safe_serialization=True)
        (Path(part) / "training.json").write_text(json.dumps(images_seen, indent=2) + "\n")
        copy_whole(Path(part), folder)


def copy_whole(source: Path, folder: Path) -> None:
    """Copy all files below a folder, each of them whole or not at all."""
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target.with_name(target.name + ".part"))
        target.with_name(target.name + ".part").replace(target)
