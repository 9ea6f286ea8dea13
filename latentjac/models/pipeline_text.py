"""Prompts encoded by a pipeline of diffusers itself, for families with several encoders of different kinds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from latentjac.models.errors import LoadError
from latentjac.models.text import check_texts
from latentjac.public import made_on_cpu, public

# Tensors of a conditioning from (pipeline, prompts), or from (pipeline, prompts, pictures).
Encode = Callable[..., dict[str, torch.Tensor]]


_HOOKS = "transformers.utils.output_capturing"  # whose hooks cannot be pickled
_encoding = threading.RLock()  # held while hooks are needed, and while they are dropped


class PipelineText:
    """The encoders of a pipeline, called as the pipeline calls them.

    One that :func:`latentjac.load` made can be pickled: it is made anew of the parts of its pipeline. One made by hand
    can where ``encode`` is a function of a module.

    Attributes:
        encoder: All of its encoders, in evaluation mode, gradients off.
        recipe: What makes another one, a function of a module and its arguments; None where that is not known.
        like: Name of a tensor of the prompt that decides how texts are encoded which guidance leads away from.

    Args:
        kind: Class of the pipeline in diffusers.
        parts: Its parts by name; those that it can do without may be missing.
        encode: Calls it.
        encode_away: The same of texts that guidance leads away from, where the pipeline encodes these in another way;
            with ``like`` it gets that tensor as well.
        like: Such a name, where there is one.
    """

    recipe: tuple[Callable[..., PipelineText], tuple[Any, ...]] | None = None

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, Any],
        encode: Encode,
        encode_away: Encode | None = None,
        *,
        like: str | None = None,
    ) -> None:
        import diffusers

        names = getattr(diffusers, kind)._get_init_keys(getattr(diffusers, kind)) - {"self"}
        settings = {"requires_safety_checker": False} if "requires_safety_checker" in names else {}
        self._pipeline = getattr(diffusers, kind)(**{**{name: parts.get(name) for name in names}, **settings})
        self._encode, self._encode_away, self.like = encode, encode_away or encode, like
        coders = ("text_encoder", "projection_model", "bert", "language_model")
        held = [p for name, p in parts.items() if name.startswith(coders) and isinstance(p, torch.nn.Module)]
        self.encoder = torch.nn.ModuleList(held).eval().requires_grad_(False)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What calls the pipeline is a function inside of another, which no other process finds.
        if self.recipe is None:
            return super().__reduce_ex__(protocol)
        with _encoding:
            for part in self._pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    _drop_hooks(part)
        return self.recipe

    @public
    @made_on_cpu
    @torch.no_grad()
    def tensors(self, prompts: Sequence[str], pictures: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts, by name.

        Args:
            prompts: Texts.
            pictures: For encoders that see such: ``[1 or B, 3, H, W]`` in [0, 1].

        Raises:
            TypeError: If prompts are no list of texts.
            ValueError: If there are none.
        """
        with _encoding:
            return self._encode(self._pipeline, check_texts("tensors", prompts), *_given(pictures))

    @public
    @made_on_cpu
    @torch.no_grad()
    def negative_tensors(
        self, prompts: Sequence[str], pictures: torch.Tensor | None = None, *, like: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """The same of prompts that guidance leads away from; errors as of :meth:`tensors`.

        Args:
            prompts: Texts.
            pictures: For encoders that see such.
            like: The tensor of the prompt that :attr:`like` names.
        """
        with _encoding:
            texts = check_texts("negative_tensors", prompts)
            return self._encode_away(self._pipeline, texts, *_given(pictures), *_given(like))


def _drop_hooks(encoder: torch.nn.Module) -> None:
    """Remove hooks that transformers puts on encoders when it is asked for their states, and can put there again."""
    for module in encoder.modules():
        held = module._forward_hooks
        for key in [key for key, hook in held.items() if getattr(hook, "__module__", "") == _HOOKS]:
            del held[key]
        if "_output_capturing_hooks_installed" in vars(module):
            del module._output_capturing_hooks_installed


def _given(tensor: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    return () if tensor is None else (tensor,)


def check_processor(name: str, part: Any) -> None:
    """Raise :class:`LoadError` unless a part of a pipeline prepares texts and pictures at once."""
    import transformers

    if not isinstance(part, transformers.ProcessorMixin):
        raise LoadError(
            f"load: {name} must be a processor of pictures and texts, which is not read from folders: "
            f"load the pipeline object, got a {type(part).__name__}"
        )


def as_pil(picture: torch.Tensor) -> Any:
    """A picture ``[3, H, W]`` in [0, 1] as a PIL image, which pipelines show to their encoders."""
    from PIL import Image

    return Image.fromarray((picture * 255).round().byte().movedim(0, -1).cpu().numpy())


def side_by_side(texts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Texts of several lengths, ``[tokens, channels]`` each, as one tensor.

    Returns:
        ``"text"``, ``[B, tokens, channels]``, zeros behind ends; ``"text_mask"``, ``[B, tokens]``, 1 where there are
        words, and ``[B, 0]`` where all texts are as long: what a trace sees is shapes.
    """
    lengths = [len(text) for text in texts]
    most = max(lengths)
    text = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, most - len(row))) for row in texts])
    if min(lengths) == most:
        return {"text": text, "text_mask": text.new_ones(len(texts), 0)}
    places = torch.arange(most, device=text.device)
    return {"text": text, "text_mask": (places < torch.tensor(lengths, device=text.device)[:, None]).to(text.dtype)}
