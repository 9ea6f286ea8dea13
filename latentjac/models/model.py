"""A diffusion network with its schedule and codec, and the maps a Jacobian can be taken of."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch

from latentjac.linearize import Linearization, linearize
from latentjac.models.codec import PixelCodec
from latentjac.models.layers import Tap, resolve_layer

PREDICTIONS = ("epsilon", "v_prediction", "sample")
_MAX_CACHED_TRACES = 4


class LoadError(RuntimeError):
    """A model could not be found, fetched or understood."""


class Model:
    """What the layers above need of a diffusion model, whatever pipeline it came from.

    Attributes:
        name: How it was asked for.
        network: The denoiser, in evaluation mode, without gradients, channels last on a CPU.
        scheduler: The diffusers scheduler it was trained with.
        codec: Turns pictures into samples and back.
    """

    def __init__(self, name: str, network: torch.nn.Module, scheduler: Any, codec: PixelCodec) -> None:
        prediction = scheduler.config.get("prediction_type", "epsilon")
        if prediction not in PREDICTIONS:
            raise LoadError(f"load: prediction_type must be one of {list(PREDICTIONS)}, got {prediction!r}")
        if not 0 < float(scheduler.alphas_cumprod.min()):
            raise LoadError("load: schedule must leave some signal at every timestep (no zero terminal SNR), got none")
        self.name, self.scheduler, self.codec = name, scheduler, codec
        self.network = cast(Any, network)
        self.network.eval().requires_grad_(False)
        if self.device.type == "cpu":
            # Convolutions are faster so on a CPU; the annotation of Module.to leaves the keyword out.
            self.network.to(memory_format=torch.channels_last)
        self.prediction_type = prediction
        self._traces: OrderedDict[tuple, Linearization] = OrderedDict()
        self._weights: tuple = ()

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
        """Move the network; cached traces are dropped."""
        self.network.to(device=device, dtype=dtype)
        self._traces.clear()
        return self

    def identity(self) -> str:
        """Short hash of the architecture and weights, to tell models apart in saved files."""
        # Keys with an underscore say where the network was loaded from.
        config = {k: v for k, v in dict(self.network.config).items() if not k.startswith("_")}
        digest = hashlib.sha256(repr(sorted(config.items())).encode())
        for name, p in self.network.state_dict().items():
            flat = p.detach().flatten()
            probe = flat[:: max(1, flat.numel() // 64)].float().cpu()
            digest.update(name.encode() + probe.numpy().tobytes())
        return digest.hexdigest()[:16]

    def encode_prompt(self, prompt: str | None) -> tuple[torch.Tensor, ...]:
        """Conditioning tensors of a prompt, passed to the network behind the timestep.

        Raises:
            ValueError: If a prompt is given to a model without text conditioning.
        """
        if prompt is not None:
            raise ValueError(
                f"prompt: expected None, since model {self.name!r} is not conditioned on text, got {prompt!r}"
            )
        return ()

    def _raw(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        out = self.network(x, t, *conditioning, return_dict=False)[0]
        return out[:, : x.shape[1]]  # networks with a learned variance return it behind the prediction

    def eps(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        """Predicted noise at noisy samples.

        Args:
            x: Samples ``[B, C, H, W]``.
            t: Timestep of the training schedule, integer tensor ``[]`` or ``[B]``.
            *conditioning: What :meth:`encode_prompt` gave.

        Returns:
            ``[B, C, H, W]``; the network's own prediction converted to noise.
        """
        out = self._raw(x, t, *conditioning)
        if self.prediction_type == "epsilon":
            return out
        a = self._alpha(t, x)
        if self.prediction_type == "v_prediction":
            return a.sqrt() * out + (1 - a).sqrt() * x
        return (x - a.sqrt() * out) / (1 - a).sqrt()

    def x0(self, x: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        """Posterior mean of the clean sample, ``[B, C, H, W]`` (Tweedie's formula)."""
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

    def feature_map(self, layer: str) -> Callable[..., torch.Tensor]:
        """The map ``(x, t, *conditioning) -> features`` of a layer.

        Args:
            layer: Module name, ``"mid"`` (h-space of the paper), ``"eps"`` or ``"x0"``.

        Raises:
            TypeError: If layer is not a string.
            ValueError: If the layer is unknown, with the nearest names.
        """
        name = resolve_layer(self.network, layer)
        return {"eps": self.eps, "x0": self.x0}.get(name) or Tap(self.network, name)

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

        The object that comes back is shared: a later call for the same layer and shape moves it.

        Args:
            layer: See :meth:`feature_map`.
            x: Samples ``[B, C, H, W]``.
            t: Timestep of the training schedule.
            *conditioning: What :meth:`encode_prompt` gave.
            mask: Factor of the output, broadcast to it; one trace serves every mask.
            backend: Backend of the linearization.
            precision: Arithmetic of its passes, see :func:`latentjac.linearize`.
        """
        # A trace holds the weights as they were; a change in place shows in their version counters.
        tensors = [*self.network.parameters(), *self.network.buffers()]
        weights = tuple((p.data_ptr(), p._version) for p in tensors)
        if weights != self._weights:
            self._traces.clear()
            self._weights = weights
        name = resolve_layer(self.network, layer)
        # t can be whole or fractional.
        form = (tuple(x.shape), x.dtype, t.dtype, x.device)
        key = (name, None if mask is None else mask.shape, *form, backend, precision)
        features, constants = self.feature_map(name), (t, *conditioning)
        if mask is not None:
            features, constants = _masked(features), (mask, *constants)
        lin = self._traces.get(key)
        if lin is None:
            lin = linearize(features, x, *constants, backend=backend, precision=precision)
        else:
            lin.rebase(x, *constants)
        self._traces[key] = lin
        self._traces.move_to_end(key)
        while len(self._traces) > _MAX_CACHED_TRACES:
            self._traces.popitem(last=False)
        return lin

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.network.parameters()) / 1e6
        kind = type(self.network).__name__
        return f"Model({self.name!r}, {kind}, {millions:.1f} M parameters, samples {list(self.sample_shape)})"


def _masked(features: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A feature map times a mask that comes behind the sample."""

    def masked(x: torch.Tensor, mask: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        return features(x, t, *conditioning) * mask

    return masked
