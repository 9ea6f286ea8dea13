"""Train the text model of drawn avatars and write it as a diffusers pipeline folder.

The second of two stages: the denoiser and its text encoder, on the latents of an autoencoder that is ready
(train_text_autoencoder.py). Every avatar is drawn anew, with a new caption. Stops and resumes at any time.

    python training/train_text.py --vae runs/text/vae --work runs/text/denoiser --minutes 60
    python training/train_text.py --vae runs/text/vae --work runs/text/denoiser --cool-down 1000 --export DIR
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from avatars import Factors, draw, sample_factors
from captions import captions, vocabulary
from denoising import denoising_loss
from diffusers import AutoencoderKL, UNet2DConditionModel
from loop import finish, mixed_precision, parse, prepare, run, training_parser
from pool import encoded_pool
from text_networks import DENOISER_WIDTHS, TextDenoiser, build_pipeline, build_text_scheduler
from tokenizer import build_tokenizer, write_tokenizer
from torch import Tensor
from trainer import write_pipeline
from transformers import CLIPTextModel, CLIPTokenizer

CARD = Path(__file__).parent / "avatars_text_card.md"


@torch.no_grad()
def captioned_latents(
    autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless latents ``[B, 4, S / 4, S / 4]`` of new avatars, and tokens ``[B, T]`` of their captions.

    Everything is drawn from torch's own generator.
    """
    device = autoencoder.device
    while True:
        factors = sample_factors(torch.default_generator, batch)
        rng = random.Random(int(torch.randint(1 << 62, ())))
        text = tokenizer(captions(factors, rng), padding="max_length", truncation=True, return_tensors="pt")
        pictures = draw({name: values.to(device) for name, values in factors.items()}, autoencoder.config.sample_size)
        pixels = (pictures * 255).round() / 127.5 - 1
        latents = autoencoder.encode(pixels).latent_dist.mode() * autoencoder.config.scaling_factor
        yield latents, text.input_ids.to(device)


def pooled_latents(
    pool: tuple[Tensor, Factors], tokenizer: CLIPTokenizer, batch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same of the avatars of a pool, with new captions at every visit."""
    latents, factors = pool
    while True:
        chosen = torch.randint(len(latents), (batch,))
        rng = random.Random(int(torch.randint(1 << 62, ())))
        texts = captions({name: values[chosen] for name, values in factors.items()}, rng)
        text = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        yield latents[chosen].float().to(device), text.input_ids.to(device)


def write_model(
    autoencoder: AutoencoderKL,
    denoiser: TextDenoiser,
    tokenizer: CLIPTokenizer,
    folder: Path,
    images_seen: dict[str, int],
) -> None:
    """Write the pipeline in half precision with the files of its tokenizer, and its card if it has none."""
    # Not the text encoder, which is small: transformers loads it in the precision of its file, diffusers the rest in
    # single precision unless told otherwise, and the two would not fit together.
    denoiser.unet.half()
    write_pipeline(build_pipeline(autoencoder.half(), denoiser, tokenizer), folder, images_seen)
    # Older versions of transformers read these, newer ones do not write them.
    write_tokenizer(vocabulary(), folder / "tokenizer")
    if not (folder / "README.md").exists():
        shutil.copyfile(CARD, folder / "README.md")


def batches_of(
    args: argparse.Namespace, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer
) -> Iterator[tuple[Tensor, Tensor]]:
    """New avatars, or those of a pool where one was asked for."""
    if args.pool is None:
        return captioned_latents(autoencoder, tokenizer, args.batch)
    pool = encoded_pool(autoencoder, args.pool, args.work / f"pool-{args.pool}.safetensors", args.seed)
    return pooled_latents(pool, tokenizer, args.batch, autoencoder.device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw avatars, say what they show, and train on both."""
    parser = training_parser(__doc__, DENOISER_WIDTHS)
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder")
    parser.add_argument("--start-from", type=Path, help="pipeline folder to start a new state from, instead of --vae")
    parser.add_argument("--pool", type=int, help="draw and encode so many avatars once; by default each is new")
    args = parse(parser, arguments)
    if (args.vae is None) == (args.start_from is None):
        parser.error("expected one of --vae and --start-from")
    args.work.mkdir(parents=True, exist_ok=True)
    vae = args.vae or args.start_from / "vae"
    autoencoder = AutoencoderKL.from_pretrained(vae).to(args.device).eval().requires_grad_(False)
    tokenizer = build_tokenizer(vocabulary(), args.work / "tokenizer")
    torch.manual_seed(args.seed)
    latent_size = autoencoder.config.sample_size // 2 ** (len(autoencoder.config.block_out_channels) - 1)
    denoiser = TextDenoiser(tokenizer, latent_size, args.widths)
    if args.start_from:
        denoiser.unet.load_state_dict(UNet2DConditionModel.from_pretrained(args.start_from / "unet").state_dict())
        denoiser.text_encoder = CLIPTextModel.from_pretrained(args.start_from / "text_encoder")
    trainer = prepare(args, denoiser)
    seen = _images_seen(args)
    if not trainer.steps:
        trainer.images = seen["images_seen"]
    alphas = build_text_scheduler().alphas_cumprod.to(trainer.device)

    def loss_of(latents: Tensor, tokens: Tensor) -> Tensor:
        def predict(noisy: Tensor, t: Tensor) -> Tensor:
            with mixed_precision(args):
                return denoiser(noisy, t, tokens)

        return denoising_loss(predict, latents, alphas)

    run(args, trainer, (loss_of(*pair) for pair in batches_of(args, autoencoder, tokenizer)))
    if args.export:
        write_model(autoencoder, trainer.averaged(), tokenizer, args.export, seen | {"images_seen": trainer.images})
        finish(args, trainer)


def _images_seen(args: argparse.Namespace) -> dict[str, int]:
    """Of the denoiser before this run, and of the autoencoder."""
    if args.start_from:
        return json.loads((args.start_from / "training.json").read_text())
    autoencoder = json.loads((args.vae / "training.json").read_text())["images_seen"]
    return {"images_seen": 0, "images_seen_by_autoencoder": autoencoder}


if __name__ == "__main__":
    main()
