"""Attention that was written out in steps: ``softmax(scale Q K^T + mask) V`` as two products and a softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from latentjac.linearization.instruction import Instruction, Tensor
from latentjac.linearization.rules.arithmetic import Add, Scale
from latentjac.linearization.rules.attention import Attention, Softmax
from latentjac.linearization.rules.contraction import Contraction
from latentjac.linearization.rules.linear_algebra import MatrixProduct, ProductWithSum
from latentjac.linearization.trace import Call, Meta, Ref

Product = MatrixProduct | Contraction

_OPERATOR = torch.ops.aten.scaled_dot_product_attention.default


class SteppedAttention(Attention):
    """Attention whose keys or values may be transposed.

    Attributes:
        steps: What it stands for.
    """

    def __init__(
        self,
        call: Call,
        steps: Sequence[Instruction],
        active: set[int],
        metas: dict[int, Meta],
        transposed: frozenset[str],
    ) -> None:
        super().__init__(call, active, metas, transposed)
        self.steps = list(steps)
        self.calls = [call for step in steps for call in step.calls]

    def _evaluate(self, env: dict[int, Tensor]) -> None:
        inside = dict(env)
        for call in self.calls:
            inside[call.outs[0]] = call.evaluate(inside)
        env[self.outs[0]] = inside[self.outs[0]]


@dataclass
class _Scores:
    """What goes into the softmax, followed up to the product of queries and keys."""

    steps: list[Instruction] = field(default_factory=list)
    scale: float = 1.0
    mask: int | None = None
    product: Product | None = None

    def follow(self, slot: int, makers: dict[int, Instruction]) -> bool:
        """Whether all that makes a slot is a product with scales behind it and a mask behind these."""
        maker = makers.get(slot)
        if maker is None or maker in self.steps:
            return False
        self.steps.insert(0, maker)
        if isinstance(maker, (MatrixProduct, Contraction)):
            return self._take(maker)
        if isinstance(maker, Scale):
            number = maker.number
            if number is None or maker.metas[maker.inputs[0]] != maker.metas[maker.outs[0]]:
                return False
            self.scale *= number
            return self.follow(maker.inputs[0], makers)
        if isinstance(maker, Add) and self.mask is None and self.scale == 1.0:
            self.mask = maker.constant
            same = maker.metas[maker.inputs[0]] == maker.metas[maker.outs[0]]
            return self.mask is not None and same and self.follow(maker.inputs[0], makers)
        return False

    def _take(self, product: Product) -> bool:
        self.product = product
        if isinstance(product, ProductWithSum):
            self.scale *= product.alpha
            if product.beta != 0:
                if product.beta != 1 or self.mask is not None or self.scale != product.alpha:
                    return False
                if product.addend in product.inputs:
                    return False
                self.mask = product.addend
        return True


def stepped_attention(last: Product, makers: dict[int, Instruction]) -> SteppedAttention | None:
    """The attention whose last step is a product, if it is that.

    Args:
        last: The product of probabilities and values.
        makers: Instructions by the slot that they compute, where one other reads it.
    """
    found = last.factors
    softmax = makers.get(found[0]) if found else None
    if found is None or found[0] == found[1] or not isinstance(softmax, Softmax) or not softmax.is_over_keys:
        return None
    scores = _Scores()
    if not scores.follow(softmax.inputs[0], makers) or scores.product is None or scores.product.factors is None:
        return None
    probabilities, values, values_transposed = found
    queries, keys, by_keys = scores.product.factors
    metas, slots = last.metas, (queries, keys, values)
    if len({metas[slot].dtype for slot in (*slots, last.outs[0])}) > 1 or min(len(metas[s].shape) for s in slots) < 2:
        return None
    arguments = {
        "query": Ref(queries),
        "key": Ref(keys),
        "value": Ref(values),
        "attn_mask": None if scores.mask is None else Ref(scores.mask),
        "is_causal": False,
        "scale": scores.scale,
    }
    call = Call(last.call.name, _OPERATOR, arguments, last.outs, False)
    active = {*scores.product.inputs, *last.inputs} - {probabilities}
    # A product Q K^T that is written as Q times something has that as its transposed keys.
    transposed = frozenset(name for name, is_so in (("key", not by_keys), ("value", values_transposed)) if is_so)
    return SteppedAttention(call, [*scores.steps, softmax, last], active, metas, transposed)
