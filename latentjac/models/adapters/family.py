"""What latentjac has to know of a family of networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from latentjac.models.classes import Classes
from latentjac.models.conditioning import Conditioning
from latentjac.models.image_prompts import Embedding, Noising
from latentjac.models.pipeline_text import PipelineText
from latentjac.models.seen import Seen
from latentjac.models.t5 import T5TextEncoder
from latentjac.models.text import TextEncoder, TextEncoders

# What a network returns for noisy samples ``[B, C, H, W]``, a timestep ``[]`` or ``[B]``, and a conditioning with a row
# for each sample.
Call = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, Conditioning], torch.Tensor]
Encoder = TextEncoder | TextEncoders | T5TextEncoder | PipelineText
Inputs = Callable[[Any, Mapping[str, torch.Tensor], float, bool], dict[str, torch.Tensor]]
Tokens = Callable[[Any, tuple[int, ...]], int]
Rescaled = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# What to do with networks that are of no family.
BY_HAND = "networks of other kinds: latentjac.Model(network, scheduler, call=...)"


@dataclass(frozen=True)
class BlockOutput:
    """How tokens that blocks of a network return, ``[B, N, D]``, lie in a sample: then they are ``[B, D, F, H, W]``.

    Attributes:
        blocks: Name of the list of blocks, or of several.
        sizes: Tokens along each dimension of a sample behind its channels, of the network and the sample's shape.
        before: Tokens of something else before them, which are no features.
    """

    blocks: str | tuple[str, ...]
    sizes: Callable[[Any, tuple[int, ...]], tuple[int, ...]] = field(repr=False)
    before: int = 0

    def is_of(self, name: str) -> bool:
        """Whether a layer is one of the blocks."""
        parent, _, number = name.rpartition(".")
        return parent in ((self.blocks,) if isinstance(self.blocks, str) else self.blocks) and number.isdigit()

    def unpacked(self, tokens: torch.Tensor, sizes: tuple[int, ...], count: int) -> torch.Tensor:
        """What a block returned for so many samples as features of these sizes behind their channels."""
        return tokens[:, self.before :].transpose(1, 2).unflatten(2, sizes)

    def packed(self, features: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """The inverse, with zeros for what is no features."""
        tokens = features.flatten(2).transpose(1, 2)
        return torch.nn.functional.pad(tokens, (0, 0, self.before, 0))


@dataclass(frozen=True)
class FrameOutput:
    """Outputs of networks that take frames as further rows of a batch, ``[B F, C, H, W]``: then ``[B, C, F, H, W]``.

    Others that have several rows for a sample, such as tokens of each frame or of each place, get a dimension for
    these: ``[B, rows, ...]``.
    """

    def is_of(self, name: str) -> bool:
        """All layers are."""
        return True

    def sizes(self, network: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Frames of a sample."""
        return (shape[1],)

    def unpacked(self, returned: torch.Tensor, sizes: tuple[int, ...], count: int) -> torch.Tensor:
        """What a module returned for so many samples as features."""
        if returned.ndim == 4:
            return returned.unflatten(0, (count, -1)).transpose(1, 2)
        return returned if len(returned) == count else returned.unflatten(0, (count, -1))

    def packed(self, features: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """The inverse."""
        if features.ndim == 5:
            return features.transpose(1, 2).flatten(0, 1)
        # Tokens, or a row for each frame: in networks of one frame these are as the module returned them.
        rows = features.ndim == 4 or (features.ndim == 3 and sizes[0] > 1)
        return features.flatten(0, 1) if rows else features


def gets(pipeline: str, what: str) -> str:
    """Why a network in a pipeline of this class cannot be used: it gets something that is not given to it."""
    return f"it must get nothing but samples and a text, got that of a {pipeline}, which gets {what} as well"


def refusing(*words: str, what: str = "a picture") -> Callable[[Mapping[str, Any], str], str | None]:
    """The refusal of pipelines whose class has one of the words in its name: their networks get a picture, too."""
    return lambda config, pipeline: gets(pipeline, what) if any(word in pipeline for word in words) else None


def middle_of(network: Any, *names: str) -> Mapping[str, str]:
    """Names of the middle one of the blocks in lists that follow each other; of two in the middle, of the later one."""
    counts = [len(network.get_submodule(name)) for name in names]
    number = sum(counts) // 2
    for name, count in zip(names, counts, strict=True):
        middle = f"{name}.{number}"
        if number < count:
            break
        number -= count
    return {"mid": middle, "h": middle}


@dataclass(frozen=True)
class Family:
    """A family of networks of diffusers pipelines: how they are called and what belongs to them.

    Attributes:
        network: Class of the network in diffusers.
        part: What a pipeline calls its network.
        suits: Whether a network of this configuration is one of the family; a class can have several.
        pipelines: Words of which one is in the name of its pipeline, where the network alone does not tell; without any
            of every pipeline.
        call: How the network is called.
        sample_shape: Shape ``(C, H, W)`` of its samples, or ``(C, F, H, W)`` of videos, of the network.
        shifted: Whether its pipeline shifts latents by the ``shift_factor`` of an autoencoder that has one.
        media: What samples stand for: ``"pictures"``, ``"videos"`` or ``"sound"``.
        coded: The autoencoder of a model, of that of a pipeline and all of its parts.
        sized: Whether the shape is known without a ``sample_size`` in the configuration.
        layers: Names that mean the same for every family, as module names, of the network.
        conditioning: Names of the tensors that the network gets beside sample and timestep.
        further: Names of more such tensors, of networks of this configuration.
        grid: For families whose features are to be taken as videos: how layers return them.
        inputs: Makes those that follow from the model itself, of a row for all samples. Called with the model, the
            tensors of the text, the scale of guidance, and whether they are what guidance leads away from.
        kept: Names of such tensors that are the same in what guidance leads away from, each with that of the text that
            it is.
        seen: In which form the network gets pictures.
        embeddings: Embeddings of pictures that the network gets, by name.
        noising: Of the parts of a pipeline, the noise that pictures or embeddings get; None for none.
        refusal: Why a network of this configuration in a pipeline of this class cannot be used, and None where it can.
        classes: For families with classes: which labels the network takes.
        guidance_scale: That of its pipeline in diffusers by default, the default of :func:`latentjac.sample`.
        unguided: Whether a pipeline of a class and with settings ignores it, since its network was distilled.
        joined: Lists of blocks whose stream holds the tokens of text and picture, and whether those of the picture are
            ``"first"`` or ``"last"``, or ``"last but one"`` before as many of another picture.
        tokens: Number of tokens of samples of a shape ``(C, H, W)``, of the network; None where the configuration's
            ``patch_size`` says it.
        shifting_tokens: How many its pipeline counts where levels shift with the size of pictures; None for as many.
        placement: Where its pipeline has levels before they are shifted, for flows: one of
            ``latentjac.models.placing.PLACEMENTS``.
        scheduled: The scheduler of a model, of that of a pipeline and the pipeline's settings.
        rescaled: What becomes of the output under guidance, of that and the output under the prompt alone; None for
            pipelines that leave it as it is.
        requires: Other parts of a pipeline that it needs, each with the classes it can be of; without any of any class.
        beside: Which of these are networks that are one with it.
        join: The class of that one, made of the network and of those.
        joining: What else it is made of, by name, of the parts of a pipeline and its settings.
        allows: Further parts that a pipeline can have, which ``make_text`` knows of.
        ignores: Further parts that it can have and that nothing is made of here: they rewrite prompts, which are taken
            as they are, read pictures that there are none of, or guide in a way of their own.
        make_text: For families with text: the encoder of prompts, of parts by name and the settings of the pipeline.
    """

    network: str
    call: Call = field(repr=False)
    sample_shape: Callable[[Any], tuple[int, ...]] = field(repr=False)
    layers: Callable[[Any], Mapping[str, str]] = field(repr=False)
    part: str = "unet"
    media: str = "pictures"
    shifted: bool = True
    sized: bool = False
    suits: Callable[[Mapping[str, Any]], bool] = field(default=lambda config: True, repr=False)
    pipelines: tuple[str, ...] = ()
    conditioning: tuple[str, ...] = ()
    classes: Callable[[Any], Classes] | None = field(default=None, repr=False)
    guidance_scale: float = 7.5
    unguided: Callable[[str, Mapping[str, Any]], bool] = field(default=lambda pipeline, settings: False, repr=False)
    further: Callable[[Mapping[str, Any]], tuple[str, ...]] = field(default=lambda config: (), repr=False)
    grid: BlockOutput | FrameOutput | None = field(default=None, repr=False)
    inputs: Inputs | None = field(default=None, repr=False)
    kept: Mapping[str, str] = field(default_factory=dict)
    seen: Callable[[Any], Seen] = field(default=lambda network: Seen(), repr=False)
    embeddings: Callable[[Any], Mapping[str, Embedding]] = field(default=lambda network: {}, repr=False)
    noising: Callable[[Mapping[str, Any]], Noising | None] = field(default=lambda parts: None, repr=False)
    refusal: Callable[[Mapping[str, Any], str], str | None] = field(default=lambda config, kind: None, repr=False)
    joined: Mapping[str, str] = field(default_factory=dict)
    tokens: Tokens | None = field(default=None, repr=False)
    shifting_tokens: Tokens | None = field(default=None, repr=False)
    placement: str = "own"
    scheduled: Callable[[Any, Mapping[str, Any]], Any] = field(
        default=lambda scheduler, settings: scheduler, repr=False
    )
    rescaled: Rescaled | None = field(default=None, repr=False)
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    join: type[torch.nn.Module] | None = None
    joining: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]] = field(
        default=lambda parts, settings: {}, repr=False
    )
    coded: Callable[[Any, Mapping[str, Any]], Any] = field(default=lambda coder, parts: coder, repr=False)
    allows: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    make_text: Callable[[Mapping[str, Any], Mapping[str, Any]], Encoder] | None = field(default=None, repr=False)

    def names(self, network: Any) -> tuple[str, ...]:
        """Names of all tensors that a network gets beside sample and timestep."""
        return (*self.conditioning, *self.kept, *self.further(network.config), *self.embeddings(network))

    def made(self, parts: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
        """The network that a model has, of the parts of a pipeline and its settings."""
        if self.join is None:
            return parts[self.part]
        return self.join(*(parts[name] for name in (self.part, *self.beside)), **self.joining(parts, settings))

    def is_of(self, network: Any) -> bool:
        """Whether a network as :meth:`made` gives it is one of the family."""
        same = type(network).__name__ == self.network if self.join is None else type(network) is self.join
        return same and self.suits(getattr(network, "config", None) or {})

    def takes(self, pipeline: str, classes: Mapping[str, str], config: Mapping[str, Any]) -> bool:
        """Whether a pipeline of this class and such parts, its network of this configuration, is one of the family."""
        if self.pipelines and not any(word in pipeline for word in self.pipelines):
            return False
        parts = all(part in classes and (not known or classes[part] in known) for part, known in self.requires.items())
        return classes.get(self.part) == self.network and parts and self.suits(config)

    def __str__(self) -> str:
        parts = " and ".join("/".join(known) or part for part, known in self.requires.items())
        return f"a {self.network}" + (f" with {parts}" if parts else "")
