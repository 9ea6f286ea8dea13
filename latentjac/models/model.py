"""A diffusion network with its schedule and codec, and the maps a Jacobian can be taken of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch

from latentjac.arguments import (
    check_callable,
    check_dense,
    check_device,
    check_dtype,
    check_kind,
    check_left,
    check_number,
    check_text,
)
from latentjac.linearization import Linearization
from latentjac.linearization.locks import exclusion
from latentjac.models.adapters import PIXEL_UNET, Call, Encoder, Family, family_of
from latentjac.models.arguments import check_call, check_labels, check_linearized
from latentjac.models.as_given import AsGiven
from latentjac.models.beside import Given, beside_for
from latentjac.models.classes import Asked, Classes
from latentjac.models.codec import ImageInput, NoCodec, PixelCodec
from latentjac.models.conditioning import Conditioning, ImageGuidance, RescaledGuidance
from latentjac.models.feature_maps import layer_map, prediction_map
from latentjac.models.forwards import Forwards
from latentjac.models.guidance import Denoiser, Guided, GuidedByImage
from latentjac.models.identity import network_identity
from latentjac.models.image_prompts import Embedding, ImageEncoder, Noising
from latentjac.models.latents import LatentCodec
from latentjac.models.layers import OUTPUTS, refuse_training, resolve_layer, run
from latentjac.models.parts import check_has, check_shape, codec_of_pixels, names_of, unwrapped
from latentjac.models.prompted import conditioning_under
from latentjac.models.schedulers import levels_of
from latentjac.models.snapshot import without_values
from latentjac.models.sound import SoundCodec
from latentjac.models.stages import of_part, part_at
from latentjac.models.tokens import count_tokens, tokens_of_sample
from latentjac.models.traces import Traces
from latentjac.models.video import VideoCodec, VideoLatentCodec
from latentjac.models.weights import cast_weights, mode_of
from latentjac.public import public

_NONE = Conditioning()
Codec = PixelCodec | LatentCodec | VideoCodec | VideoLatentCodec | SoundCodec


class Model:
    """What the layers above need of a diffusion model, whatever pipeline it came from.

    ``latentjac.load`` makes one of pipelines; made by hand it takes any network that denoises samples ``[B, C, H, W]``,
    or of another shape, such as videos ``[B, C, F, H, W]`` or sound ``[B, C, L]``:

        model = latentjac.Model(network, scheduler, call=lambda net, x, t, c: net(x, t, c["class"]),
                                layers={"mid": net.blocks[6]}, sample_shape=(3, 32, 32))

    The network is not copied: it is put in evaluation mode, its gradients off; on a CPU channels last, unless it has
    three-dimensional convolutions.

    Attributes:
        name: How it was asked for.
        network: The denoiser.
        scheduler: The diffusers scheduler it was trained with.
        call: How the network is called.
        layers: Names that mean the same for every network, as module names.
        sample_shape: Shape ``(C, H, W)`` of one noisy sample, ``(C, F, H, W)`` of a video, or another.
        codec: Turns pictures into samples and back.
        text: Turns prompts into tensors of a conditioning; None for networks without.
        image_encoder: Turns pictures into embeddings; None for networks without, and where there is none.
        noising: The noise that pictures beside a sample, or their embeddings, get; None for none.
        classes: Labels of classes that the network takes; None for networks without.
        guidance_scale: That of :func:`latentjac.sample` by default where a prompt or a class is given.
        levels: Signal and noise at each timestep of the scheduler, and what the network predicts.

    Args:
        call: Gives the network's prediction ``[B, C, H, W]`` for (network, samples ``[B, C, H, W]``, timestep ``[]`` or
            ``[B]``, :class:`Conditioning` with a row for each sample); more channels behind those of the sample are
            ignored. By default that of the network's family, for other classes ``network(x, t, return_dict=False)[0]``.
        layers: Such names, each with a module of the network or its name.
        sample_shape: By default from the network's configuration.
        codec: With ``encode`` and ``decode`` as :class:`PixelCodec` has them; by default that one for samples
            ``(C, H, W)`` of 1 or 3 channels, :class:`VideoCodec` for ``(C, F, H, W)`` of as many, and none for others.
        text: With ``tensors(prompts)`` as :class:`TextEncoder` has it.
        image_encoder: With ``encode`` and ``without_picture`` as :class:`ImageEncoder` has them.
        classes: For networks with classes, whose labels come as ``"class_label"``, int64 ``[B]``. By default those of
            the network's family, and none with a ``call`` of your own.
        name: By default that of the network's class.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the schedule cannot be used, a layer is not in the network, or the shape of samples is unknown.

    Example:
        >>> conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        >>> network = torch.nn.Sequential(conv, torch.nn.Tanh(), conv)
        >>> own = latentjac.Model(
        ...     network,
        ...     model.scheduler,
        ...     call=lambda net, x, t, c: net(x),
        ...     layers={"mid": network[1]},
        ...     sample_shape=(3, 8, 8),
        ... )
        >>> own.sample_shape
        (3, 8, 8)
    """

    def __init__(
        self,
        network: torch.nn.Module,
        scheduler: Any,
        *,
        call: Call | None = None,
        layers: Mapping[str, torch.nn.Module | str] | None = None,
        sample_shape: Sequence[int] | None = None,
        codec: Codec | None = None,
        text: Encoder | None = None,
        image_encoder: ImageEncoder | None = None,
        classes: Classes | None = None,
        name: str | None = None,
    ) -> None:
        check_kind("Model", "network", network, torch.nn.Module, "a torch.nn.Module")
        check_callable("Model", "call", call, optional=True)
        # Layers have their names only inside of what wraps a network.
        self.network: Any = unwrapped(network)
        kind = type(self.network).__name__
        known = family_of(self.network)
        family = known or PIXEL_UNET
        self.name = check_text("Model", "name", name, optional=True) or kind
        check_has("codec", codec, ("encode", "decode"))
        check_has("text", text, ("tensors",))
        check_has("image_encoder", image_encoder, ("encode", "without_picture"))
        check_kind("Model", "classes", classes, Classes, "a latentjac.models.Classes", optional=True)
        self.scheduler, self.text, self.classes = scheduler, text, classes
        self.image_encoder = image_encoder
        self.noising: Noising | None = None
        self.guidance_scale = family.guidance_scale
        if classes is None and call is None and family.classes is not None:
            self.classes = family.classes(self.network)
        self.call: Call = call or family.call
        self._usual = call is None and known is not None
        self.layers = {**family.layers(self.network), **names_of(self.network, layers)}
        if sample_shape is not None:
            self.sample_shape = check_shape(sample_shape)
        elif getattr(self.network, "config", None):
            self.sample_shape = family.sample_shape(self.network)
        else:
            raise ValueError("Model: sample_shape must be given for a network without configuration, got None")
        self.codec: Codec | NoCodec = codec_of_pixels(self.sample_shape) if codec is None else codec
        self.network.eval().requires_grad_(False)
        self._none = torch.zeros((), dtype=torch.float32, device="cpu")  # stands for weights where there are none
        if self.device.type == "cpu" and all(p.ndim < 5 for p in self.network.parameters()):
            # Convolutions are faster so on a CPU; the annotation of Module.to leaves the keyword out.
            with mode_of(self.network):
                self.network.to(memory_format=torch.channels_last)

    def _forget(self) -> None:
        """Drop traces and recordings."""
        self._traces = Traces()
        self._forwards = Forwards()

    @property
    def _own_family(self) -> Family:
        """That of the network; of networks of no family that of pixel U-Nets."""
        # Not held: parts of a family cannot be pickled.
        return family_of(self.network) or PIXEL_UNET

    @property
    def _family(self) -> Family | None:
        """That of the network, whose call is the model's; None with a call of another kind."""
        return family_of(self.network) if self._usual else None

    @property
    def _names(self) -> tuple[str, ...] | None:
        """Of the tensors of a conditioning; None where only the call knows them."""
        family = self._family
        return None if family is None else family.names(self.network)

    @property
    def _embeddings(self) -> Mapping[str, Embedding]:
        """Embeddings of pictures that the network gets by now: adapters can come later."""
        family = self._family
        return {} if family is None else family.embeddings(self.network)

    def __getstate__(self) -> dict[str, Any]:
        # Traces and recordings belong to this object in this process.
        state = {name: value for name, value in vars(self).items() if name not in ("_traces", "_forwards")}
        with exclusion.evaluating():  # a network that another thread traces has other parameters, and hooks
            return state | without_values(network=self.network, codec=self.codec, text=self.text)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    @property
    def device(self) -> torch.device:
        """Where the network's weights are; of one without any the CPU, or where :meth:`to` moved it."""
        return self._weights.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights; of one without any float32, or what :meth:`to` made it."""
        return self._weights.dtype

    @property
    def _weights(self) -> torch.Tensor:
        """One of them, or a tensor that stands for them."""
        with exclusion.evaluating():  # a network that another thread traces has other parameters
            held = chain(self.network.parameters(), self.network.buffers())
            return next((tensor for tensor in held if tensor.is_floating_point()), self._none)

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler the network was trained with; another one brings its levels."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self.levels = levels_of("Model", scheduler)
        self._scheduler = scheduler
        self._forget()

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of timesteps of the training schedule."""
        return self.levels.num_train_timesteps

    @property
    def prediction_type(self) -> str:
        """What the network predicts."""
        return self.levels.prediction_type

    @property
    def image_seq_len(self) -> int:
        """Number of tokens that a sample is to a transformer; of other networks, number of its pixels."""
        return count_tokens(self._own_family, self.network, self.sample_shape)

    @property
    def placing(self) -> dict[str, Any]:
        """How its pipeline places levels: what :meth:`latentjac.diffusion.Schedule.from_scheduler` takes by name."""
        counted = self._own_family.shifting_tokens
        tokens = self.image_seq_len if counted is None else counted(self.network, self.sample_shape)
        return {"image_seq_len": tokens, "placement": self._own_family.placement}

    def picture_in(self, name: str) -> slice:
        """Where among the tokens of a layer those of the picture are, of a full module name."""
        return tokens_of_sample(self._own_family, self.network, self.sample_shape, name)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
        """Move the network and what belongs to it; cached traces are dropped.

        Raises:
            TypeError: If device is no device or dtype no floating-point type.
            ValueError: If there is no such device, or it holds no values.
        """
        device = check_device("to", "device", device, optional=True)
        dtype, kept = check_dtype("to", "dtype", dtype, optional=True), self.dtype
        encoders = (getattr(held, "encoder", None) for held in (self.text, self.image_encoder))
        for part in (self.network, getattr(self.codec, "autoencoder", None), *encoders):
            if part is not None and device is not None:
                with mode_of(part):
                    part.to(device)
            if part is not None and dtype is not None and dtype != kept:
                cast_weights(part, dtype)
        self._none = self._none.to(device, dtype)
        self._forget()
        return self

    def identity(self) -> str:
        """Short hash of the network, to tell models apart in saved files.

        Of its architecture, a sample of its weights, and whatever was added to it since it was built: hooks, attention
        processors, adapters with their strengths, settings. It is the same in every process and on every device.
        """
        return network_identity(self.network)

    @public
    def conditioning(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str = "",
        guidance_scale: float = 1.0,
        *,
        class_label: int | list[int] | None = None,
        negative_class_label: int | None = None,
        clip_skip: int | None = None,
        image: ImageInput | list[ImageInput] | tuple[Any, ...] | None = None,
        mask: ImageInput | None = None,
        control: Any = None,
        control_strength: float | list[float] | None = None,
        control_mode: int | list[int] | None = None,
        image_prompt: Any = None,
        image_embedding: Any = None,
        negative_image_embedding: Any = None,
        noise_level: int | None = None,
        generator: torch.Generator | None = None,
        image_guidance_scale: float = 1.0,
        guidance_rescale: float = 0.0,
    ) -> Conditioning:
        """What the network gets beside sample and timestep under a prompt or a class.

        Args:
            prompt: Text, or one a sample; None is no text, which is the empty text or what the network was trained with
                in its place. Only None for models without text.
            negative_prompt: Text that guidance leads away from; the empty text is none.
            guidance_scale: Classifier-free guidance (Ho & Salimans 2022) of the predicted noise and clean sample; 1 is
                none. The features of a layer are those under the prompt in any case. Networks that were trained with
                the scale as an input (latent consistency) get it as such.
            class_label: A class, or one a sample; None is the null class. Only None for models without classes.
            negative_class_label: Class that guidance leads away from; the null class by default.
            clip_skip: How many of the last layers of text encoders are left out for the prompt, as diffusers counts.
            image: For networks that get a picture beside the sample: the one to be edited or completed, or a list with
                one a sample; see :meth:`PixelCodec.encode`. For those that see several, a tuple of such.
            mask: For networks that complete a picture: where; white is inside. A picture or its file, or a tensor
                ``[H, W]`` of the picture's size, bool or with 1 inside.
            control: For networks with a ControlNet or a T2I-Adapter: what it sees, such as edges or a pose, or one a
                sample; for several a list of such, one each. For networks that get depth: a map of it.
            control_strength: Factor of what these add, 1 by default; for several a list of such.
            control_mode: For ControlNets of several kinds of pictures (union): the number of the kind that ``control``
                is, as their authors count them; for several a list of such.
            image_prompt: For networks that get the embedding of a picture, as with an IP-Adapter: the picture, of any
                size, or one a sample; for several adapters a list of such, one each.
            image_embedding: A ready embedding in place of the picture, ``[channels]`` or ``[B, channels]``, or with
                dimensions of pictures and tokens before that of channels; for several adapters a list of such.
            negative_image_embedding: What guidance leads away from in its place; by default that of no picture.
            noise_level: For networks that get a picture, or its embedding, with noise: the timestep of that noise; by
                default that of the pipeline in diffusers.
            generator: Source of that noise; by default one of seed 0.
            image_guidance_scale: Guidance by the picture of InstructPix2Pix beside that by the text, see
                :class:`latentjac.models.ImageGuidance`; 1 is none of its own.
            guidance_rescale: How much of the contrast of predictions without guidance comes back, see
                :class:`latentjac.models.RescaledGuidance`; 0 is none of it.

        Returns:
            Empty for models without text, classes and embeddings.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If an argument is out of range, or one is given that the network does not take, or missing.
        """
        asked = Asked(prompt, negative_prompt, guidance_scale, class_label, negative_class_label)
        asked = asked.checked("conditioning", self)
        given = Given(
            image, mask, control, control_strength, control_mode, image_prompt, image_embedding,
            negative_image_embedding, noise_level, generator, image_guidance_scale,
        )  # fmt: skip
        beside = beside_for("conditioning", self, given, asked.guidance_scale)
        if not getattr(self.text, "skips_layers", False):
            where = f"since model {self.name!r} has no text encoder of CLIP, whose layers can be left out"
            check_left("conditioning", "clip_skip", clip_skip, None, where)
        rescale = _rescale("conditioning", guidance_rescale, asked.guidance_scale, image_guidance_scale)
        return conditioning_under("conditioning", self, asked, beside, clip_skip, rescale)

    def denoiser(self, conditioning: Conditioning = _NONE) -> Denoiser:
        """The network under a conditioning, guided where that has guidance."""
        check_kind("denoiser", "conditioning", conditioning, Conditioning, "a latentjac.Conditioning")
        check_labels("denoiser", self, conditioning)
        plain = Denoiser(self, conditioning.unguided())
        guidance = conditioning.guidance
        if guidance is None:
            return plain
        if isinstance(guidance, ImageGuidance):
            return GuidedByImage(plain, guidance.negative, guidance.without, guidance.scale, guidance.image_scale)
        rescale = guidance.rescale if isinstance(guidance, RescaledGuidance) else None
        return Guided(plain, guidance.negative, guidance.scale, rescale)

    def _as_given(self, variance: bool = False) -> Model:
        """This model with outputs of its network in place of predictions; see :class:`AsGiven`."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other.levels = AsGiven(self.levels.prediction_type, self.levels.num_train_timesteps, variance)
        other._forget()
        return other

    def _output(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning = _NONE) -> torch.Tensor:
        """What the network returns for samples under a conditioning with a row for each, without guidance."""
        out = run(self.network, self.levels.called(self.call), self.network, x, t, conditioning)
        return self.levels.used(out, x)

    @public
    def eps(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning = _NONE) -> torch.Tensor:
        """Predicted noise at noisy samples, a function that can be differentiated: it reads no values.

        Args:
            x: Samples ``[B, C, H, W]``, type and device of the network's weights.
            t: Timestep of the training schedule, tensor ``[]`` or ``[B]`` of whole or fractional numbers.
            conditioning: From :meth:`conditioning`, with one row or one a sample.

        Returns:
            ``[B, C, H, W]``; the network's own prediction converted to noise.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If one has another shape or type than the network takes.
        """
        check_call("eps", self, x, t, conditioning)
        return self.denoiser(conditioning)._predict(x, t).eps

    @public
    def x0(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning = _NONE) -> torch.Tensor:
        """Posterior mean of the clean sample, ``[B, C, H, W]`` (Tweedie's formula); see :meth:`eps`."""
        check_call("x0", self, x, t, conditioning)
        return self.denoiser(conditioning)._predict(x, t).x0

    @public
    def resolve_layer(self, layer: str) -> str:
        """Full module name of a layer, or an output's name; see :func:`latentjac.models.resolve_layer`."""
        return resolve_layer(self.network, layer, self.layers)

    @public
    def feature_map(self, layer: str) -> Callable[..., torch.Tensor]:
        """The map ``(x, t, conditioning) -> features`` of a layer; the conditioning may be left out.

        Args:
            layer: Module name, ``"mid"`` (h-space of the paper), ``"eps"``, ``"x0"``, or ``"image"``: the picture that
                ``"x0"`` decodes to, unclipped; see :func:`latentjac.models.decoder_map`.

        Raises:
            TypeError: If layer is not a string.
            ValueError: If the layer is unknown, with the nearest names.
        """
        name = self.resolve_layer(layer)
        return prediction_map(self, name) if name in OUTPUTS else layer_map(self, name)

    @public
    def part_at(self, t: torch.Tensor) -> str | None:
        """Which network is used at timesteps, of models with one for much noise and one for little, as Wan 2.2.

        Points and trajectories use the right one. A linearization holds on its side of the boundary: at a timestep of
        the other network it is made anew by :meth:`linearization`, and ``rebase`` refuses.

        Args:
            t: Timesteps of the training schedule, ``[]`` or ``[B]``.

        Returns:
            What its pipeline calls it, such as ``"transformer_2"``; None where there is one only, or both are used.

        Raises:
            TypeError: If t is no tensor.
        """
        return part_at(self.network, check_dense("part_at", "t", t))

    @public
    def linearization(
        self,
        layer: str,
        x: torch.Tensor,
        t: torch.Tensor,
        conditioning: Conditioning = _NONE,
        *,
        mask: torch.Tensor | None = None,
        backend: str = "auto",
        precision: str | None = None,
    ) -> Linearization:
        """Linearize a layer at a sample; one trace a layer and shape is kept and rebased.

        What comes back belongs to the caller: nobody else moves it. Where the network has changed since the trace was
        made, it is traced again. Threads may call this at once.

        Args:
            layer: See :meth:`feature_map`.
            x: Samples ``[B, C, H, W]``.
            t: Timestep of the training schedule.
            conditioning: From :meth:`conditioning`; one trace serves every prompt and every scale of guidance.
            mask: Factor of the output, broadcast to it; one trace serves every mask.
            backend: Backend of the linearization.
            precision: Arithmetic of its passes, see :func:`latentjac.linearize`.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If the layer is unknown, an argument does not fit the network, or that is in training mode.
            RuntimeError: If a tensor takes part in differentiation, which would silently end here.
        """
        name = self.resolve_layer(layer)
        check_call("linearization", self, x, t, conditioning)
        held = (conditioning if name in OUTPUTS else conditioning.unguided()).flat()
        mask, backend, precision = check_linearized(x, t, held, mask, backend, precision)
        refuse_training(self.network)
        part = part_at(self.network, t)
        features = of_part(self.network, part, self.feature_map(name))
        key = name if part is None else f"{name} of {part}"
        return self._traces.linearization(key, features, x, t, held, mask=mask, backend=backend, precision=precision)

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        kind = type(self.network).__name__
        return f"Model({self.name!r}, {kind}, {millions:.1f} M parameters, samples {list(self.sample_shape)})"


def _rescale(function: str, rescale: Any, scale: float, image_scale: float) -> float:
    """The part of the contrast that comes back, if there is guidance by a text alone."""
    number: float = check_number(function, "guidance_rescale", rescale, 0, 1, least=True, most=True)
    check_left(function, "guidance_rescale", number if image_scale != 1 else 0.0, 0.0, "with an image_guidance_scale")
    check_left(function, "guidance_rescale", number if scale == 1 else 0.0, 0.0, "without guidance (guidance_scale=1)")
    return number
