"""Prompts as what a network attends to."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_kind, check_left, check_number, check_text
from latentjac.public import made_on_cpu, public

if TYPE_CHECKING:
    from latentjac.models.model import Model

logger = logging.getLogger("latentjac")


class TextEncoder:
    """A tokenizer and the text half of CLIP, as Stable Diffusion 1 and 2 use them.

    Attributes:
        encoder: The text model, in evaluation mode, gradients off.

    Args:
        tokenizer: Of transformers, with a ``model_max_length``.
        encoder: Its text model.
    """

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self.encoder = tokenizer, encoder.eval().requires_grad_(False)

    @public
    def tensors(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts: ``"text"``, the embeddings."""
        return {"text": self.encode(prompts)}

    @public
    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings ``[B, tokens, channels]`` of B prompts; words beyond the last token are cut off, and named.

        Raises:
            TypeError: If prompts are no list of texts.
            ValueError: If there are none.
        """
        check_kind("encode", "prompts", prompts, (list, tuple), "a list of texts")
        if not prompts:
            raise ValueError("encode: prompts must hold at least one text, got none")
        prompts = [str(check_text("encode", f"prompts[{i}]", text)) for i, text in enumerate(prompts)]
        length = self._tokenizer.model_max_length
        whole, tokens = self._tokens(prompts, length)
        if whole.shape[1] > length:
            lost = self._tokenizer.batch_decode(whole[:, length - 1 :], skip_special_tokens=True)
            cut = [text.strip() for text in lost if text.strip()]
            logger.warning("prompt: only %d tokens are read, so these words are not: %s", length, cut)
        parameter = next(self.encoder.parameters())
        mask = tokens.attention_mask if getattr(self.encoder.config, "use_attention_mask", False) else None
        mask = None if mask is None else mask.to(parameter.device)
        return self.encoder(tokens.input_ids.to(parameter.device), attention_mask=mask)[0]

    @made_on_cpu
    def _tokens(self, prompts: Sequence[str], length: int) -> tuple[torch.Tensor, Any]:
        """All tokens, and what is left of them at the length that the encoder takes."""
        # Not verbose: what is said of words that are cut off says more.
        whole = self._tokenizer(list(prompts), padding="longest", return_tensors="pt", verbose=False).input_ids
        return whole, self._tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )


def check_prompts(
    function: str, model: Model, prompt: Any, negative_prompt: Any, guidance_scale: Any
) -> tuple[str | list[str] | None, str, float]:
    """Prompt, negative prompt and scale, if the model takes such; those of :meth:`Model.conditioning`."""
    if model.text is None:
        where = f"since model {model.name!r} is not conditioned on text"
        for name, value, usual in (("prompt", prompt, None), ("negative_prompt", negative_prompt, "")):
            check_left(function, name, value, usual, where)
        check_left(function, "guidance_scale", guidance_scale, 1.0, where)
        return None, "", 1.0
    check_kind(function, "prompt", prompt, (str, list), "a text, a list of texts", optional=True)
    if isinstance(prompt, list):
        if not prompt:
            raise ValueError(f"{function}: prompt must hold at least one text, got an empty list")
        prompt = [check_text(function, f"prompt[{i}]", text) for i, text in enumerate(prompt)]
    prompt = prompt if isinstance(prompt, list) else check_text(function, "prompt", prompt, optional=True)
    negative_prompt = check_text(function, "negative_prompt", negative_prompt)
    return prompt, negative_prompt, check_number(function, "guidance_scale", guidance_scale, -1e6, 1e6)
