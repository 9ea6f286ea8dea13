"""Train the built-in face model and write it as a diffusers pipeline folder.

Stops and resumes at any time: the state (weights, moving average, Adam moments, counters) is one
safetensors file, replaced whole. A run is a plateau at the full learning rate, which any later run
may go on from, and a cool-down to zero, which is made on a copy and is what gets exported.

    python training/train_faces.py --data faces64.zip --work runs/faces --minutes 60
    python training/train_faces.py --data faces64.zip --work runs/faces --cool-down 400 --export DIR
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from data import load_faces
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from tqdm import tqdm

WIDTHS = (32, 64, 128, 192)
ATTENTION_LEVELS = (2, 3)  # 16x16 and 8x8, as in the paper's DDPM networks


def build_unet(size: int) -> UNet2DModel:
    """U-Net of four resolutions with self-attention at the two lowest and in the middle."""
    levels = range(len(WIDTHS))
    return UNet2DModel(
        sample_size=size,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=WIDTHS,
        down_block_types=tuple("AttnDownBlock2D" if i in ATTENTION_LEVELS else "DownBlock2D" for i in levels),
        up_block_types=tuple("AttnUpBlock2D" if i in ATTENTION_LEVELS else "UpBlock2D" for i in reversed(levels)),
        attention_head_dim=32,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """The linear schedule of DDPM; no clipping, so that DDIM steps stay invertible."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        clip_sample=False,
        prediction_type="v_prediction",
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


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
        from safetensors import safe_open

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


def batches(faces: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Endless shuffled, randomly mirrored batches in [-1, 1]."""
    while True:
        order = torch.randperm(len(faces), device=faces.device)
        for i in range(0, len(order) - size + 1, size):
            x = faces[order[i : i + size]].float() / 127.5 - 1
            mirror = torch.rand(size, device=x.device) < 0.5
            yield torch.where(mirror.view(-1, 1, 1, 1), x.flip(-1), x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="zip of square JPEG faces")
    parser.add_argument("--work", type=Path, required=True, help="folder of the resumable state and the log")
    parser.add_argument("--export", type=Path, help="write the averaged model here at the end")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of the plateau (default 60)")
    parser.add_argument(
        "--cool-down", type=int, metavar="STEPS", help="anneal the rate to zero; leaves the state alone"
    )
    parser.add_argument("--start-from", type=Path, help="pipeline folder to start a new state from")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.cool_down is not None and args.cool_down < 1:
        parser.error(f"--cool-down: expected at least 1 step, got {args.cool_down}")

    device = torch.device(args.device)
    args.work.mkdir(parents=True, exist_ok=True)
    unet = build_unet(args.size)
    if args.start_from:
        unet = UNet2DModel.from_pretrained(args.start_from / "unet")
    trainer = Trainer(unet.train(), args.work, args.rate, device)
    resumed = trainer.restore()
    if args.start_from and not resumed:
        trainer.images = json.loads((args.start_from / "training.json").read_text())["images_seen"]
    torch.manual_seed(args.seed + trainer.steps)
    print(f"{'resumed' if resumed else 'new'}: {trainer.steps} steps, {trainer.images} images", flush=True)

    # bf16 pays on GPUs and on CPUs with AVX-512 BF16; elsewhere it is many times slower.
    fast_bf16 = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    bf16 = fast_bf16 if args.precision == "auto" else args.precision == "bf16"
    alphas = build_scheduler().alphas_cumprod.to(device)
    faces = load_faces(args.data, "train", args.size).to(device)
    if len(faces) < args.batch:
        parser.error(f"--batch: expected at most the {len(faces)} training images, got {args.batch}")

    start, saved, first = time.time(), time.time(), trainer.steps
    bar = tqdm(total=args.cool_down, desc="cool-down" if args.cool_down else "plateau", unit="step", mininterval=10)
    mean = 0.0
    for x in batches(faces, args.batch):
        done = trainer.steps - first
        if (done >= args.cool_down) if args.cool_down else (time.time() - start > args.minutes * 60):
            break
        factor = 1 - done / args.cool_down if args.cool_down else min(1.0, (trainer.steps + 1) / 200)
        for group in trainer.optimizer.param_groups:
            group["lr"] = args.rate * factor
        loss = trainer.step(x, alphas, bf16)
        mean = loss if done == 0 else 0.99 * mean + 0.01 * loss
        bar.update()
        bar.set_postfix(loss=f"{mean:.4f}", images=trainer.images, refresh=False)
        if not args.cool_down and time.time() - saved > 120:
            trainer.save()
            saved = time.time()
            with (args.work / "log.jsonl").open("a") as log:
                log.write(json.dumps({"steps": trainer.steps, "images": trainer.images, "loss": mean}) + "\n")
    bar.close()
    if not args.cool_down:
        trainer.save()
    if args.export:
        export(trainer, args.export)
        print(f"wrote {args.export}", flush=True)


if __name__ == "__main__":
    main()
