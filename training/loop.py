"""What every training script does: arguments, a run that stops and resumes, and the export.

The state (weights, moving average, Adam moments, counters) is one safetensors file, replaced whole. A run is a plateau
at the full learning rate, which any later run may go on from, and a cool-down to zero, which is made on a copy and is
what gets exported. The copy is kept while it cools, so that a cool-down too goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from denoising import denoising_loss
from diffusers import DDIMPipeline, UNet2DModel
from network import WIDTHS, build_scheduler, build_unet
from torch import nn
from tqdm import tqdm
from trainer import Trainer, write_pipeline

SECONDS_BETWEEN_SAVES = 120
WARM_UP_STEPS = 200


def training_parser(description: str | None, widths: Sequence[int] = WIDTHS) -> argparse.ArgumentParser:
    """The arguments that all training scripts share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the resumable state and the log")
    parser.add_argument("--export", type=Path, help="write the averaged model here at the end")
    parser.add_argument("--minutes", type=float, default=60.0, help="time limit of the plateau (default 60)")
    parser.add_argument("--until", type=int, metavar="IMAGES", help="end the plateau when so many images were seen")
    parser.add_argument(
        "--cool-down", type=int, metavar="STEPS", help="anneal the rate to zero; leaves the state alone"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument(
        "--widths", type=int, nargs=len(widths), default=widths, help=f"channels of a new network (default {widths})"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def image_parser(description: str | None) -> argparse.ArgumentParser:
    """Those, and the ones of models on pixels."""
    parser = training_parser(description)
    parser.add_argument("--start-from", type=Path, help="pipeline folder to start a new state from")
    parser.add_argument("--size", type=int, default=64)
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the shared arguments."""
    args = parser.parse_args(arguments)
    if args.cool_down is not None and args.cool_down < 1:
        parser.error(f"--cool-down: expected at least 1 step, got {args.cool_down}")
    if args.until is not None and args.until < 1:
        parser.error(f"--until: expected at least 1 image, got {args.until}")
    if args.batch < 1:
        parser.error(f"--batch: expected at least 1 image, got {args.batch}")
    return args


def train(args: argparse.Namespace, batches: Iterator[torch.Tensor]) -> None:
    """Make or resume a state of a model on pixels, train it on batches, and export it if asked to.

    Args:
        args: What :func:`parse` returned.
        batches: Endless images ``[B, 3, S, S]`` in [-1, 1] on the device of the arguments. They are drawn from torch's
            own generator, which is seeded here.
    """
    torch.manual_seed(args.seed)
    if args.start_from:
        unet = UNet2DModel.from_pretrained(args.start_from / "unet")
    else:
        unet = build_unet(args.size, args.widths)
    trainer = prepare(args, unet)
    if args.start_from and not trainer.steps:
        trainer.images = json.loads((args.start_from / "training.json").read_text())["images_seen"]
    alphas = build_scheduler().alphas_cumprod.to(trainer.device)

    def predict(noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with mixed_precision(args):
            return unet(noisy, t).sample

    run(args, trainer, (denoising_loss(predict, x, alphas) for x in batches))
    if args.export:
        pipeline = DDIMPipeline(unet=trainer.averaged().half(), scheduler=build_scheduler())
        write_pipeline(pipeline, args.export, {"images_seen": trainer.images})
        finish(args, trainer)


def prepare(args: argparse.Namespace, network: nn.Module) -> Trainer:
    """A trainer of a new network, or of one in the state that the folder of the run holds."""
    args.work.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(network.train(), args.work, args.rate, torch.device(args.device))
    resumed = trainer.restore()
    print(f"{'resumed' if resumed else 'new'}: {trainer.steps} steps, {trainer.images} images", flush=True)
    return trainer


def mixed_precision(args: argparse.Namespace) -> AbstractContextManager:
    """Autocast to bfloat16 where that pays: on GPUs and on CPUs with AVX-512 BF16.

    Elsewhere it is many times slower.
    """
    kind = torch.device(args.device).type
    fast = kind == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    bf16 = fast if args.precision == "auto" else args.precision == "bf16"
    return torch.autocast(kind, torch.bfloat16) if bf16 else nullcontext()


def run(args: argparse.Namespace, trainer: Trainer, losses: Iterator[torch.Tensor]) -> None:
    """Update until the time, the images or the cool-down are over; the state is saved as it goes and at the end.

    Args:
        args: What :func:`parse` returned.
        trainer: What :func:`prepare` returned.
        losses: Endless losses of one batch each, computed with the weights of the moment they are asked for.
    """
    first = trainer.steps
    if args.cool_down:
        trainer.path = args.work / f"cool-down-{first}-{args.cool_down}.safetensors"
        for other in set(args.work.glob("cool-down-*")) - {trainer.path}:
            other.unlink()
        trainer.restore()
    torch.manual_seed(args.seed + trainer.steps)
    start = saved = time.time()
    bar = tqdm(total=args.cool_down, desc="cool-down" if args.cool_down else "plateau", unit="step", mininterval=10)
    mean, done = None, trainer.steps - first
    while not _is_over(args, trainer, done, start):
        for group in trainer.optimizer.param_groups:
            group["lr"] = args.rate * _factor(args.cool_down, done, trainer.steps)
        loss = trainer.update(next(losses), args.batch)
        mean = loss if mean is None else 0.99 * mean + 0.01 * loss
        done += 1
        bar.update()
        bar.set_postfix(loss=f"{mean:.4f}", images=trainer.images, refresh=False)
        if time.time() - saved > SECONDS_BETWEEN_SAVES:
            trainer.save()
            saved = time.time()
            with (args.work / "log.jsonl").open("a") as log:
                log.write(json.dumps({"steps": trainer.steps, "images": trainer.images, "loss": mean}) + "\n")
    bar.close()
    trainer.save()


def finish(args: argparse.Namespace, trainer: Trainer) -> None:
    """After an export: say so, and remove the cooled copy."""
    if args.cool_down:
        trainer.path.unlink()
    print(f"wrote {args.export}", flush=True)


def _is_over(args: argparse.Namespace, trainer: Trainer, done: int, start: float) -> bool:
    if args.cool_down:
        return done >= args.cool_down
    if args.until is not None and trainer.images >= args.until:
        return True
    # However short the time, a run makes a step.
    return done > 0 and time.time() - start > args.minutes * 60


def _factor(cool_down: int | None, done: int, steps: int) -> float:
    """Share of the learning rate at a step of a run."""
    return 1 - done / cool_down if cool_down else min(1.0, (steps + 1) / WARM_UP_STEPS)
