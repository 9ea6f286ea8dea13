"""Values that somebody hands over by mistake, and the same values in other clothes."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.float8_e4m3fn,
    torch.complex64,
    torch.complex128,
)


class Text(str):
    """A string that is more than one."""


class Whole(int):
    """An int that is more than one."""


class Level(enum.IntEnum):
    TWO = 2


class Sub(torch.Tensor):
    """A tensor that is more than one."""


class Spiteful:
    """Raises wherever it is looked at."""

    def __repr__(self) -> str:
        raise OSError("no repr")

    def __eq__(self, other: object) -> bool:
        raise OSError("no comparison")

    def __bool__(self) -> bool:
        raise OSError("no truth")

    def __len__(self) -> int:
        raise OSError("no length")

    __hash__ = None  # type: ignore[assignment]


def _endless() -> list:
    loop: list = []
    loop.append(loop)
    return loop


def _deep() -> list:
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    return deep


def _quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)


PLAIN: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "''": lambda: "",
    "'x'": lambda: "x",
    "Text": lambda: Text("x"),
    "np.str_": lambda: np.str_("x"),
    "surrogate": lambda: "a\udcff",
    "NUL": lambda: "a\0b",
    "b''": lambda: b"",
    "object": object,
    "spiteful": Spiteful,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "set": lambda: {1},
    "function": lambda: lambda *given, **named: None,
    "type": lambda: int,
    "module": lambda: math,
    "Ellipsis": lambda: ...,
    "slice": lambda: slice(1),
    "iterator": lambda: iter([1.0]),
    "range": lambda: range(3),
    "True": lambda: True,
    "False": lambda: False,
    "np.bool_": lambda: np.bool_(True),
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "2": lambda: 2,
    "10**9": lambda: 10**9,
    "2**63": lambda: 2**63,
    "10**30": lambda: 10**30,
    "10**5000": lambda: 10**5000,
    "Whole": lambda: Whole(2),
    "IntEnum": lambda: Level.TWO,
    "np.int64": lambda: np.int64(2),
    "np.uint8": lambda: np.uint8(2),
    "0.5": lambda: 0.5,
    "1.0": lambda: 1.0,
    "-0.0": lambda: -0.0,
    "nan": lambda: math.nan,
    "inf": lambda: math.inf,
    "-inf": lambda: -math.inf,
    "1e308": lambda: 1e308,
    "-1e308": lambda: -1e308,
    "1e-9": lambda: 1e-9,
    "1e-320": lambda: 1e-320,
    "np.float32": lambda: np.float32(0.5),
    "np.float64 nan": lambda: np.float64("nan"),
    "complex": lambda: 1 + 0j,
    "Decimal": lambda: Decimal("0.5"),
    "Fraction": lambda: Fraction(1, 2),
    "np []": lambda: np.zeros(0),
    "np 0-d": lambda: np.array(0.5),
    "np floats": lambda: np.ones((2, 3)),
    "np objects": lambda: np.array([None, "x"], dtype=object),
    "[None]": lambda: [None],
    "['x']": lambda: ["x"],
    "[1.0]": lambda: [1.0],
    "[True]": lambda: [True],
    "[nan]": lambda: [math.nan],
    "[1e308]": lambda: [1e308],
    "[10**30]": lambda: [10**30],
    "[10**5000]": lambda: [10**5000],
    "[[1]]": lambda: [[1]],
    "[spiteful]": lambda: [Spiteful()],
    "endless": _endless,
    "deep": _deep,
    "Path": lambda: Path("x"),
    "picture": lambda: Image.new("RGB", (4, 4)),
    "no picture": lambda: Image.new("RGB", (0, 0)),
    "dtype": lambda: torch.float32,
    "device": lambda: torch.device("meta"),
    "generator": lambda: torch.Generator().manual_seed(0),
    "network": lambda: torch.nn.Linear(2, 2),
    "0-dim": lambda: torch.tensor(0.5),
    "0-dim int": lambda: torch.tensor(2),
    "empty tensor": lambda: torch.zeros(0),
    "meta": lambda: torch.zeros(2, 3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "quantized": _quantized,
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "ones": lambda: torch.ones(2, 3),
    "requires grad": lambda: torch.ones(2, 3, requires_grad=True),
    "[tensor]": lambda: [torch.ones(2, 3)],
    "(tensor, None)": lambda: (torch.ones(2, 3), None),
}
PLAIN |= {str(dtype).removeprefix("torch."): lambda dtype=dtype: torch.zeros(2).to(dtype) for dtype in DTYPES}

# One or more of each kind.
SHORT = (
    "None", "'x'", "NUL", "object", "spiteful", "list", "dict", "function", "iterator", "True", "0", "-1", "1",
    "10**5000", "np.int64", "0.5", "nan", "inf", "1e308", "complex", "np floats", "[None]", "[1.0]", "[nan]", "deep",
    "Path", "picture", "dtype", "network", "0-dim", "meta", "sparse", "nested", "ones", "requires grad", "complex64",
)  # fmt: skip

Derived = Iterator[tuple[str, Any, bool]]


def derived(value: Any) -> Derived:
    """Values near a valid one: their names, they themselves, and whether they mean the same."""
    if isinstance(value, torch.Tensor):
        yield from _tensors(value)
    elif isinstance(value, (bool, np.bool_)):
        yield "np.bool_ of it", np.bool_(value), True
        yield "int of it", int(value), False
    elif isinstance(value, int):
        yield "np.int64 of it", np.int64(value), True
        yield "Whole of it", Whole(value), True
        yield "float of it", float(value), False
        yield "minus it", -value, False
        yield "str of it", str(value), False
        yield "tensor of it", torch.tensor(value), False
    elif isinstance(value, float):
        yield "np.float64 of it", np.float64(value), True
        yield "Fraction of it", Fraction(value), True
        yield "minus it", -value, False
        yield "str of it", str(value), False
        yield "tensor of it", torch.tensor(value), False
    elif isinstance(value, str):
        yield "Text of it", Text(value), True
        yield "np.str_ of it", np.str_(value), True
        yield "bytes of it", value.encode(), False
        yield "upper", value.upper(), False
        yield "[it]", [value], False
    elif isinstance(value, (list, tuple)):
        yield from _sequences(value)
    elif isinstance(value, np.ndarray):
        yield "tensor of it", torch.from_numpy(value.copy()), False
        yield "Fortran order", np.asfortranarray(value), True
    else:
        yield "[it]", [value], False


def _sequences(value: Sequence[Any]) -> Derived:
    yield "list of it", list(value), False
    yield "tuple of it", tuple(value), False
    yield "iterator of it", iter(value), False
    yield "it twice", [*value, *value], False
    yield "reversed", list(value)[::-1], False
    yield "with None", [*value, None], False
    yield "with nan", [*value, math.nan], False
    yield "with a list", [*value, [1]], False
    yield "it and a tensor", [*value, torch.ones(2, 3)], False


def _tensors(value: torch.Tensor) -> Derived:
    for dtype in DTYPES:
        if dtype != value.dtype:
            yield f"as {dtype}", value.to(dtype), False
    yield "Parameter", torch.nn.Parameter(value.clone(), requires_grad=False), True
    yield "subclass", value.clone().as_subclass(Sub), True
    yield "on meta", value.to("meta"), False
    yield "one dimension more", value[None], False
    yield "numpy of it", value.numpy(), False
    yield "list of it", value.tolist(), False
    yield "[it]", [value], False
    if value.ndim:
        yield "one dimension less", value[0], False
        yield "none of it", value[:0], False
        yield "twice", torch.cat([value, value]), False
        yield "narrow", value[..., :-1], False
    if value.is_floating_point():
        yield "requires grad", value.clone().requires_grad_(), True
        yield "nan", torch.full_like(value, math.nan), False
        yield "inf", torch.full_like(value, math.inf), False
        yield "zero", torch.zeros_like(value), False
        yield "huge", value * 1e300, False
        yield "tiny", value * 1e-300, False
        yield "denormal", value * 1e-310, False
        yield "one nan", torch.where(torch.arange(value.numel()).view(value.shape) == 0, math.nan, value), False
    if value.ndim > 1:
        yield "not contiguous", torch.stack([value, value], -1)[..., 0], True
        yield "sparse", value.to_sparse(), False
    if value.ndim == 4:
        yield "channels last", value.contiguous(memory_format=torch.channels_last), True
