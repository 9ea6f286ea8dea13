"""What every training script does: arguments, a run that stops and resumes, and the export.

The state (weights, moving average, Adam moments, counters) is one safetensors file, replaced whole. A run is a plateau
at the full learning rate, which any later run may go on from, and a cool-down to zero, which is made on a copy and is
what gets exported.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DModel
from network import WIDTHS, build_scheduler, build_unet
from tqdm import tqdm
from trainer import Trainer, export

SECONDS_BETWEEN_SAVES = 120
WARM_UP_STEPS = 200


def training_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that all training scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument(
        "--widths", type=int, nargs=len(WIDTHS), default=WIDTHS, help=f"channels of a new network (default {WIDTHS})"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the shared arguments."""
    args = parser.parse_args(arguments)
    if args.cool_down is not None and args.cool_down < 1:
        parser.error(f"--cool-down: expected at least 1 step, got {args.cool_down}")
    if args.batch < 1:
        parser.error(f"--batch: expected at least 1 image, got {args.batch}")
    return args


def train(args: argparse.Namespace, batches: Iterator[torch.Tensor]) -> None:
    """Make or resume a state, train it on batches, and export it if asked to.

    Args:
        args: What :func:`parse` returned.
        batches: Endless images ``[B, 3, S, S]`` in [-1, 1] on the device of the arguments. They are drawn from torch's
            own generator, which is seeded here.
    """
    trainer = _prepare(args)
    _run(args, trainer, batches)
    if not args.cool_down:
        trainer.save()
    if args.export:
        export(trainer, args.export)
        print(f"wrote {args.export}", flush=True)


def _prepare(args: argparse.Namespace) -> Trainer:
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    if args.start_from:
        unet = UNet2DModel.from_pretrained(args.start_from / "unet")
    else:
        unet = build_unet(args.size, args.widths)
    trainer = Trainer(unet.train(), args.work, args.rate, torch.device(args.device))
    resumed = trainer.restore()
    if args.start_from and not resumed:
        trainer.images = json.loads((args.start_from / "training.json").read_text())["images_seen"]
    torch.manual_seed(args.seed + trainer.steps)
    print(f"{'resumed' if resumed else 'new'}: {trainer.steps} steps, {trainer.images} images", flush=True)
    return trainer


def _run(args: argparse.Namespace, trainer: Trainer, batches: Iterator[torch.Tensor]) -> None:
    # bf16 pays on GPUs and on CPUs with AVX-512 BF16; elsewhere it is many times slower.
    fast_bf16 = trainer.device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    bf16 = fast_bf16 if args.precision == "auto" else args.precision == "bf16"
    alphas = build_scheduler().alphas_cumprod.to(trainer.device)
    start, saved, first = time.time(), time.time(), trainer.steps
    bar = tqdm(total=args.cool_down, desc="cool-down" if args.cool_down else "plateau", unit="step", mininterval=10)
    mean = 0.0
    for x in batches:
        done = trainer.steps - first
        # However short the time, a run makes a step.
        if done >= args.cool_down if args.cool_down else done > 0 and time.time() - start > args.minutes * 60:
            break
        for group in trainer.optimizer.param_groups:
            group["lr"] = args.rate * _factor(args.cool_down, done, trainer.steps)
        loss = trainer.step(x, alphas, bf16)
        mean = loss if done == 0 else 0.99 * mean + 0.01 * loss
        bar.update()
        bar.set_postfix(loss=f"{mean:.4f}", images=trainer.images, refresh=False)
        if not args.cool_down and time.time() - saved > SECONDS_BETWEEN_SAVES:
            trainer.save()
            saved = time.time()
            with (args.work / "log.jsonl").open("a") as log:
                log.write(json.dumps({"steps": trainer.steps, "images": trainer.images, "loss": mean}) + "\n")
    bar.close()


def _factor(cool_down: int | None, done: int, steps: int) -> float:
    """Share of the learning rate at a step of a run."""
    return 1 - done / cool_down if cool_down else min(1.0, (steps + 1) / WARM_UP_STEPS)
