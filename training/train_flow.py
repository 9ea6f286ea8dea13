"""Train the flow of drawn avatars and write it as a diffusers pipeline folder.

On the latents of an autoencoder that is ready, as the text model's (train_text.py), and with captions as there. A pool
of avatars is drawn and encoded once and kept; every visit has a new caption. The text encoder first learns to say
which terms a caption holds, and stays as it is then. Stops and resumes at any time.

    python training/train_flow.py --vae VAE --work runs/flow --minutes 60
    python training/train_flow.py --vae VAE --work runs/flow --cool-down 1000 --export DIR
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from avatars import Factors, sample_factors
from captions import TERMS, captions, choose_terms, sentence, true_terms, vocabulary
from diffusers import AutoencoderKL
from flow_networks import FlowDenoiser, WrittenOutAttention, build_flow_pipeline, build_word_tokenizer
from loop import finish, mixed_precision, parse, prepare, run, training_parser
from pool import encoded_pool
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm
from trainer import write_pipeline
from transformers import T5EncoderModel, T5Tokenizer

CARD = Path(__file__).parent / "avatars_flow_card.md"
AT_ONCE = 64
TEXT_RATE = 2e-3


def tokens_of(tokenizer: T5Tokenizer, texts: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens ``[B, T]`` of texts, as many as the longest has, and a mask that is 1 where there are words."""
    text = tokenizer(list(texts), padding="longest", truncation=True, return_tensors="pt").to(device)
    return text.input_ids, text.attention_mask


def captioned_latents(
    latents: Tensor, factors: Factors, tokenizer: T5Tokenizer, batch: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless latents ``[B, 4, H, W]`` of a pool, and tokens and masks ``[B, T]`` of new captions of them."""
    while True:
        chosen = torch.randint(len(latents), (batch,))
        rng = random.Random(int(torch.randint(1 << 62, ())))
        texts = captions({name: values[chosen] for name, values in factors.items()}, rng)
        yield latents[chosen].float().to(device), *tokens_of(tokenizer, texts, device)


def draw_times(n: int, device: torch.device) -> Tensor:
    """Logit-normal times in (0, 1), one from each of n strata (Esser et al. 2024): the loss of a batch varies less."""
    u = (torch.arange(n, device=device) + torch.rand(n, device=device)) / n
    return torch.special.ndtri(u.clamp(1e-4, 1 - 1e-4)).sigmoid()[torch.randperm(n, device=device)]


def flow_loss(denoiser: nn.Module, latents: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Of velocities ``noise - latents`` on the straight line between both (Lipman et al. 2023)."""
    times = draw_times(len(latents), latents.device)
    s, noise = times.view(-1, 1, 1, 1), torch.randn_like(latents)
    out = denoiser((1 - s) * latents + s * noise, 1000 * times, tokens, mask)
    return (out.float() - (noise - latents)).square().mean()


def taught_text(encoder: T5EncoderModel, tokenizer: T5Tokenizer, steps: int, file: Path) -> None:
    """Train a text encoder to say which terms a caption holds, in the mean of its tokens, and keep it in a file."""
    if not file.exists():
        says = nn.Linear(encoder.config.d_model, len(TERMS)).to(encoder.device)
        optimizer = torch.optim.AdamW([*encoder.parameters(), *says.parameters()], TEXT_RATE, betas=(0.9, 0.99))
        bar = tqdm(range(steps), desc="text", unit="step", mininterval=10)
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = TEXT_RATE * min(1.0, (step + 1) / 50) * (1 - step / steps)
            texts, said = texts_and_terms(AT_ONCE)
            tokens, mask = tokens_of(tokenizer, texts, encoder.device)
            weights = mask[..., None] / mask.sum(-1)[:, None, None]
            logits = says((encoder(tokens, attention_mask=mask)[0] * weights).sum(1))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, said.to(logits))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            right = ((logits > 0) == (said.to(logits) > 0)).all(1).float().mean().item()
            bar.set_postfix(loss=f"{loss.item():.4f}", right=f"{right:.0%}", refresh=False)
        save_file({name: p.detach() for name, p in encoder.named_parameters()}, file)
    encoder.load_state_dict(load_file(file), strict=False)


