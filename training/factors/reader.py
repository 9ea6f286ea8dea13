"""A small network that reads the factors of an avatar off its picture.

reader = FactorReader.load("reader.safetensors")
readings = reader.read(pictures)     # {"glasses": [n], "mouth_curve": [n], "hair_style": [n, 8], ...}
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from avatars import FACTORS, Factor
from safetensors.torch import save_file
from torch import Tensor, nn

from latentjac.files import FileError
from latentjac.tensor_files import Header, read_tensors

WIDTHS = (24, 48, 96, 128)
CHUNK = 256

Readings = dict[str, Tensor]


def outputs_of(factor: Factor) -> int:
    """How many numbers the network gives for a factor: a score per category, or one."""
    return len(factor.choices) or 1


class FactorReader(nn.Module):
    """Four strided convolutions and two linear layers.

    Args:
        size: Side of the pictures, a multiple of 16.
    """

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        if size < 16 or size % 16:
            raise ValueError(f"FactorReader: size must be a positive multiple of 16, got {size}")
        self.size = size
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1] * (size // 16) ** 2, 192), nn.SiLU())
        self.head = nn.Linear(192, sum(outputs_of(factor) for factor in FACTORS))

    def features(self, pictures: Tensor) -> Tensor:
        """Hidden values ``[n, 192]`` of pictures ``[n, 3, size, size]`` in [0, 1]."""
        if pictures.ndim != 4 or tuple(pictures.shape[1:]) != (3, self.size, self.size):
            raise ValueError(
                f"FactorReader: pictures must have shape [n, 3, {self.size}, {self.size}], got {list(pictures.shape)}"
            )
        return self.trunk(pictures * 2 - 1)

    def forward(self, pictures: Tensor) -> Readings:
        """Raw outputs: values on the scale [-1, 1] of each range, logits for binary factors and categories."""
        parts = self.head(self.features(pictures)).split([outputs_of(factor) for factor in FACTORS], dim=1)
        return {f.name: part if f.choices else part[:, 0] for f, part in zip(FACTORS, parts, strict=True)}

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Readings:
        """Factors of pictures ``[n, 3, size, size]`` in [0, 1].

        Returns:
            For every factor: its value ``[n]``, the probability ``[n]`` that a binary one is 1, or the probabilities
            ``[n, categories]`` of its categories.
        """
        chunks = [self(chunk) for chunk in pictures.split(CHUNK)]
        readings = {}
        for factor in FACTORS:
            raw = torch.cat([chunk[factor.name] for chunk in chunks])
            if factor.kind == "continuous":
                readings[factor.name] = factor.low + (factor.high - factor.low) * (raw + 1) / 2
            else:
                readings[factor.name] = raw.softmax(1) if factor.choices else raw.sigmoid()
        return readings

    def save(self, path: Path | str) -> None:
        """Write the weights in half precision."""
        weights = {name: value.half().contiguous().cpu() for name, value in self.state_dict().items()}
        save_file(weights, path, metadata={"size": str(self.size), "factors": _signature()})

    @classmethod
    def load(cls, path: Path | str) -> FactorReader:
        """Read what :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            latentjac.files.FileError: If it is not the file of a reader, or was made for other factors.
        """
        sizes: list[int] = []
        tensors = dict(read_tensors("FactorReader", path, "the file of a reader", lambda h: sizes.append(_check(h))))
        for name, value in tensors.items():
            if not bool(torch.isfinite(value).all()):
                raise FileError(f"FactorReader: {str(path)!r} must hold finite weights, got others in {name}")
        reader = cls(sizes[0])
        reader.load_state_dict({name: value.float() for name, value in tensors.items()})
        return reader.eval()


def _check(header: Header) -> int:
    """Side of the pictures; raises unless a file was made by a reader of these factors."""
    if header.metadata.get("factors") != _signature():
        raise ValueError(f"it must be made for the factors {_signature()}, got another list")
    size = header.metadata.get("size", "")
    if not re.fullmatch("[0-9]{1,4}", size):
        raise ValueError(f"size must be a number of pixels, got {size[:20]!r}")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in FactorReader(int(size)).state_dict().items()}
    if {name: entry.shape for name, entry in header.entries.items()} != expected:
        raise ValueError(f"weights must be those of a reader of {size} pixels")
    if any(entry.dtype != torch.float16 for entry in header.entries.values()):
        raise ValueError("weights must be float16")
    return int(size)


def _signature() -> str:
    """What the outputs mean; a file with another one cannot be read."""
    return ",".join(f"{factor.name}:{outputs_of(factor)}" for factor in FACTORS)
