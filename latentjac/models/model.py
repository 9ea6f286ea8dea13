"""A diffusion network with its schedule and codec, and the maps a Jacobian can be taken of."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch

from latentjac.arguments import check_device, check_dtype
from latentjac.linearization import Linearization, ProgramLinearization, linearize
from latentjac.linearization.pool import Pool
from latentjac.models.arguments import check_call, check_factor, check_linearized
from latentjac.models.codec import PixelCodec
from latentjac.models.configs import PREDICTIONS
from latentjac.models.errors import LoadError
from latentjac.models.identity import network_identity
from latentjac.models.latents import LatentCodec
from latentjac.models.layers import OUTPUTS, Tap, refuse_training, resolve_layer, run
from latentjac.models.text import TextEncoder
from latentjac.public import public

_MAX_CACHED_TRACES = 4


class Model:
    """What the layers above need of a diffusion model, whatever pipeline it came from.

    Attributes:
        name: How it was asked for.
        network: The denoiser, in evaluation mode, without gradients, channels last on a CPU.
        scheduler: The diffusers scheduler it was trained with.
        codec: Turns pictures into samples and back.
        text: Turns prompts into what the network attends to; None for networks without.
    """

    def __init__(
        self,
        name: str,
        network: torch.nn.Module,
        scheduler: Any,
        codec: PixelCodec | LatentCodec,
        text: TextEncoder | None = None,
    ) -> None:
        prediction = scheduler.config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise LoadError(f"load: prediction_type must be one of {list(PREDICTIONS)}, got {prediction!r}")
        if not 0 < float(scheduler.alphas_cumprod.min()):
            raise LoadError("load: schedule must leave some signal at every timestep (no zero terminal SNR), got none")
        self.name, self.scheduler, self.codec, self.text = name, scheduler, codec, text
        # Of a network wrapped by torch.compile the layers have their names only inside.
        self.network = cast(Any, getattr(network, "_orig_mod", network))
        self.network.eval().requires_grad_(False)
        if self.device.type == "cpu":
            # Convolutions are faster so on a CPU; the annotation of Module.to leaves the keyword out.
            self.network.to(memory_format=torch.channels_last)
        self.prediction_type = prediction
        self._forget()

    def _forget(self) -> None:
        """Drop traces."""
        self._traces: OrderedDict[tuple, Pool] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # Traces and locks belong to this object in this process.
        return {name: value for name, value in vars(self).items() if name not in ("_traces", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights."""
        return next(self.network.parameters()).dtype

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of one noisy sample."""
        size = self.network.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return self.network.config["in_channels"], height, width

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of timesteps of the training schedule."""
        return int(self.scheduler.config["num_train_timesteps"])

    @property
    def alphas_cumprod(self) -> torch.Tensor:
        """Signal power of each training timestep, ``[T]``, float64 on the CPU."""
        return self.scheduler.alphas_cumprod.double().cpu()

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
        """Move the network and what belongs to it; cached traces are dropped.

        Raises:
            TypeError: If device is no device or dtype no floating-point type.
            ValueError: If there is no such device, or it holds no values.
        """
        device = check_device("to", "device", device, optional=True)
        dtype = check_dtype("to", "dtype", dtype, optional=True)
        options: dict[str, Any] = {} if device is None else {"device": device}
        if dtype is not None and dtype != self.dtype:
            options["dtype"] = dtype
        if options:
            for part in (self.network, getattr(self.codec, "autoencoder", None), getattr(self.text, "encoder", None)):
                if part is not None:
                    part.to(**options)
        self._forget()
        return self

    def identity(self) -> str:
        """Short hash of the network, to tell models apart in saved files.

        Of its architecture, a sample of its weights, and whatever was added to it since it was built: hooks, attention
        processors, adapters with their strengths, settings. It is the same in every process and on every device.
        """
        return network_identity(self.network)

    def encode_prompt(
        self, prompt: str | list[str] | None, negative_prompt: str = "", guidance_scale: float = 1.0
    ) -> tuple[torch.Tensor, ...]:
        """Conditioning tensors of a prompt, passed to the network behind the timestep.

        Args:
            prompt: Text, or one a sample; None is the empty text. Only None for models without text.
            negative_prompt: Text that guidance leads away from.
            guidance_scale: Classifier-free guidance (Ho & Salimans 2022) of the predicted noise and clean sample; 1 is
                none. The features of a layer are those under the prompt in any case.

        Returns:
            Nothing for models without text; the embeddings ``[B, tokens, channels]``; and with guidance those of the
            negative prompt ``[1, tokens, channels]`` and the scale ``[1]``.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If a prompt or guidance is asked of a model without text conditioning.
        """
        if self.text is None:
            self._refuse_text("prompt", prompt, None)
            self._refuse_text("guidance_scale", guidance_scale, 1.0)
            return ()
        prompts = [prompt or ""] if prompt is None or isinstance(prompt, str) else prompt
        if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) for p in prompts):
            raise TypeError(f"prompt: expected a text, a list of texts or None, got {prompt!r}")
        if not isinstance(negative_prompt, str):
            raise TypeError(f"negative_prompt: expected a text, got {type(negative_prompt).__name__}")
        if isinstance(guidance_scale, bool) or not isinstance(guidance_scale, (int, float)):
            raise TypeError(f"guidance_scale: expected a number, got {type(guidance_scale).__name__}")
        embeddings = self.text.encode(prompts).to(self.device, self.dtype)
        if guidance_scale == 1:
            return (embeddings,)
        away = self.text.encode([negative_prompt]).to(embeddings)
        return embeddings, away, embeddings.new_tensor([guidance_scale])

    def _refuse_text(self, argument: str, value: object, without: object) -> None:
        if value != without:
            known = f"model {self.name!r} is not conditioned on text"
            raise ValueError(f"{argument}: expected {without}, since {known}, got {value!r}")

    def _raw(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        """The network's own prediction, guided where the conditioning says so."""
        rows = [_a_row_each(c, x) for c in conditioning]
        if len(rows) < 3:
            out = run(self.network, x, t, *rows, return_dict=False)[0]
        else:
            text, other, scale = rows
            both = t if t.ndim == 0 else torch.cat([t, t])
            out = run(self.network, torch.cat([x, x]), both, torch.cat([text, other]), return_dict=False)[0]
            guided, away = out.chunk(2)
            out = away + scale.reshape(-1, *[1] * (x.ndim - 1)) * (guided - away)
        return out[:, : x.shape[1]]  # networks with a learned variance return it behind the prediction

    @public
    def eps(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        """Predicted noise at noisy samples, a function that can be differentiated: it reads no values.

        Args:
            x: Samples ``[B, C, H, W]``, type and device of the network's weights.
            t: Timestep of the training schedule, tensor ``[]`` or ``[B]`` of whole or fractional numbers.
            *conditioning: What :meth:`encode_prompt` gave.

        Returns:
            ``[B, C, H, W]``; the network's own prediction converted to noise.

        Raises:
            TypeError: If an argument is no tensor.
            ValueError: If one has another shape or type than the network takes.
        """
        check_call("eps", self, x, t, conditioning)
        return self._eps(x, t, *conditioning)

    def _eps(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        out = self._raw(x, t, *conditioning)
        if self.prediction_type == "epsilon":
            return out
        a = self._alpha(t, x)
        if self.prediction_type == "v_prediction":
            return a.sqrt() * out + (1 - a).sqrt() * x
        return (x - a.sqrt() * out) / (1 - a).sqrt()

    @public
    def x0(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        """Posterior mean of the clean sample, ``[B, C, H, W]`` (Tweedie's formula); see :meth:`eps`."""
        check_call("x0", self, x, t, conditioning)
        return self._x0(x, t, *conditioning)

    def _x0(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        out = self._raw(x, t, *conditioning)
        if self.prediction_type == "sample":
            return out
        a = self._alpha(t, x)
        if self.prediction_type == "v_prediction":
            return a.sqrt() * x - (1 - a).sqrt() * out
        return (x - (1 - a).sqrt() * out) / a.sqrt()

    def _alpha(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        alphas = self.scheduler.alphas_cumprod.to(x.device, x.dtype)
        # Not alphas[t]: indexing by a scalar tensor reads its value, which no trace can.
        return alphas.index_select(0, t.reshape(-1).long()).reshape(-1, *[1] * (x.ndim - 1))

    @public
    def feature_map(self, layer: str) -> Callable[..., torch.Tensor]:
        """The map ``(x, t, *conditioning) -> features`` of a layer.

        Args:
            layer: Module name, ``"mid"`` (h-space of the paper), ``"eps"`` or ``"x0"``.

        Raises:
            TypeError: If layer is not a string.
            ValueError: If the layer is unknown, with the nearest names.
        """
        name = resolve_layer(self.network, layer)
        if name in OUTPUTS:
            return self._eps if name == "eps" else self._x0
        tap = Tap(self.network, name)
        # Guidance is of the prediction alone: features are those under the prompt.
        return lambda x, t, *conditioning: tap(x, t, *(_a_row_each(c, x) for c in conditioning[:1]))

    @public
    def linearization(
        self,
        layer: str,
        x: torch.Tensor,
        t: torch.Tensor,
        *conditioning: torch.Tensor,
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
            *conditioning: What :meth:`encode_prompt` gave.
            mask: Factor of the output, broadcast to it; one trace serves every mask.
            backend: Backend of the linearization.
            precision: Arithmetic of its passes, see :func:`latentjac.linearize`.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If the layer is unknown, an argument does not fit the network, or that is in training mode.
            RuntimeError: If a tensor takes part in differentiation, which would silently end here.
        """
        name = resolve_layer(self.network, layer)
        check_call("linearization", self, x, t, conditioning)
        mask, backend, precision = check_linearized(x, t, conditioning, mask, backend, precision)
        refuse_training(self.network)
        if name not in OUTPUTS:
            conditioning = conditioning[:1]
        # t can be whole or fractional.
        form = (tuple(x.shape), x.dtype, t.dtype, x.device, *(tuple(c.shape) for c in conditioning))
        key = (name, None if mask is None else mask.shape, *form, backend, precision)
        features, constants = self.feature_map(name), (t, *conditioning)
        if mask is not None:
            if key not in self._traces:
                with torch.no_grad():
                    check_factor(mask, features(x, *constants))
            features, constants = _masked(features), (mask, *constants)
        with self._lock:
            pool = self._traces.setdefault(key, Pool())
            self._traces.move_to_end(key)
            while len(self._traces) > _MAX_CACHED_TRACES:
                self._traces.popitem(last=False)
        return pool.linearization(
            features,
            lambda: linearize(features, x, *constants, backend=backend, precision=precision),
            lambda engine: ProgramLinearization(features, x, *constants, engine=engine),
            lambda: linearize(features, x, *constants, backend="autodiff", precision=precision),
        )

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        kind = type(self.network).__name__
        return f"Model({self.name!r}, {kind}, {millions:.1f} M parameters, samples {list(self.sample_shape)})"


def _a_row_each(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Conditioning with one row for every sample."""
    return values if len(values) == len(x) else values.expand(len(x), *values.shape[1:])


def _masked(features: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A feature map times a mask that comes behind the sample."""

    def masked(x: torch.Tensor, mask: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        return features(x, t, *conditioning) * mask

    return masked
