"""One update of a diffusion network, the state that updates change, and the model that comes out of it."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import DDIMPipeline, UNet2DModel
from network import build_scheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file


def draw_timesteps(n: int, device: torch.device) -> torch.Tensor:
    """Uniform timesteps, one from each of n strata: the loss of a batch varies less."""
    u = (torch.arange(n, device=device) + torch.rand(n, device=device)) / n
    return (u * 1000).long().clamp_(max=999)[torch.randperm(n, device=device)]


class Trainer:
    """Weights, their moving average, the optimizer and the counters, saved and restored together."""

    def __init__(self, unet: UNet2DModel, work: Path, rate: float, device: torch.device) -> None:
        self.unet = unet.to(device=device, memory_format=torch.channels_last)
        self.average = {k: p.detach().clone() for k, p in unet.named_parameters()}
        self.optimizer = torch.optim.AdamW(unet.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
        self.path, self.rate, self.device = work / "state.safetensors", rate, device
        self.steps = self.images = 0

    def save(self) -> None:
        tensors = {}
        for name, p in self.unet.named_parameters():
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
        for name, p in self.unet.named_parameters():
            p.data.copy_(tensors[f"weights.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            moments = {m: tensors[f"{m}.{name}"] for m in ("step", "exp_avg", "exp_avg_sq") if f"{m}.{name}" in tensors}
            if moments:
                self.optimizer.state[p] = moments
        return True

    def step(self, x: torch.Tensor, alphas: torch.Tensor, bf16: bool) -> float:
        """One update on clean images x ``[B, 3, H, W]`` in [-1, 1]; returns the weighted loss."""
        t = draw_timesteps(len(x), x.device)
        a = alphas[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(x)
        noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        # v-prediction (Salimans & Ho 2022): at high noise the network gives the image itself. A network that gives
        # the noise has its errors of mean colour amplified there by 1 / sqrt(a), and needs long training to lose them.
        target = a.sqrt() * noise - (1 - a).sqrt() * x
        with torch.autocast(x.device.type, torch.bfloat16) if bf16 else nullcontext():
            predicted = self.unet(noisy, t).sample
        # Min-SNR weights (Hang et al. 2023) with a floor, so that the last steps still learn fine detail.
        weight = (5 * (1 - a)).clamp(0.1, 1.0)
        loss = (weight * (predicted.float() - target) ** 2).mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.images += len(x)
        decay = min(0.999, (1 + self.steps) / (20 + self.steps))
        names, params = zip(*self.unet.named_parameters(), strict=True)
        torch._foreach_lerp_([self.average[n] for n in names], [p.detach() for p in params], 1 - decay)
        return loss.item()

    def averaged_unet(self) -> UNet2DModel:
        unet = UNet2DModel.from_config(self.unet.config)
        unet.load_state_dict({k: v.float().cpu() for k, v in self.average.items()})
        return unet.eval()


def export(trainer: Trainer, folder: Path) -> None:
    """Write the averaged weights in half precision as a pipeline folder that diffusers loads."""
    pipeline = DDIMPipeline(unet=trainer.averaged_unet().half(), scheduler=build_scheduler())
    with tempfile.TemporaryDirectory(dir=trainer.path.parent) as part:
        pipeline.save_pretrained(part, safe_serialization=True)
        (Path(part) / "training.json").write_text(json.dumps({"images_seen": trainer.images}, indent=2) + "\n")
        # File by file, each whole: the folder also holds the model card.
        for file in sorted(p for p in Path(part).rglob("*") if p.is_file()):
            target = folder / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target.with_name(target.name + ".part"))
            target.with_name(target.name + ".part").replace(target)
