"""Evaluations of a network, on a GPU recorded once and replayed (CUDA graphs).

The host takes longer to launch the hundreds of operators of a network than a GPU takes to compute a few samples. Where
the same shapes come again and again, on the way up and down and along walks, a recording launches them all at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch

from latentjac.forkable import ForkableLock
from latentjac.kernels.guards import is_traced_here
from latentjac.linearization.changes import modules_of, structure
from latentjac.linearization.streams import StreamOrder
from latentjac.models.conditioning import Conditioning
from latentjac.models.predictions import Prediction
from latentjac.models.stages import choosing
from latentjac.recording import CudaRecorder, Recorder, Recording

if TYPE_CHECKING:
    from latentjac.models.model import Model

logger = logging.getLogger("latentjac")

Tensor = torch.Tensor

# A shape is recorded when it comes for this time; to record takes one evaluation more.
_OFTEN = 3
# Shapes recorded of one model; each holds its inputs, its results and a graph.
_MOST = 8


@dataclass(frozen=True)
class _Asked:
    """Inputs of an evaluation; all that a recording depends on is in the key, all else is copied into it."""

    key: Hashable
    names: list[str]
    tensors: list[Tensor]


class Forwards:
    """Predictions of one model; threads take turns at what is recorded.

    Hooks, of a network that is being tapped, do not run in a replay: such a network is evaluated as it is.

    Attributes:
        most: Samples at once, once memory has run out.

    Args:
        recorder: Records evaluations instead of CUDA, on any device.
    """

    most = 2**31

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._given = recorder
        self._lock = ForkableLock()
        self._order: StreamOrder | None = None
        self._seen: Counter[Hashable] = Counter()
        self._recorded: dict[Hashable, Recording[Prediction]] = {}
        self._recorder: Recorder | None = None
        self._made_of: Hashable = None
        self._refused = False

    @property
    def num_recorded(self) -> int:
        """How many shapes are replayed."""
        return len(self._recorded)

    def predict(self, model: Model, x: Tensor, t: Tensor, conditioning: Conditioning) -> Prediction:
        """As :meth:`Denoiser.predict`, without checks; the results are the caller's."""
        if not (x.is_cuda or self._given) or self._refused or is_traced_here() or _is_hooked(model.network):
            return model.denoiser(conditioning)._predict(x, t)
        with self._turn(x.device):
            self._look_at(model)
            part = model.part_at(t)
            asked = _asked(x, t, conditioning, part)
            self._seen[asked.key] += 1
            if asked.key not in self._recorded and self._seen[asked.key] >= _OFTEN and len(self._recorded) < _MOST:
                self._record(model, asked, part)
            recording = self._recorded.get(asked.key)
            if recording is not None:
                return Prediction(*(value.clone() for value in recording(*asked.tensors)))
        return model.denoiser(conditioning)._predict(x, t)

    def halve(self, model: Model, count: int) -> bool:
        """After so many samples did not fit in memory: evaluate half as many at once, if that can be."""
        if count == 1 or _is_hooked(model.network):  # hooks may be made for the number of samples
            return False
        logger.warning("predict: out of memory with %d samples at once; going on with %d", count, count // 2)
        with self._lock:
            self.most = count // 2
            self._recorded.clear()
            self._seen.clear()
        return True

    @contextmanager
    def _turn(self, device: torch.device) -> Iterator[None]:
        with self._lock:
            self._order = self._order or StreamOrder.on(device)
            with nullcontext() if self._order is None else self._order.turn():
                yield

    def _look_at(self, model: Model) -> None:
        """Forget everything if the model is no longer what was recorded; values of its weights are read anew anyway."""
        weights = chain(model.network.parameters(), model.network.buffers())
        modules = [model.network, *modules_of(model.call)]
        now = (structure(modules), id(model.call), id(model.levels), tuple(value.data_ptr() for value in weights))
        if now != self._made_of:
            self._recorded.clear()
            self._seen.clear()
            # Held, so that nothing else gets their identities.
            self._made_of, self._held = now, (model.call, model.levels)

    def _record(self, model: Model, asked: _Asked, part: str | None) -> None:
        def run(x: Tensor, t: Tensor, *tensors: Tensor) -> Prediction:
            with choosing(part):  # a recording reads no timestep
                return model.denoiser(Conditioning._traced(asked.names, tensors))._predict(x, t)

        self._recorder = self._recorder or self._given or CudaRecorder(asked.tensors[0].device)
        try:
            self._recorded[asked.key] = Recording(self._recorder, run, asked.tensors)
        except RuntimeError as error:  # out of memory, too: then there is none to spare for recordings
            self._refused = True
            self._recorded.clear()
            reason = str(error).strip().split("\n")[0]
            logger.warning("predict: evaluations are launched one by one, since recording failed: %s", reason)


def _is_hooked(network: torch.nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def _asked(x: Tensor, t: Tensor, conditioning: Conditioning, part: str | None) -> _Asked:
    flat = conditioning.flat()
    # Scales of guidance may be on the host, from where a recording cannot copy them.
    flat = {name: value.to(x.device) if name.endswith("scale") else value for name, value in flat.items()}
    tensors = [x, t, *flat.values()]
    shapes = tuple((value.shape, value.dtype, value.device) for value in tensors)
    key = (tuple(flat), shapes, type(conditioning.guidance), _settings(x.device), part)
    return _Asked(key, list(flat), tensors)


def _settings(device: torch.device) -> tuple[object, ...]:
    """Settings of torch that a recording has in it."""
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None,
    )
