"""Transformers of videos that attend to a prompt: Wan 2.1, and Wan 2.2 of one network or of two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from latentjac.arguments import is_number, shown
from latentjac.models.adapters.dit import times
from latentjac.models.adapters.experts import rebuilt
from latentjac.models.adapters.family import BlockOutput, Family, middle_of
from latentjac.models.conditioning import Conditioning
from latentjac.models.errors import LoadError
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.stages import Staged

_TRAINED = (21, 60, 104)  # latents of 81 frames of 480 x 832 pixels; the configuration names none
_MOST_TOKENS = 512  # of a text, as in diffusers
_TAKEN = ("WanPipeline", "WanVideoToVideoPipeline")


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The velocity ``[B, C, F, H, W]`` under ``"text"``, ``[B, tokens, channels]``, zeros behind its end."""
    return network(
        hidden_states=x, timestep=times(x, t), encoder_hidden_states=conditioning["text"], return_dict=False
    )[0]


def sample_shape(network: Any) -> tuple[int, ...]:
    """Latents of the size that diffusers makes by default."""
    return network.config["in_channels"], *_TRAINED


def layers(network: Any) -> Mapping[str, str]:
    """The middle block; see the layers of DiT."""
    return middle_of(network, "blocks")


def grid(network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens along frames, height and width."""
    return tuple(size // patch for size, patch in zip(shape[1:], network.config["patch_size"], strict=True))


def refusal(config: Mapping[str, Any], pipeline: str) -> str | None:
    """Why a network in such a pipeline cannot be used: it gets a picture beside the sample."""
    if pipeline not in _TAKEN:
        return f"it must be that of a {' or '.join(_TAKEN)}, got one of a {pipeline}, which gets a picture as well"
    if config.get("image_dim") is not None or config.get("in_channels", 16) != config.get("out_channels", 16):
        channels = f"{config.get('in_channels')} in_channels and image_dim {config.get('image_dim')}"
        return f"it must get nothing but samples and a text, got {channels}"
    return None


class _MarkedBlock(torch.nn.Module):
    """A block whose output goes through a module that blocks of other networks share: the layer of all of them."""

    def __init__(self, block: torch.nn.Module, place: torch.nn.Module) -> None:
        super().__init__()
        self.block, self.place = block, place

    def forward(self, *args: Any) -> torch.Tensor:
        """What the block makes of tokens ``[B, N, D]``."""
        return self.place(self.block(*args))


class StagedWan(Staged):
    """The two transformers of Wan 2.2 as one network: that of much noise and, below the boundary, that of little.

    Attributes:
        blocks: Layers that are those of whichever is used.

    Args:
        transformer: That of much noise.
        transformer_2: That of little.
        boundary: The timestep from which on the first is used.

    Raises:
        LoadError: If the two differ in more than weights.
    """

    above, below = "transformer", "transformer_2"

    def __init__(self, transformer: Any, transformer_2: Any, boundary: float) -> None:
        super().__init__()
        own, other = ({k: v for k, v in net.config.items() if k[0] != "_"} for net in (transformer, transformer_2))
        if own != other:
            key = next(key for key in own if own[key] != other.get(key))
            raise LoadError(
                f"load: config of transformer_2: {key} must be that of transformer, {own[key]!r}, "
                f"got {other.get(key)!r}"
            )
        self.blocks = torch.nn.ModuleList(torch.nn.Identity() for _ in transformer.blocks)
        self.transformer, self.transformer_2 = _marked(transformer, self.blocks), _marked(transformer_2, self.blocks)
        self.boundary = boundary

    @property
    def config(self) -> dict[str, Any]:
        """That of both, and the boundary."""
        return {**self.transformer.config, "boundary": self.boundary}

    def forward(self, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The velocity ``[B, C, F, H, W]`` at timesteps ``[B]``; for samples on both sides both are evaluated.

        Raises:
            ValueError: If these are, and features of a layer are asked for.
        """
        part = self.part(time)
        if part is not None:
            return self._of(part, x, time, text)
        if any(place._forward_hooks for place in self.blocks):
            raise ValueError(
                f"layer: t must be on one side of {self.boundary:g}, where another network begins, got {time.tolist()}"
            )
        above, below = (self._of(name, x, time, text) for name in (self.above, self.below))
        return torch.where((time >= self.boundary).view(-1, *[1] * (x.ndim - 1)), above, below)

    def _of(self, part: str, x: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        network = getattr(self, part)
        return network(hidden_states=x, timestep=time, encoder_hidden_states=text, return_dict=False)[0]


def _marked(transformer: Any, places: Iterable[torch.nn.Module]) -> Any:
    left = iter(places)
    return rebuilt(transformer, {"WanTransformerBlock": lambda block: _MarkedBlock(block, next(left))})


def call_staged(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """The same of the network that the timestep chooses; all get the same text."""
    return network(x, times(x, t), conditioning["text"])


def boundary(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, float]:
    """The timestep where a pipeline changes networks, a fraction of those of its scheduler."""
    ratio: Any = settings.get("boundary_ratio")
    total: Any = parts["scheduler"].config.get("num_train_timesteps")
    if not is_number(ratio) or not 0 < ratio < 1 or not is_number(total):
        raise LoadError(
            "load: boundary_ratio of a WanPipeline with two networks must be a number between 0 and 1, "
            f"got {shown(ratio)}: set it, or leave out transformer_2"
        )
    return {"boundary": ratio * total}


def make_text(parts: Mapping[str, Any], settings: Mapping[str, Any]) -> PipelineText:
    """The tokens of UMT5."""

    def encode(pipeline: Any, prompts: list[str]) -> dict[str, torch.Tensor]:
        text, _ = pipeline.encode_prompt(prompts, None, False, max_sequence_length=_MOST_TOKENS)
        return {"text": text}

    return PipelineText("WanPipeline", parts, encode)


WAN = Family(
    "WanTransformer3DModel",
    call,
    sample_shape,
    layers,
    part="transformer",
    media="videos",
    sized=True,
    conditioning=("text",),
    refusal=refusal,
    guidance_scale=5.0,
    grid=BlockOutput("blocks", grid),
    requires={"text_encoder": ("UMT5EncoderModel",), "vae": ("AutoencoderKLWan",)},
    allows=("tokenizer",),
    make_text=make_text,
)
# Of two networks; the way between their levels is one.
WAN_STAGED = replace(
    WAN,
    call=call_staged,
    join=StagedWan,
    joining=boundary,
    beside=("transformer_2",),
    requires={**WAN.requires, "transformer_2": ("WanTransformer3DModel",)},
)
