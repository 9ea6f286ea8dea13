"""Prompts as T5 encodes them: embeddings, and which of them are of words."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from latentjac.arguments import check_kind, check_text
from latentjac.public import made_on_cpu, public

logger = logging.getLogger("latentjac")


class T5TextEncoder:
    """A tokenizer and the encoder of T5, as PixArt uses them.

    Texts are put in small letters, as diffusers does by default where it cleans nothing else away.

    Attributes:
        encoder: The text model, in evaluation mode, gradients off.

    Args:
        tokenizer: Of transformers; texts are cut off behind its ``model_max_length`` tokens, or ``most``.
        encoder: Its text model.
        most: Tokens that the network was trained with.
        beside: What the network gets beside the text whatever that is, of one row.
    """

    def __init__(
        self, tokenizer: Any, encoder: Any, most: int, beside: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self._tokenizer, self.encoder = tokenizer, encoder.eval().requires_grad_(False)
        self._length, self._beside = min(most, tokenizer.model_max_length), dict(beside or {})

    @public
    @torch.no_grad()
    def tensors(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts.

        Returns:
            ``"text"``, embeddings ``[B, tokens, channels]``, ``"text_mask"``, ``[B, tokens]`` with 1 where there are
            words and 0 behind their end, and what the network gets beside.

        Raises:
            TypeError: If prompts are no list of texts.
            ValueError: If there are none.
        """
        check_kind("tensors", "prompts", prompts, (list, tuple), "a list of texts")
        if not prompts:
            raise ValueError("tensors: prompts must hold at least one text, got none")
        texts = [str(check_text("tensors", f"prompts[{i}]", text)).lower().strip() for i, text in enumerate(prompts)]
        tokens = self._tokens(texts)
        device = next(self.encoder.parameters()).device
        mask = tokens.attention_mask.to(device)
        return {"text": self.encoder(tokens.input_ids.to(device), attention_mask=mask)[0], "text_mask": mask} | {
            name: tensor.to(device) for name, tensor in self._beside.items()
        }

    @made_on_cpu
    def _tokens(self, texts: list[str]) -> Any:
        """Tokens at the length that the network takes; words that are cut off are named."""
        whole = self._tokenizer(texts, padding="longest", return_tensors="pt", verbose=False).input_ids
        if whole.shape[1] > self._length:
            lost = self._tokenizer.batch_decode(whole[:, self._length - 1 :], skip_special_tokens=True)
            cut = [text.strip() for text in lost if text.strip()]
            logger.warning("prompt: only %d tokens are read, so these words are not: %s", self._length, cut)
        return self._tokenizer(
            texts, padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        )
