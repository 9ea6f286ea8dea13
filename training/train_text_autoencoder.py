"""Train the autoencoder of the text model on drawn avatars.

The first of two stages; it stops and resumes at any time.

    python training/train_text_autoencoder.py --work runs/text/autoencoder --minutes 60
    python training/train_text_autoencoder.py --work runs/text/autoencoder --cool-down 1000 --export runs/text/vae
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from factors.reader_training import HELD_OUT_SEED, drawings
from loop import finish, mixed_precision, parse, prepare, run, training_parser
from text_networks import AUTOENCODER_WIDTHS, build_autoencoder
from torch import Tensor
from train_avatars import batches
from trainer import copy_whole

# Weak: it keeps latents near zero and smooth, and leaves details to the reconstruction.
KL_WEIGHT = 3e-4
DRAWINGS_OF_SCALE = 1024


def reconstruction_loss(autoencoder: AutoencoderKL, x: Tensor) -> Tensor:
    """Mean absolute error of pictures and of their edges, and the divergence of latents from a normal distribution."""
    posterior = autoencoder.encode(x).latent_dist
    y = autoencoder.decode(posterior.sample()).sample.float()
    edges = sum((y.diff(dim=dim) - x.diff(dim=dim)).abs().mean() for dim in (2, 3))
    return (y - x).abs().mean() + edges + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()


@torch.no_grad()
def standardize(autoencoder: AutoencoderKL, pictures: Tensor) -> None:
    """Give every channel of the latents of pictures in [-1, 1] mean 0 and variance 1; decoded pictures stay the same.

    What changes is only the linear layer after the encoder and the one before the decoder.
    """
    latents = torch.cat([autoencoder.encode(part).latent_dist.mode() for part in pictures.split(32)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    after, before = autoencoder.quant_conv, autoencoder.post_quant_conv
    after.weight[:channels] /= deviation.view(-1, 1, 1, 1)
    after.bias[:channels] = (after.bias[:channels] - mean) / deviation
    # The other half of the outputs are logarithms of variances.
    after.bias[channels:] -= 2 * deviation.log()
    before.bias += before.weight[:, :, 0, 0] @ mean
    before.weight *= deviation.view(1, -1, 1, 1)


def write_autoencoder(autoencoder: AutoencoderKL, folder: Path, images_seen: int) -> None:
    """Write the folder that ``AutoencoderKL.from_pretrained`` reads, each file whole."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as part:
        autoencoder.save_pretrained(part, safe_serialization=True)
        (Path(part) / "training.json").write_text(json.dumps({"images_seen": images_seen}, indent=2) + "\n")
        copy_whole(Path(part), folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw avatars and train on them."""
    parser = training_parser(__doc__, AUTOENCODER_WIDTHS)
    parser.add_argument("--size", type=int, default=64)
    args = parse(parser, arguments)
    torch.manual_seed(args.seed)
    autoencoder = build_autoencoder(args.size, args.widths)
    trainer = prepare(args, autoencoder)

    def loss_of(x: Tensor) -> Tensor:
        with mixed_precision(args):
            return reconstruction_loss(autoencoder, x.contiguous(memory_format=torch.channels_last))

    run(args, trainer, (loss_of(x) for x in batches(args.batch, args.size, trainer.device)))
    if args.export:
        averaged = trainer.averaged()
        _, pictures = drawings(DRAWINGS_OF_SCALE, HELD_OUT_SEED + 3, args.size)
        standardize(averaged, pictures * 2 - 1)
        write_autoencoder(averaged, args.export, trainer.images)
        finish(args, trainer)


if __name__ == "__main__":
    main()
