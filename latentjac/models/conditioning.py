"""What a network gets beside a sample and a timestep: named tensors, and what guidance needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from latentjac.arguments import (
    check_dense,
    check_device,
    check_dtype,
    check_int,
    check_kind,
    check_number,
    check_tensor,
    is_number,
    shown,
)
from latentjac.public import public

_NEGATIVE, _SCALE = "guidance.negative.", "guidance.scale"  # in flat form; own names have no dots
_WITHOUT, _IMAGE_SCALE = "guidance.without.", "guidance.image_scale"
_RESCALE = "guidance.rescale"
FURTHEST = 1e6  # a scale of guidance
_MOST_ROWS = 2**31
_NAME = "Conditioning"


class Conditioning(Mapping[str, torch.Tensor]):
    """Named tensors with a row for every sample, or one row for all; frozen.

    Which names there are is up to the adapter of the network that made it (``Model.conditioning``); the empty one is
    that of networks that take nothing. Samples and conditioning are selected, repeated and split alike, by rows.

    Attributes:
        guidance: What classifier-free guidance needs; None without.

    Args:
        tensors: By name; dimension 0 is that of the rows.
        guidance: A negative conditioning of the same names, and a scale.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a name is no identifier, a tensor has no rows, or numbers of rows differ.

    Example:
        >>> cats = latentjac.Conditioning({"class_label": torch.tensor([3, 5])})
        >>> cats["class_label"]
        tensor([3, 5])
    """

    __slots__ = ("_tensors", "guidance")
    __hash__ = None  # type: ignore[assignment]
    _tensors: Mapping[str, torch.Tensor]
    guidance: ClassifierFree | None

    def __init__(
        self, tensors: Mapping[str, torch.Tensor] | None = None, guidance: ClassifierFree | None = None
    ) -> None:
        checked = {}
        given = {} if tensors is None else tensors
        for name, value in check_kind(_NAME, "tensors", given, Mapping, "a mapping", optional=True).items():
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"{_NAME}: tensors must be named by identifiers, got {shown(name)}")
            checked[str(name)] = _rows_of(f"tensors[{name!r}]", value)
        check_kind(_NAME, "guidance", guidance, ClassifierFree, "a ClassifierFree", optional=True)
        for other in () if guidance is None else guidance.others().values():
            if other.keys() != checked.keys():
                raise ValueError(
                    f"{_NAME}: tensors and the negative of guidance must have the same names, "
                    f"got {sorted(checked)} and {sorted(other)}"
                )
        if guidance is not None and not checked:
            raise ValueError(f"{_NAME}: tensors must be there with guidance, got none")
        self._set(checked, guidance)
        counts = sorted({len(tensor) for tensor in self.flat().values()} - {1})
        if len(counts) > 1:
            raise ValueError(f"{_NAME}: tensors must have 1 row or as many as the others, got {counts}")

    def _set(self, tensors: dict[str, torch.Tensor], guidance: ClassifierFree | None) -> None:
        object.__setattr__(self, "_tensors", MappingProxyType(tensors))
        object.__setattr__(self, "guidance", guidance)

    @classmethod
    def _made(cls, tensors: dict[str, torch.Tensor], guidance: ClassifierFree | None) -> Conditioning:
        """Of tensors that fit, which are not looked at: what is being traced has no values."""
        made = cls.__new__(cls)
        made._set(tensors, guidance)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Conditioning is frozen: make another one with {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        return Conditioning, (dict(self._tensors), self.guidance)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._tensors:
            raise KeyError(f"conditioning must hold {name!r}, got {list(self._tensors)}")
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __bool__(self) -> bool:
        return bool(self._tensors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Conditioning):
            return NotImplemented
        mine, others = self.flat(), other.flat()
        return mine.keys() == others.keys() and all(
            value.dtype == others[name].dtype and torch.equal(value, others[name].to(value.device))
            for name, value in mine.items()
        )

    def __repr__(self) -> str:
        parts = [f"{name} {list(tensor.shape)}" for name, tensor in self.items()]
        if self.guidance is not None:
            parts.append(repr(self.guidance))
        return f"Conditioning({', '.join(parts)})"

    @property
    def num_rows(self) -> int:
        """For how many samples it has rows of their own; 1 where all are for all."""
        return max((len(tensor) for tensor in self.flat().values()), default=1)

    @public
    def rows(self, index: slice) -> Conditioning:
        """That of some of the samples; rows for all stay.

        Args:
            index: Which of the samples.

        Raises:
            TypeError: If index is no slice.
            ValueError: If it selects none.
        """
        check_kind("rows", "index", index, slice, "a slice")
        if not range(self.num_rows)[index] and self.num_rows > 1:
            raise ValueError(f"rows: index must select some of {self.num_rows} rows, got {index}")
        return self._map(lambda tensor: tensor if len(tensor) == 1 else tensor[index])

    @public
    def expand(self, count: int) -> Conditioning:
        """With a row for each of so many samples; rows for all are repeated without a copy.

        Raises:
            TypeError: If count is no int.
            ValueError: If it has rows of its own for another number of samples.
        """
        return self._expanded(self._fitting("expand", count))

    @public
    def split(self, size: int, count: int) -> Iterator[Conditioning]:
        """Those of parts of ``count`` samples, of ``size`` samples each, as ``x.split(size)`` makes of x.

        Raises:
            TypeError: If an argument is no int.
            ValueError: If it has rows of its own for another number of samples.
        """
        size, count = check_int("split", "size", size, 1), self._fitting("split", count)
        return (self.rows(slice(start, min(start + size, count))) for start in range(0, count, size))

    def _joins(self, other: Conditioning) -> bool:
        """Whether rows of both can stand side by side: names, shapes and types are the same."""
        own, others = (
            {name: (tensor.shape[1:], tensor.dtype) for name, tensor in held.flat().items()} for held in (self, other)
        )
        return own == others and type(self.guidance) is type(other.guidance)

    @classmethod
    def _joined(cls, parts: Sequence[Conditioning], counts: Sequence[int]) -> Conditioning:
        """The rows of several that join, one after the other, each for so many samples."""
        rows = [part._expanded(count).flat() for part, count in zip(parts, counts, strict=True)]
        names = list(rows[0])
        return cls._traced(names, [torch.cat([row[name] for row in rows]) for name in names])

    def _fitting(self, function: str, count: Any) -> int:
        count = check_int(function, "count", count, 1, _MOST_ROWS)
        if self.num_rows not in (1, count):
            raise ValueError(f"{function}: count must be {self.num_rows}, the number of rows, got {count}")
        return int(count)

    def _expanded(self, count: int) -> Conditioning:
        return self._map(lambda tensor: tensor if len(tensor) == count else tensor.expand(count, *tensor.shape[1:]))

    def _followed_by(self, *others: Conditioning) -> Conditioning:
        """The rows of all, without guidance; names are the same."""
        joined = {name: torch.cat([tensor, *(other[name] for other in others)]) for name, tensor in self.items()}
        return Conditioning._made(joined, None)

    @public
    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Conditioning:
        """On another device, floating-point tensors in another type.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If there is no such device.
        """
        device = check_device("to", "device", device, optional=True)
        dtype = check_dtype("to", "dtype", dtype, optional=True)
        return self._map(lambda tensor: tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None))

    def unguided(self) -> Conditioning:
        """Without guidance."""
        return Conditioning._made(dict(self._tensors), None)

    def flat(self) -> dict[str, torch.Tensor]:
        """All tensors by name, those of guidance among them, for files and traces."""
        return {**self._tensors, **({} if self.guidance is None else self.guidance.flat())}

    @classmethod
    @public
    def from_flat(cls, tensors: Mapping[str, torch.Tensor]) -> Conditioning:
        """The conditioning of what :meth:`flat` gave.

        Raises:
            TypeError: If an argument has a wrong type.
            ValueError: If tensors are those of no conditioning.
        """
        check_kind("from_flat", "tensors", tensors, Mapping, "a mapping")
        if not all(isinstance(name, str) for name in tensors):
            raise TypeError(f"from_flat: tensors must be named by texts, got {shown(list(tensors))}")
        own, others, scales = _unflat(tensors)
        if not others and not scales:
            return cls(own)
        if _SCALE not in scales:
            raise ValueError(f"from_flat: tensors must have {_SCALE} where there is a negative, got none")
        negative = cls(others.get(_NEGATIVE, {}))
        if _RESCALE in scales:
            return cls(own, RescaledGuidance(negative, scales[_SCALE], scales[_RESCALE]))
        if _IMAGE_SCALE not in scales and _WITHOUT not in others:
            return cls(own, ClassifierFree(negative, scales[_SCALE]))
        if _IMAGE_SCALE not in scales:
            raise ValueError(f"from_flat: tensors must have {_IMAGE_SCALE} beside {_WITHOUT}..., got none")
        without = cls(others.get(_WITHOUT, {}))
        return cls(own, ImageGuidance(negative, without, scales[_SCALE], scales[_IMAGE_SCALE]))

    @staticmethod
    def _traced(names: Sequence[str], tensors: Sequence[torch.Tensor]) -> Conditioning:
        """The conditioning of flat tensors, which are not looked at."""
        own, others, scales = _unflat(dict(zip(names, tensors, strict=True)))
        guidance: ClassifierFree | None = None
        if scales:
            kind: Any = ImageGuidance if _IMAGE_SCALE in scales else ClassifierFree
            kind = RescaledGuidance if _RESCALE in scales else kind
            named = {_FIELDS[name]: Conditioning._made(held, None) for name, held in others.items()}
            guidance = kind._made(**named, **{_FIELDS[name]: scale for name, scale in scales.items()})
        return Conditioning._made(own, guidance)

    def _map(self, change: Any) -> Conditioning:
        tensors = {name: change(tensor) for name, tensor in self.items()}
        return Conditioning._made(tensors, None if self.guidance is None else self.guidance._map(change))


@dataclass(frozen=True, eq=False, repr=False)
class ClassifierFree:
    """What classifier-free guidance (Ho & Salimans 2022) leads away from, and how far.

    Attributes:
        negative: Conditioning of the prediction that is led away from.
        scale: ``[1]`` or one a sample, ``[B]``; predictions are ``negative + scale (own - negative)``, so 1 is none.

    Args:
        scale: A number, or such a tensor.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the negative is guided itself, or the scale out of range.
    """

    negative: Conditioning
    scale: torch.Tensor

    def __init__(self, negative: Conditioning, scale: float | torch.Tensor) -> None:
        self._hold(negative=negative, scale=scale)

    def _hold(self, **values: Any) -> None:
        """Check conditionings and scales, and keep them."""
        kind = type(self).__name__
        for name, value in values.items():
            if name.endswith("scale"):
                object.__setattr__(self, name, _scale(kind, name, value, values["negative"]))
                continue
            check_kind(kind, name, value, Conditioning, "a Conditioning")
            if value.guidance is not None:
                raise ValueError(f"{kind}: {name} must have no guidance of its own, got one that has")
            object.__setattr__(self, name, value)

    @classmethod
    def _made(cls, **values: Any) -> ClassifierFree:
        """Of values that fit, which are not looked at."""
        made = cls.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made

    def others(self) -> dict[str, Conditioning]:
        """All conditionings beside the own one, by their names in flat form."""
        return {_NEGATIVE: self.negative}

    def scales(self) -> dict[str, torch.Tensor]:
        """All scales, by their names in flat form."""
        return {_SCALE: self.scale}

    def flat(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        others = {f"{start}{name}": t for start, held in self.others().items() for name, t in held.items()}
        return {**others, **self.scales()}

    def _map(self, change: Any) -> ClassifierFree:
        others = {_FIELDS[name]: held._map(change) for name, held in self.others().items()}
        return self._made(**others, **{_FIELDS[name]: change(scale) for name, scale in self.scales().items()})

    def __repr__(self) -> str:
        return f"guidance {_numbers(self.scale)} away from {self.negative!r}"


@dataclass(frozen=True, eq=False, repr=False)
class ImageGuidance(ClassifierFree):
    """Guidance by a text and by a picture, a scale each (Brooks et al. 2023, InstructPix2Pix, equation 3).

    Predictions are ``without + image_scale (negative - without) + scale (own - negative)``. With an image_scale of 1
    that is :class:`ClassifierFree`.

    Attributes:
        without: Conditioning of the prediction without text and without picture.
        image_scale: ``[1]`` or one a sample, ``[B]``.

    Args:
        negative: Without the text, with the picture.
        scale: A number, or such a tensor; so is image_scale.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a conditioning is guided itself, or a scale out of range.
    """

    without: Conditioning
    image_scale: torch.Tensor

    def __init__(
        self,
        negative: Conditioning,
        without: Conditioning,
        scale: float | torch.Tensor,
        image_scale: float | torch.Tensor,
    ) -> None:
        self._hold(negative=negative, without=without, scale=scale, image_scale=image_scale)

    def others(self) -> dict[str, Conditioning]:
        """See :class:`ClassifierFree`."""
        return {**super().others(), _WITHOUT: self.without}

    def scales(self) -> dict[str, torch.Tensor]:
        """See :class:`ClassifierFree`."""
        return {**super().scales(), _IMAGE_SCALE: self.image_scale}

    def __repr__(self) -> str:
        return f"{super().__repr__()}, of the picture {_numbers(self.image_scale)}"


@dataclass(frozen=True, eq=False, repr=False)
class RescaledGuidance(ClassifierFree):
    """Guidance whose predictions get back a part of the contrast that they have without it (Lin et al. 2024).

    What the network returns, guided, is multiplied by ``1 - rescale + rescale d / d'``, with the standard deviations d
    of that under the own conditioning and d' of the guided one, over all entries of a sample.

    Attributes:
        rescale: In [0, 1], ``[1]`` or one a sample, ``[B]``; 0 is :class:`ClassifierFree`.

    Args:
        negative: Conditioning that is led away from.
        scale: A number, or a tensor ``[1]`` or ``[B]``; so is rescale.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the negative is guided itself, or a number out of range.
    """

    rescale: torch.Tensor

    def __init__(self, negative: Conditioning, scale: float | torch.Tensor, rescale: float | torch.Tensor) -> None:
        self._hold(negative=negative, scale=scale, rescale=rescale)
        if not bool(((self.rescale >= 0) & (self.rescale <= 1)).all()):
            raise ValueError(f"RescaledGuidance: rescale must be in [0, 1], got {_numbers(self.rescale)}")

    def scales(self) -> dict[str, torch.Tensor]:
        """See :class:`ClassifierFree`."""
        return {**super().scales(), _RESCALE: self.rescale}

    def __repr__(self) -> str:
        return f"{super().__repr__()}, rescaled by {_numbers(self.rescale)}"


_FIELDS = {
    _NEGATIVE: "negative", _WITHOUT: "without", _SCALE: "scale", _IMAGE_SCALE: "image_scale", _RESCALE: "rescale"
}  # fmt: skip


def _scale(kind: str, name: str, scale: Any, negative: Conditioning) -> torch.Tensor:
    """A scale of guidance as a tensor with a row for each sample, or one."""
    if is_number(scale):
        like = next((t for t in negative.values() if t.is_floating_point()), torch.zeros((), dtype=torch.float64))
        number = check_number(kind, name, scale, -FURTHEST, FURTHEST, least=True, most=True)
        return torch.tensor([number], dtype=like.dtype, device=like.device)
    rows = check_tensor(kind, name, scale, FURTHEST)
    if rows.ndim != 1 or len(rows) == 0:
        raise ValueError(f"{kind}: {name} must be a number or have shape [B], got {list(rows.shape)}")
    return rows


def _numbers(scale: torch.Tensor) -> str:
    return ", ".join(f"{number:g}" for number in scale.tolist())


def _rows_of(argument: str, value: Any) -> torch.Tensor:
    tensor = check_dense(_NAME, argument, value)
    if tensor.ndim == 0 or len(tensor) == 0:
        raise ValueError(f"{_NAME}: {argument} must have rows in dimension 0, got shape {list(tensor.shape)}")
    return tensor


def _unflat(
    tensors: Mapping[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Own tensors, those of the conditionings of guidance by their names in flat form, and scales by theirs."""
    own: dict[str, torch.Tensor] = {}
    others: dict[str, dict[str, torch.Tensor]] = {}
    scales: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        start = next((start for start in (_NEGATIVE, _WITHOUT) if name.startswith(start)), None)
        if start is not None:
            others.setdefault(start, {})[name.removeprefix(start)] = tensor
        elif name in (_SCALE, _IMAGE_SCALE, _RESCALE):
            scales[name] = tensor
        else:
            own[name] = tensor
    return own, others, scales
