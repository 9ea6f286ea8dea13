"""Prompts as T5 encodes them: embeddings, and which of them are of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from latentjac.models.text import check_texts, tokens_of
from latentjac.public import public

TOKENIZERS = ("T5Tokenizer", "T5TokenizerFast")


def _small(texts: list[str]) -> list[str]:
    return [text.lower().strip() for text in texts]


class T5TextEncoder:
    """A tokenizer and the encoder of T5, as PixArt uses them.

    Attributes:
        encoder: The text model, in evaluation mode, gradients off.

    Args:
        tokenizer: Of transformers; texts are cut off behind its ``model_max_length`` tokens, or ``most``.
        encoder: Its text model.
        most: Tokens that the network was trained with.
        cleaned: What is made of texts before; by default they are put in small letters.
    """

    def __init__(
        self, tokenizer: Any, encoder: Any, most: int, cleaned: Callable[[list[str]], list[str]] | None = None
    ) -> None:
        self._tokenizer, self.encoder = tokenizer, encoder.eval().requires_grad_(False)
        self._cleaned = cleaned or _small
        self._length = min(most, tokenizer.model_max_length)

    @public
    @torch.no_grad()
    def tensors(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts.

        Returns:
            ``"text"``, embeddings ``[B, tokens, channels]``, ``"text_mask"``, ``[B, tokens]`` with 1 where there are
            words and 0 behind their end.

        Raises:
            TypeError: If prompts are no list of texts.
            ValueError: If there are none.
        """
        tokens = self._tokens(self._cleaned(check_texts("tensors", prompts)))
        device = next(self.encoder.parameters()).device
        mask = tokens.attention_mask.to(device)
        return {"text": self.encoder(tokens.input_ids.to(device), attention_mask=mask)[0], "text_mask": mask}

    def _tokens(self, texts: list[str]) -> Any:
        """Tokens at the length that the network takes; words that are cut off are named."""
        return tokens_of(self._tokenizer, texts, named=True, length=self._length)
