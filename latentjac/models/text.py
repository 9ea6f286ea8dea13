"""Prompts as what a network attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from latentjac.arguments import check_int, check_kind, check_left, check_number, check_text
from latentjac.models.conditioning import FURTHEST
from latentjac.models.layers import Tap
from latentjac.public import made_on_cpu, public, warn

if TYPE_CHECKING:
    from latentjac.models.model import Model

# What a network is conditioned on that gets the scale of guidance as an input (Meng et al. 2023).
GUIDANCE_EMBEDDING = "guidance_embedding"


class TextEncoder:
    """A tokenizer and the text half of CLIP, as Stable Diffusion 1 and 2 use them.

    Attributes:
        encoder: The text model, in evaluation mode, gradients off.
        skips_layers: Whether ``tensors`` takes ``clip_skip``.

    Args:
        tokenizer: Of transformers, with a ``model_max_length``.
        encoder: Its text model.
    """

    skips_layers = True

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self.encoder = tokenizer, encoder.eval().requires_grad_(False)

    @public
    def tensors(self, prompts: Sequence[str], *, clip_skip: int | None = None) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts: ``"text"``, the embeddings; see :meth:`encode`."""
        return {"text": self.encode(prompts, clip_skip=clip_skip)}

    @public
    @torch.no_grad()
    def encode(self, prompts: Sequence[str], *, clip_skip: int | None = None) -> torch.Tensor:
        """Embeddings ``[B, tokens, channels]`` of B prompts; words beyond the last token are cut off, and named.

        Args:
            prompts: Texts. The name of an embedding of several vectors (textual inversion, Gal et al. 2022) that the
                tokenizer has learned stands for all of them.
            clip_skip: How many of the last layers are left out, behind which the last norm is applied.

        Raises:
            TypeError: If prompts are no list of texts, or clip_skip is no int.
            ValueError: If there are none, or fewer layers.
        """
        prompts = check_texts("encode", prompts)
        skipped = _check_skipped("encode", clip_skip, self.encoder, 1)
        tokens = tokens_of(self._tokenizer, prompts, named=True)
        parameter = next(self.encoder.parameters())
        mask = tokens.attention_mask if getattr(self.encoder.config, "use_attention_mask", False) else None
        mask = None if mask is None else mask.to(parameter.device)
        ids = tokens.input_ids.to(parameter.device)
        if not skipped:
            return self.encoder(ids, attention_mask=mask)[0]
        return _half(self.encoder).final_layer_norm(_before(self.encoder, skipped, ids, attention_mask=mask))


class TextEncoders:
    """Tokenizers and text halves of CLIP, as Stable Diffusion XL uses them: two, or the second alone.

    Attributes:
        encoder: The text models, in evaluation mode, gradients off.

    Args:
        tokenizers: Of transformers.
        encoders: Their text models; the last has a projection.
        zeros: Whether the network was trained with zeros in place of an empty text.
    """

    skips_layers = True

    def __init__(self, tokenizers: Sequence[Any], encoders: Sequence[Any], *, zeros: bool) -> None:
        self._tokenizers, self._zeros = list(tokenizers), zeros
        self.encoder = torch.nn.ModuleList(encoders).eval().requires_grad_(False)

    @public
    @torch.no_grad()
    def tensors(self, prompts: Sequence[str], *, clip_skip: int | None = None) -> dict[str, torch.Tensor]:
        """What a :class:`Conditioning` holds of B prompts.

        Args:
            prompts: Texts, as of :meth:`TextEncoder.encode`.
            clip_skip: How many layers before the last but one are left out as well.

        Returns:
            ``"text"``, the features before the last layer of all encoders side by side, ``[B, tokens, channels]``, and
            ``"pooled"``, what the last encoder says of the text as a whole, ``[B, channels]``.

        Raises:
            TypeError: If prompts are no list of texts, or clip_skip is no int.
            ValueError: If there are none, or fewer layers.
        """
        prompts = check_texts("tensors", prompts)
        found = []
        for i, (tokenizer, encoder) in enumerate(zip(self._tokenizers, self.encoder, strict=True)):
            skipped = _check_skipped("tensors", clip_skip, encoder, 2)
            ids = tokens_of(tokenizer, prompts, named=i == 0).input_ids.to(next(encoder.parameters()).device)
            found.append(_before(encoder, skipped + 1, ids))
        return {"text": torch.cat(found, dim=-1), "pooled": encoder(ids).text_embeds}

    @public
    def without_text(self, *, clip_skip: int | None = None) -> dict[str, torch.Tensor]:
        """The same where there is no text, of one row: of the empty text, or zeros where these were trained."""
        tensors = self.tensors([""], clip_skip=clip_skip)
        return {name: torch.zeros_like(t) for name, t in tensors.items()} if self._zeros else tensors


