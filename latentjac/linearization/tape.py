"""The derivative of any function of tensors as autograd's tape knows it: what the authors of its parts declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.autograd import forward_ad

Tensor = torch.Tensor
Function = Callable[..., Sequence[Tensor]]


class Tape:
    """One evaluation of a function, and products with its Jacobian and the transpose, one probe at a time.

    The transpose is reverse mode. The product with the Jacobian is the transpose of that, so that the two are adjoint
    whatever the backward passes compute, as long as autograd can differentiate them; else it is forward mode.

    Args:
        f: Maps tensors to tensors of floating-point or complex numbers.
        point: Where.
        forward: Take forward mode for products with the Jacobian.

    Attributes:
        values: ``f(*point)``, detached.
    """

    def __init__(self, f: Function, point: Sequence[Tensor], forward: bool = False) -> None:
        self._f, self._forward = f, forward
        with torch.enable_grad():
            self._point = [value.detach().requires_grad_() for value in point]
            outs = list(f(*self._point))
        self.values = [value.detach() for value in outs]
        # What f took from elsewhere has no derivative.
        self._kept = [i for i, value in enumerate(outs) if value.requires_grad]
        self._outs = [outs[i] for i in self._kept]

    def pull(self, u: Sequence[Tensor]) -> list[Tensor]:
        """Cotangents of the point from those of the values."""
        if not self._outs:
            return [torch.zeros_like(value) for value in self._point]
        return list(self._grad(self._outs, self._point, [u[i] for i in self._kept]))

    def push(self, t: Sequence[Tensor]) -> list[Tensor]:
        """Tangents of the values from those of the point."""
        if self._forward:
            return self._push_forward(t)
        found = [torch.zeros_like(value) for value in self.values]
        if not self._outs:
            return found
        with torch.enable_grad():
            zeros = [torch.zeros_like(value).requires_grad_() for value in self._outs]
            pulled = self._grad(self._outs, self._point, zeros, create_graph=True)
            linear = [(g, v) for g, v in zip(pulled, t, strict=True) if g.requires_grad]
            if linear:
                pushed = self._grad([g for g, _ in linear], zeros, [v for _, v in linear])
                found = list(found)
                for i, value in zip(self._kept, pushed, strict=True):
                    found[i] = value
        return [value.detach() for value in found]

    def _push_forward(self, t: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), forward_ad.dual_level():
            duals = [forward_ad.make_dual(p.detach(), v) for p, v in zip(self._point, t, strict=True)]
            tangents = [forward_ad.unpack_dual(value).tangent for value in self._f(*duals)]
        return [
            torch.zeros_like(value) if tangent is None else tangent
            for value, tangent in zip(self.values, tangents, strict=True)
        ]

    @staticmethod
    def _grad(
        outs: Sequence[Tensor], inputs: Sequence[Tensor], u: Sequence[Tensor], create_graph: bool = False
    ) -> Sequence[Tensor]:
        return torch.autograd.grad(
            outs, inputs, u, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )


def over_probes(apply: Callable[[Sequence[Tensor]], Sequence[Tensor]], blocks: Sequence[Tensor]) -> list[Tensor]:
    """Products of each probe of some blocks, side by side again."""
    rows = [apply([block[i] for block in blocks]) for i in range(len(blocks[0]))]
    return [torch.stack(column) for column in zip(*rows, strict=True)]
