"""Prompts encoded by a pipeline of diffusers itself, for families with several encoders of different kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from latentjac.models.errors import LoadError
from latentjac.models.text import check_texts
from latentjac.public import made_on_cpu, public

if TYPE_CHECKING:
    from pathlib import Path

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
        held = [part for name, part in parts.items() if name.startswith("text_encoder") or name == "projection_model"]
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


def objects_only(folder: Path, settings: Mapping[str, Any], variant: str | None, dtype: torch.dtype) -> NoReturn:
    """In place of a reader of text encoders from a folder, for families without one.

    Raises:
        LoadError: Always.
    """
    raise LoadError(
        f"load: source must be a pipeline object where the text encoder is T5, got the folder {str(folder)!r}: "
        "latentjac.load(diffusers.DiffusionPipeline.from_pretrained(...))"
    )
