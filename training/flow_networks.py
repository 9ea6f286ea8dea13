"""The networks of the flow: a transformer that attends to the words of T5's encoder, on latents that are ready.

In the shape of PixArt (Chen et al. 2023): DiT with cross-attention, whose pipeline needs one encoder of text.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 128, 2, 4
HEAD_WIDTH = 64
# Longest caption with its end; longer prompts are cut.
TOKENS = 40


def build_word_tokenizer(words: Sequence[str]) -> T5Tokenizer:
    """T5's tokenizer with the words of captions for a vocabulary: one token a word, others are spelt in letters."""
    letters = [(letter, -10.0) for letter in ("\u2581", *string.ascii_lowercase)]
    known = [(word if word == "," else f"\u2581{word}", -1.0) for word in words if f"\u2581{word}" != "\u2581"]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0)]
    return T5Tokenizer(vocab=[*special, *letters, *known], extra_ids=0, model_max_length=TOKENS)


class FlowDenoiser(nn.Module):
    """A transformer on patches of latents and the text encoder that it attends to.

    Args:
        tokenizer: Decides the number of tokens.
        latent_size: Side of the latents.
        channels: Of the latents.
        width: Of the transformer.
        layers: Its blocks.
        patch: Side of a patch.
    """

    def __init__(
        self, tokenizer: T5Tokenizer, latent_size: int, channels: int, width: int, layers: int, patch: int
    ) -> None:
        super().__init__()
        self.text_encoder = T5EncoderModel(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=TEXT_WIDTH,
                d_kv=TEXT_WIDTH // TEXT_HEADS,
                d_ff=4 * TEXT_WIDTH,
                num_layers=TEXT_LAYERS,
                num_heads=TEXT_HEADS,
                dropout_rate=0.0,
            )
        )
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=width // HEAD_WIDTH,
            attention_head_dim=HEAD_WIDTH,
            in_channels=channels,
            out_channels=channels,
            num_layers=layers,
            cross_attention_dim=width,
            sample_size=latent_size,
            patch_size=patch,
            caption_channels=TEXT_WIDTH,
            use_additional_conditions=False,
            interpolation_scale=1,
        )
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Velocities for latents ``[B, C, H, W]`` at timesteps ``[B]`` up to 1000 under texts of tokens ``[B, T]``."""
        return self.transformer(
            noisy,
            encoder_hidden_states=self.text_encoder(tokens, attention_mask=mask)[0],
            encoder_attention_mask=mask.to(noisy.dtype),
            timestep=timesteps,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]


class WrittenOutAttention:
    """Attention in products of matrices, for training on CPUs.

    The backward pass of torch's fused attention takes several times as long there in bfloat16.
    """

    def __call__(
        self,
        attention: Any,
        hidden: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """As diffusers' own processors: states ``[B, N, C]``, a bias of the texts' tokens ``[B, 1, T]``."""
        source = hidden if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            x.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for x in (attention.to_q(hidden), attention.to_k(source), attention.to_v(source))
        )
        scores = (q * attention.scale) @ k.transpose(-1, -2)
        if attention_mask is not None:
            scores = scores + attention_mask[:, None].to(scores.dtype)
        return attention.to_out[0]((scores.softmax(-1, dtype=scores.dtype) @ v).transpose(1, 2).flatten(2))


def build_flow_scheduler() -> DPMSolverMultistepScheduler:
    """Flow matching in the class that PixArt's pipeline expects: ``(1 - s) x + s noise`` at timestep 1000 s."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0, final_sigmas_type="zero"
    )


def build_flow_pipeline(
    autoencoder: AutoencoderKL, denoiser: FlowDenoiser, tokenizer: T5Tokenizer
) -> PixArtAlphaPipeline:
    """The pipeline of these networks."""
    return PixArtAlphaPipeline(
        tokenizer=tokenizer,
        text_encoder=denoiser.text_encoder,
        vae=autoencoder,
        transformer=denoiser.transformer,
        scheduler=build_flow_scheduler(),
    )