def check_texts(function: str, prompts: Any) -> list[str]:
    """The texts of a list or tuple; raise unless there is one at least."""
    check_kind(function, "prompts", prompts, (list, tuple), "a list of texts")
    if not prompts:
        raise ValueError(f"{function}: prompts must hold at least one text, got none")
    return [str(check_text(function, f"prompts[{i}]", text)) for i, text in enumerate(prompts)]


def _check_skipped(function: str, clip_skip: Any, encoder: Any, used: int) -> int:
    """How many layers are left out, so that of ``used`` layers or more one is left."""
    if clip_skip is None:
        return 0
    return int(check_int(function, "clip_skip", clip_skip, 0, encoder.config.num_hidden_layers - used))


def _half(encoder: Any) -> Any:
    """The text half itself, which some classes and versions of transformers have one level down."""
    return getattr(encoder, "text_model", encoder)


def _before(encoder: Any, count: int, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """Features ``[B, tokens, channels]`` before so many of the last layers.

    Not by ``output_hidden_states``, which leaves hooks that cannot be pickled.
    """
    half = _half(encoder)
    return Tap(half, f"encoder.layers.{encoder.config.num_hidden_layers - count - 1}")(ids, **options)


@made_on_cpu
def tokens_of(tokenizer: Any, prompts: Sequence[str], *, named: bool, length: int | None = None) -> Any:
    """What a tokenizer makes of prompts, at a length, by default the one that its encoder takes.

    Words that are cut off can be named.
    """
    prompts = [_with_all_vectors(tokenizer, text) for text in prompts]
    length = tokenizer.model_max_length if length is None else length
    if named:
        # Not verbose: what is said of words that are cut off says more.
        whole = tokenizer(prompts, padding="longest", return_tensors="pt", verbose=False).input_ids
        if whole.shape[1] > length:
            lost = tokenizer.batch_decode(whole[:, length - 1 :], skip_special_tokens=True)
            cut = [text.strip() for text in lost if text.strip()]
            warn(f"prompt: only {length} tokens are read, so these words are not: {cut}")
    return tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")


def _with_all_vectors(tokenizer: Any, prompt: str) -> str:
    """A prompt in which the name of an embedding of several vectors is followed by the names of the others.

    Diffusers calls the vectors of ``<cat>`` ``<cat>``, ``<cat>_1``, ``<cat>_2`` and so on.
    """
    known = getattr(tokenizer, "added_tokens_encoder", {})
    if not any(f"{token}_1" in known for token in known):
        return prompt
    for token in sorted(set(tokenizer.tokenize(prompt)) & set(known)):
        names = [token]
        while f"{token}_{len(names)}" in known:
            names.append(f"{token}_{len(names)}")
        prompt = prompt.replace(token, " ".join(names))
    return prompt


def check_prompts(
    function: str, model: Model, prompt: Any, negative_prompt: Any, guidance_scale: Any
) -> tuple[str | list[str] | None, str, float]:
    """Prompt, negative prompt and scale, if the model takes such; those of :meth:`Model.conditioning`."""
    if model.text is None:
        where = f"since model {model.name!r} is not conditioned on text"
        for name, value, usual in (("prompt", prompt, None), ("negative_prompt", negative_prompt, "")):
            check_left(function, name, value, usual, where)
        if model._embeddings:
            return None, "", check_number(function, "guidance_scale", guidance_scale, -FURTHEST, FURTHEST)
        check_left(function, "guidance_scale", guidance_scale, 1.0, where)
        return None, "", 1.0
    if GUIDANCE_EMBEDDING in (model._names or ()):
        where = f"since the network of {model.name!r} gets the scale of guidance as an input"
        check_left(function, "negative_prompt", negative_prompt, "", where)
    check_kind(function, "prompt", prompt, (str, list), "a text, a list of texts", optional=True)
    if isinstance(prompt, list):
        if not prompt:
            raise ValueError(f"{function}: prompt must hold at least one text, got an empty list")
        prompt = [check_text(function, f"prompt[{i}]", text) for i, text in enumerate(prompt)]
    prompt = prompt if isinstance(prompt, list) else check_text(function, "prompt", prompt, optional=True)
    negative_prompt = check_text(function, "negative_prompt", negative_prompt)
    return prompt, negative_prompt, check_number(function, "guidance_scale", guidance_scale, -FURTHEST, FURTHEST)
