"""Traces of a model's feature maps: one a layer and shape is kept, and rebased for whoever asks next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

from latentjac.forkable import ForkableLock
from latentjac.linearization import Linearization, ProgramLinearization, linearize
from latentjac.linearization.pool import Pool
from latentjac.models.arguments import check_factor
from latentjac.models.conditioning import Conditioning

_MOST_KEPT = 4


class Traces:
    """Those of one model in one process; threads may use them at once."""

    def __init__(self) -> None:
        self._pools: OrderedDict[tuple, Pool] = OrderedDict()
        self._lock = ForkableLock()

    def linearization(
        self,
        name: str,
        feature_map: Callable[..., torch.Tensor],
        x: torch.Tensor,
        t: torch.Tensor,
        held: dict[str, torch.Tensor],
        *,
        mask: torch.Tensor | None,
        backend: str,
        precision: str | None,
    ) -> Linearization:
        """Linearize a layer at a sample; arguments are those of :meth:`Model.linearization`, checked.

        Args:
            name: Full module name of the layer, or that of an output.
            feature_map: Of that layer.
            x: Samples ``[B, C, H, W]``.
            t: Timestep of the training schedule, ``[]`` or ``[B]``.
            held: Tensors of a conditioning.
            mask: Factor of the output.
            backend: Backend of the linearization.
            precision: Arithmetic of its passes.

        Raises:
            ValueError: If the mask does not fit the features.
        """
        # t can be whole or fractional.
        form = (tuple(x.shape), x.dtype, t.dtype, x.device, *((n, tuple(c.shape), c.dtype) for n, c in held.items()))
        key = (name, None if mask is None else mask.shape, *form, backend, precision)
        features, constants = _of_tensors(feature_map, tuple(held)), (t, *held.values())
        if mask is not None:
            if key not in self._pools:
                with torch.no_grad():
                    check_factor(mask, features(x, *constants))
            features, constants = _masked(features), (mask, *constants)
        return self._pool(key).linearization(
            features,
            lambda: linearize(features, x, *constants, backend=backend, precision=precision),
            lambda engine: ProgramLinearization(features, x, *constants, engine=engine),
            lambda: linearize(features, x, *constants, backend="autodiff", precision=precision),
        )

    def _pool(self, key: tuple) -> Pool:
        """That of a key, which is now the one used last; what was not used for longest is dropped."""
        with self._lock:
            pool = self._pools.setdefault(key, Pool())
            self._pools.move_to_end(key)
            while len(self._pools) > _MOST_KEPT:
                self._pools.popitem(last=False)
        return pool


def _of_tensors(features: Callable[..., torch.Tensor], names: tuple[str, ...]) -> Callable[..., torch.Tensor]:
    """A feature map of tensors alone: those of a conditioning come by themselves, in the order of names."""

    def of_tensors(x: torch.Tensor, t: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return features(x, t, Conditioning._traced(names, tensors))

    return of_tensors


def _masked(features: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """A feature map times a mask that comes behind the sample."""

    def masked(x: torch.Tensor, mask: torch.Tensor, t: torch.Tensor, *conditioning: torch.Tensor) -> torch.Tensor:
        return features(x, t, *conditioning) * mask

    return masked
