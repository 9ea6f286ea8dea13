"""Mixtures of experts that can be traced: those of diffusers sort tokens by values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch


class WeighedExperts(torch.nn.Module):
    """A mixture of experts of HiDream: all are evaluated for all tokens, with weight 0 where they were not chosen.

    That of diffusers keeps derivatives out as well.
    """

    def __init__(self, mixture: Any) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the mixture makes of tokens ``[B, N, D]``."""
        gate = self.mixture.gate
        scores = torch.nn.functional.linear(x, gate.weight).softmax(dim=-1)
        chosen = scores.detach() >= scores.detach().topk(gate.top_k, dim=-1).values.amin(dim=-1, keepdim=True)
        out = self.mixture.shared_experts(x)
        for expert, weight in zip(self.mixture.experts, (scores * chosen).split(1, dim=-1), strict=True):
            out = out + expert(x) * weight
        return out


class EvenExperts(torch.nn.Module):
    """The experts of Nucleus, each of which chooses as many tokens as the others."""

    def __init__(self, experts: Any) -> None:
        super().__init__()
        self.experts = experts

    def forward(self, x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """What they make of tokens ``[N, D]``, those of the first expert before those of the second and so on."""
        gate, up = torch.bmm(x.reshape(len(counts), -1, x.shape[1]), self.experts.gate_up_proj).chunk(2, dim=-1)
        return torch.bmm(torch.nn.functional.silu(gate) * up, self.experts.down_proj).reshape(x.shape)


_TRACEABLE = {"MOEFeedForwardSwiGLU": WeighedExperts, "SwiGLUExperts": EvenExperts}


class MixedTransformer(torch.nn.Module):
    """A transformer whose experts can be traced, with the weights of the one given, which stays as it is."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer = rebuilt(transformer, _TRACEABLE)

    @property
    def config(self) -> Mapping[str, Any]:
        """That of the transformer."""
        return self.transformer.config


def rebuilt(module: torch.nn.Module, others: Mapping[str, Callable[[Any], torch.nn.Module]]) -> Any:
    """A module with others in place of those of some classes, which shares its weights and nothing else.

    Args:
        module: The module, which stays as it is.
        others: Make the other ones, by the name of the class.
    """
    if type(module).__name__ in others:
        return others[type(module).__name__](module)
    if not any(type(part).__name__ in others for part in module.modules()):
        return module
    other = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):  # hooks and parts
            other.__dict__[name] = copy.copy(value)
    for name, part in module.named_children():
        other._modules[name] = rebuilt(part, others)
    return other