def texts_and_terms(n: int) -> tuple[list[str], Tensor]:
    """Captions of n new avatars, and a 1 in ``[n, terms]`` for each term that they say."""
    names = {name: i for i, name in enumerate(TERMS)}
    rng = random.Random(int(torch.randint(1 << 62, ())))
    chosen = [choose_terms(true, rng) for true in true_terms(sample_factors(torch.default_generator, n))]
    said = torch.zeros(n, len(names))
    for i, terms in enumerate(chosen):
        said[i, [names[term.name] for term in terms]] = 1
    return [sentence(terms, rng) for terms in chosen], said


def write_flow(
    autoencoder: AutoencoderKL,
    denoiser: FlowDenoiser,
    tokenizer: T5Tokenizer,
    folder: Path,
    images_seen: dict[str, int],
) -> None:
    """Write the pipeline in half precision, the small text encoder in single, and its card if it has none."""
    denoiser.transformer.half()
    write_pipeline(build_flow_pipeline(autoencoder.half(), denoiser, tokenizer), folder, images_seen)
    if not (folder / "README.md").exists():
        shutil.copyfile(CARD, folder / "README.md")


def images_seen(images: int, pool: int, vae: Path) -> dict[str, int]:
    """Of the transformer, and of the autoencoder: it stands beside its own count, or in a model that has one."""
    own = vae / "training.json"
    if own.exists():
        before = json.loads(own.read_text())["images_seen"]
    else:
        before = json.loads((vae.parent / "training.json").read_text())["images_seen_by_autoencoder"]
    return {"images_seen": images, "avatars_drawn": pool, "images_seen_by_autoencoder": before}


def flow_parser() -> argparse.ArgumentParser:
    """The arguments of all training scripts and those of the flow."""
    parser = training_parser(__doc__, (256,))
    parser.add_argument("--vae", type=Path, required=True, help="folder of the autoencoder")
    parser.add_argument("--layers", type=int, default=6, help="blocks of a new network (default 6)")
    parser.add_argument("--patch", type=int, default=4, help="side of a patch of latents (default 4)")
    parser.add_argument("--pool", type=int, default=16384, help="avatars that are drawn once (default 16384)")
    parser.add_argument("--text-steps", type=int, default=1500, help="of the text encoder alone (default 1500)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Encode avatars, teach the text encoder, and train on both."""
    args = parse(flow_parser(), arguments)
    args.work.mkdir(parents=True, exist_ok=True)
    device = torch.device(args.device)
    autoencoder = AutoencoderKL.from_pretrained(args.vae).to(device).eval().requires_grad_(False)
    latents, factors = encoded_pool(autoencoder, args.pool, args.work / f"pool-{args.pool}.safetensors", args.seed)
    tokenizer = build_word_tokenizer(vocabulary())
    torch.manual_seed(args.seed)
    size = latents.shape[-1]
    denoiser = FlowDenoiser(tokenizer, size, latents.shape[1], args.widths[0], args.layers, args.patch)
    denoiser.transformer.set_attn_processor(WrittenOutAttention())
    taught_text(denoiser.text_encoder.to(device), tokenizer, args.text_steps, args.work / "text.safetensors")
    denoiser.text_encoder.requires_grad_(False)
    trainer = prepare(args, denoiser)

    def loss_of(latents: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        with mixed_precision(args):
            return flow_loss(denoiser, latents, tokens, mask)

    batches = captioned_latents(latents, factors, tokenizer, args.batch, device)
    run(args, trainer, (loss_of(*batch) for batch in batches))
    if args.export:
        seen = images_seen(trainer.images, len(latents), args.vae)
        write_flow(autoencoder, trainer.averaged(), tokenizer, args.export, seen)
        finish(args, trainer)


if __name__ == "__main__":
    main()
