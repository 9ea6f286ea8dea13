"""A network and others beside it that change its features, as one network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from latentjac.models.adapters.family import Family
from latentjac.models.conditioning import Conditioning

_KEY = re.compile(r"(controlnet|adapter)(?:_(\d+))?_(.*)")  # of the configuration of one beside the network


class Joined(torch.nn.Module):
    """A network and those beside it as one.

    Attributes:
        config: That of the network, and those of the others under names that begin with :attr:`part`, of the second and
            further ones with ``controlnet_2_`` and so on.
        own: What a pipeline calls the network, which is the name of the module here.
        part: What it calls the others.
        others: Each of them.
        control_channels: Channels of what each of them sees.
    """

    own, part = "", ""
    others: Sequence[Any]

    @property
    def config(self) -> dict[str, Any]:
        """Of all, as described above."""
        config = dict(getattr(self, self.own).config)
        for i, other in enumerate(self.others):
            start = self.part if i == 0 else f"{self.part}_{i + 1}"
            config |= {f"{start}_{key}": value for key, value in other.config.items() if not key.startswith("_")}
        return config

    @classmethod
    def _configs(cls, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """That of the network, and those of the others."""
        own: dict[str, Any] = {}
        others: dict[int, dict[str, Any]] = {}
        for key, value in config.items():
            found = _KEY.fullmatch(key)
            if found is None or found[1] != cls.part:
                own[key] = value
            else:
                others.setdefault(int(found[2] or 1), {})[found[3]] = value
        return own, [others[i] for i in sorted(others)]


def call(network: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
    """What such a network predicts.

    ``"control"`` holds what the others see, behind each other, ``[B, channels, height, width]``, and
    ``"control_strength"`` the factors of their features, ``[B, others]``.
    """
    return network(x, t, conditioning)


def in_front(name: str, family: Family) -> dict[str, Any]:
    """What tells where blocks are, of a family whose networks are a module of this name in others."""

    def layers(network: Any) -> dict[str, str]:
        return {layer: f"{name}.{block}" for layer, block in family.layers(getattr(network, name)).items()}

    return {"layers": layers, "joined": {f"{name}.{blocks}": where for blocks, where in family.joined.items()}}
