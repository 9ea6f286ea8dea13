"""Files of bases with headers that do not fit, and damage at random places: loaded as they were, or refused."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from solvers.saved_bases import BASIS, BATCH, header_of, parts, same, with_header

import latentjac
from latentjac.files import FileError
from latentjac.solvers import files
from latentjac.tensor_files import read_tensors


def edited(change: Callable[[dict[str, Any]], Any], data: Callable[[bytes], bytes] = bytes) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        header, rest = header_of(content)
        change(header)
        return with_header(header, data(rest))

    return apply


def set_v(**values: object) -> Callable[[bytes], bytes]:
    return edited(lambda header: header["v"].update(values))


HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "seven bytes": lambda content: content[:7],
    "length alone": lambda content: content[:8],
    "cut header": lambda content: content[:100],
    "cut data": lambda content: content[:-1],
    "more data": lambda content: content + b"\0",
    "zeros": lambda content: bytes(len(content)),
    "length 0": lambda content: bytes(8) + content[8:],
    "length huge": lambda content: b"\xff" * 8 + content[8:],
    "length beyond the file": lambda content: struct.pack("<Q", len(content)) + content[8:],
    "header no object": lambda content: with_header([], b""),
    "header no UTF-8": lambda content: with_header(None, b"", text=b'{"\xff": 1}'),
    "header twice": lambda content: with_header(
        None, header_of(content)[1], text=json.dumps(header_of(content)[0]).encode()[:-1] + b', "s": {}}'
    ),
    "header nested": lambda content: with_header(None, b"", text=b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "entry null": edited(lambda header: header.update(v=None)),
    "entry text": edited(lambda header: header.update(v="v")),
    "entry more": set_v(more=1),
    "entry without shape": edited(lambda header: header["v"].pop("shape")),
    "dtype unknown": set_v(dtype="F8_E4M3"),
    "dtype complex": set_v(dtype="C64"),
    "dtype list": set_v(dtype=["F64"]),
    "dtype other": set_v(dtype="F32"),
    "dtype int": set_v(dtype="I64"),
    "shape negative": set_v(shape=[-3, 3, 4]),
    "shape huge": set_v(shape=[3, 2**62, 2**62]),
    "shape huge and empty": set_v(shape=[0, 2**62, 2**62], data_offsets=[0, 0]),
    "shape fraction": set_v(shape=[3, 3.0, 4]),
    "shape bool": set_v(shape=[3, True, 12]),
    "shape text": set_v(shape="3"),
    "shape deep": set_v(shape=[3] + [1] * 100 + [12]),
    "shape other": set_v(shape=[3, 4, 4]),
    "offsets huge": set_v(data_offsets=[0, 2**63]),
    "offsets of 10 GB": set_v(shape=[3, 10 * 2**30 // 24], data_offsets=[0, 10 * 2**30]),
    "offsets negative": set_v(data_offsets=[-288, 0]),
    "offsets turned": edited(lambda header: header["v"]["data_offsets"].reverse()),
    "offsets overlap": edited(lambda header: header["v"].update(data_offsets=header["s"]["data_offsets"])),
    "offsets three": set_v(data_offsets=[0, 1, 2]),
    "offsets null": set_v(data_offsets=None),
    "offsets fraction": edited(lambda header: header["v"].update(data_offsets=[0.0, 288.0])),
    "a gap": edited(
        lambda header: [header[n].update(data_offsets=[o + 8 for o in header[n]["data_offsets"]]) for n in parts()[0]],
        lambda data: bytes(8) + data,
    ),
    "metadata null": edited(lambda header: header.update(__metadata__=None)),
    "metadata numbers": edited(lambda header: header["__metadata__"].update(schema=3)),
    "metadata gone": edited(lambda header: header.pop("__metadata__")),
    "metadata without facts": edited(lambda header: header["__metadata__"].pop("latentjac")),
    "metadata more": edited(lambda header: header["__metadata__"].update(more="x")),
    "sum gone": edited(lambda header: header["__metadata__"].pop("sha256")),
    "sum other": edited(lambda header: header["__metadata__"].update(sha256="0" * 64)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_do_not_fit(tmp_path, name: str) -> None:
    path = BASIS.save(tmp_path / "b.safetensors")
    path.write_bytes(HEADERS[name](path.read_bytes()))
    with pytest.raises(FileError, match=r"b\.safetensors"):
        latentjac.LocalBasis.load(path)


@pytest.mark.parametrize("size", [files.LARGEST_BASIS + 2**20, 10 * 2**40])
def test_a_huge_file_is_refused_before_it_is_read(tmp_path, size: int) -> None:
    """It takes no space on the disk, but would in memory."""
    rows = size // 24
    shapes = {"s": [3], "residuals": [3], "u": [3, 7], "v": [3, rows]}
    header: dict[str, Any] = {"__metadata__": header_of(BASIS.save(tmp_path / "a.safetensors").read_bytes())[0]}
    header["__metadata__"] = header["__metadata__"]["__metadata__"]
    place = 0
    for name, shape in shapes.items():
        length = 8 * torch.Size(shape).numel()
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [place, place + length]}
        place += length
    path = tmp_path / "b.safetensors"
    path.write_bytes(with_header(header, b""))
    os.truncate(path, path.stat().st_size + place)
    with pytest.raises(FileError, match="LARGEST_BASIS"):
        latentjac.LocalBasis.load(path)


@pytest.mark.parametrize("basis", [BASIS, BATCH], ids=["one point", "two points"])
def test_random_damage(tmp_path, basis) -> None:
    path = basis.save(tmp_path / "b.safetensors")
    content, draw = path.read_bytes(), random.Random(0)
    deadline, loaded = time.monotonic() + 60, 0
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 1, 3))):
            # The header is the smaller part, but the one with more to break.
            place = draw.randrange(draw.choice((8, 1500, len(content))))
            damaged[place] = damaged[place] ^ (1 << draw.randrange(8)) if draw.random() < 0.7 else draw.randrange(256)
        if draw.random() < 0.1:
            damaged = damaged[: draw.randrange(len(damaged))]
        path.write_bytes(damaged)
        try:
            found = latentjac.LocalBasis.load(path)
        except FileError:
            continue
        assert same(found, basis)
        loaded += 1
    assert time.monotonic() < deadline
    assert loaded < 150  # bytes that were replaced by themselves, spaces behind the header


def test_tensors_at_odd_places_are_read(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    header = {
        "a": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]},
        "c": {"dtype": "F32", "shape": [0, 4], "data_offsets": [11, 11]},
    }
    path.write_bytes(with_header(header, b"\0\1\0" + struct.pack("<ff", 1.5, -2.0)))
    seen: list[dict] = []
    tensors = dict(read_tensors("load", path, "a file", lambda header: seen.append(header.metadata)))
    assert tensors["a"].tolist() == [False, True, False]
    assert tensors["b"].tolist() == [1.5, -2.0]
    assert tensors["c"].shape == (0, 4)
    assert seen == [{}]
