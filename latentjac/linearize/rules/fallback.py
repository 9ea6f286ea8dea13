"""Operators without a rule of their own: torch.func on that operator alone."""
# ruff: noqa: D102 (methods are described by Instruction)

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from latentjac.linearize.instruction import Instruction, Tensor
from latentjac.linearize.trace import Call, Meta

logger = logging.getLogger("latentjac")
_logged: set[str] = set()


class Fallback(Instruction):
    """Any operator, by ``torch.func.jvp`` and ``torch.func.vjp`` under ``vmap``: right, but slower."""

    kernel = "torch.func"

    def __init__(self, call: Call, active: set[int], metas: dict[int, Meta]) -> None:
        super().__init__(call, active, metas)
        # Integer outputs, such as the indices of a maximum, have no derivative.
        self._smooth = [i for i, slot in enumerate(call.outs) if metas[slot].smooth]
        if call.target not in _logged:
            _logged.add(call.target)
            logger.warning("linearize: no rule for %s; torch.func is used for it, which is slower", call.target)

    def primal(self, env: dict[int, Tensor]) -> None:
        super().primal(env)
        self._values = {slot: self.kept(env, slot) for slot in self.reads}
        self._point = tuple(self._values[slot] for slot in self.inputs)

    def _function(self) -> Callable[..., tuple[Tensor, ...]]:
        def f(*point: Tensor) -> tuple[Tensor, ...]:
            value = self.call.evaluate({**self._values, **dict(zip(self.inputs, point, strict=True))})
            values = tuple(value) if self.call.multiple else (value,)
            return tuple(values[i] for i in self._smooth)

        return f

    def tangent(self, t: Sequence[Tensor], own: Sequence[bool]) -> Tensor | Sequence[Tensor | None]:
        def push(*v: Tensor) -> tuple[Tensor, ...]:
            return torch.func.jvp(self._function(), self._point, v)[1]

        try:
            values = torch.func.vmap(push)(*t)
        except NotImplementedError:  # the operator has no forward mode
            values = torch.func.vmap(self._push_by_reverse_mode)(*t)
        out: list[Tensor | None] = [None] * len(self.outs)
        for i, value in zip(self._smooth, values, strict=True):
            out[i] = value
        return out

    def _push_by_reverse_mode(self, *v: Tensor) -> tuple[Tensor, ...]:
        """The transpose of the transpose, which is linear and so may be taken at zero."""
        values, pull = cast("tuple[Any, Any]", torch.func.vjp(self._function(), *self._point))
        return torch.func.vjp(lambda *w: pull(w), *(torch.zeros_like(y) for y in values))[1](v)

    def cotangent(
        self, u: Sequence[Tensor | None], own: Sequence[bool], into: Sequence[Tensor | None]
    ) -> Sequence[Tensor]:
        values, pull = cast("tuple[Any, Any]", torch.func.vjp(self._function(), *self._point))
        like = next(w for w in u if w is not None)
        full = [
            like.new_zeros(len(like), *y.shape) if u[i] is None else u[i]
            for i, y in zip(self._smooth, values, strict=True)
        ]
        return torch.func.vmap(lambda *w: pull(w))(*full)
