"""Passes recorded once and replayed: on a GPU the hundreds of launches of a pass become one (CUDA graphs).

What the primal keeps for the passes lies in the memory of the primal's recording; replaying that one at another base
point rewrites it in place, so the others stay valid. All recordings of a program share a recorder, since they never run
at the same time.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from latentjac.arguments import shown
from latentjac.linearization.program import Program
from latentjac.recording import Recorder, Recording

logger = logging.getLogger("latentjac")

Tensor = torch.Tensor

MODES = ("auto", True, False)

# Shapes recorded of one program; each holds its input, its result and a graph. Further ones are launched one by one.
_MOST = 32


class RecordingError(RuntimeError):
    """A pass could not be recorded, though that was demanded."""


def check_mode(cuda_graphs: Any, possible: bool, device: torch.device) -> bool | str:
    """The one of ``MODES`` that it is, if graphs are possible where they are demanded."""
    if not isinstance(cuda_graphs, (str, bool, np.bool_)):
        raise TypeError(f"linearize: cuda_graphs must be one of {list(MODES)}, got {type(cuda_graphs).__name__}")
    if isinstance(cuda_graphs, str):
        if cuda_graphs != "auto":
            raise ValueError(f"linearize: cuda_graphs must be one of {list(MODES)}, got {shown(cuda_graphs)}")
        return "auto"
    if cuda_graphs and not possible:
        raise ValueError(f"linearize: cuda_graphs must be 'auto' or False for x on {device}, got True")
    return bool(cuda_graphs)


class Replayed:
    """The passes of a program, recorded where that pays.

    Results of ``tangent`` and ``cotangent`` are valid until the next call: who keeps one copies it.

    Args:
        program: The passes.
        recorder: Records them.
        demanded: Record a shape when it first comes, and raise where that fails. Otherwise a shape is recorded when it
            comes for the second time, and what cannot be recorded is launched one by one, which is logged once.
    """

    def __init__(self, program: Program, recorder: Recorder, demanded: bool = False) -> None:
        self._program, self._recorder, self._demanded = program, recorder, demanded
        self._base: tuple[Tensor, tuple[Any, ...]] | None = None
        self._primal: Recording[Tensor] | None = None
        self._recorded: dict[tuple[str, int], Recording[Tensor]] = {}
        self._seen: Counter[tuple[str, int]] = Counter()
        self._refused: set[str] = set()

    @property
    def recorded(self) -> list[tuple[str, int]]:
        """Passes that are replayed: their names and numbers of probes."""
        return sorted(self._recorded)

    def primal(self, x: Tensor, constants: Sequence[Any]) -> Tensor:
        """Evaluate the function and keep what the passes need at this point; the result is the caller's."""
        if self._primal is not None:
            return self._primal(x, *_tensors(constants)).clone()
        # Copies, since the caller may change them before the primal is recorded.
        own = tuple(value.detach().clone() if isinstance(value, Tensor) else value for value in constants)
        self._base = (x, own)
        return self._program.primal(x, own)

    def tangent(self, probes: Tensor) -> Tensor:
        """As :meth:`Program.tangent`."""
        return self._pass("tangent", probes)

    def cotangent(self, probes: Tensor) -> Tensor:
        """As :meth:`Program.cotangent`."""
        return self._pass("cotangent", probes)

    def prepare(self, name: str, probes: Tensor) -> None:
        """Record a pass over probes of this shape now, if it can be."""
        key = (name, len(probes))
        if key not in self._recorded and name not in self._refused and len(self._recorded) < _MOST:
            self._record(key, probes)

    def forget(self) -> None:
        """Drop the recordings of passes and with them the memory that they hold."""
        self._recorded.clear()
        self._seen.clear()

    def _pass(self, name: str, probes: Tensor) -> Tensor:
        key = (name, len(probes))
        self._seen[key] += 1
        if self._demanded or self._seen[key] > 1:
            self.prepare(name, probes)
        recording = self._recorded.get(key)
        return getattr(self._program, name)(probes) if recording is None else recording(probes)

    def _record(self, key: tuple[str, int], probes: Tensor) -> None:
        try:
            if self._primal is None:
                self._record_primal()
            self._recorded[key] = Recording(self._recorder, getattr(self._program, key[0]), [probes])
        except torch.OutOfMemoryError:
            raise  # the caller takes fewer probes
        except RuntimeError as error:
            reason = str(error).strip().split("\n")[0]
            if self._demanded:
                raise RecordingError(f"linearize: cuda_graphs=True, but a pass cannot be recorded: {reason}") from error
            if not self._refused:
                logger.warning("linearize: passes are launched one by one, since recording failed: %s", reason)
            # Without fixed addresses of what the primal keeps, nothing can be recorded.
            self._refused |= {key[0]} if self._primal is not None else {"tangent", "cotangent"}

    def _record_primal(self) -> None:
        assert self._base is not None
        x, constants = self._base

        def run(x: Tensor, *tensors: Tensor) -> Tensor:
            left = iter(tensors)
            return self._program.primal(x, [next(left) if isinstance(v, Tensor) else v for v in constants])

        try:
            recording = Recording(self._recorder, run, [x, *_tensors(constants)])
        except BaseException:
            self._program.primal(x, constants)  # what the passes read was replaced and never computed
            raise
        recording(x, *_tensors(constants))
        self._primal, self._base = recording, None


def _tensors(constants: Sequence[Any]) -> list[Tensor]:
    return [value for value in constants if isinstance(value, Tensor)]
