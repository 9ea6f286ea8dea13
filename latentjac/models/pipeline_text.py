"""Prompts encoded by a pipeline of diffusers itself, for families with several encoders of different kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from latentjac.models.text import check_texts
from latentjac.public import made_on_cpu, public

# Tensors of a conditioning from (pipeline, prompts).
Encode = Callable[[Any, list[str]], dict[str, torch.Tensor]]


class PipelineText:
    """The encoders of a pipeline, called as the pipeline calls them.

    Attributes:
        encoder: All of its encoders, in evaluation mode, gradients off.

    Args:
        kind: Class of the pipeline in diffusers.
        parts: Its parts by name; those that it can do without may be missing.
        encode: Calls it.
    """

    def __init__(self, kind: str, parts: Mapping[str, Any], encode: Encode) -> None:
        import diffusers

        names = getattr(diffusers, kind)._get_init_keys(getattr(diffusers, kind)) - {"self"}
        self._pipeline = getattr(diffusers, kind)(**{name: parts.get(name) for name in names})
        self._encode = encode
        held = [part for name, part in parts.items() if name.startswith("text_encoder")]
        self.encoder = torch.nn.ModuleList(held).eval().requires_grad_(False)

    @public
    @made_on_cpu
    @torch.no_grad()
    def tensors(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts, by name.

        Raises:
            TypeError: If prompts are no list of texts.
            ValueError: If there are none.
        """
        return self._encode(self._pipeline, check_texts("tensors", prompts))
