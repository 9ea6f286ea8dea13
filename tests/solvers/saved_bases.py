"""Bases to be saved, the parts of their files, and files put together by hand."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from safetensors.torch import save

import latentjac
from latentjac.tensor_files import digest

Tensors, Facts = dict[str, torch.Tensor], dict[str, Any]


def decompose(points: int = 1, k: int = 3, **options: Any) -> latentjac.LocalBasis:
    """A basis of a small function, with facts as those of a model have."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    x = torch.randn(points, 3, 4, generator=generator, dtype=torch.float64)
    lin = latentjac.linearize(lambda x: (x.flatten(1) @ weight.T).tanh(), x)
    basis = latentjac.svd(lin, k=k, **options)
    basis.metadata.update(model="m", layer="mid", t=0.5, timestep=500, num_inference_steps=10, grid="scheduler")
    return basis


BASIS, BATCH = decompose(), decompose(points=2)


def same(a: latentjac.LocalBasis, b: latentjac.LocalBasis) -> bool:
    """Whether two bases are alike to the bit, facts among it."""
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("s", "v", "u", "residuals"))
    bounds = (a.certificate is None) == (b.certificate is None)
    if a.certificate is not None and b.certificate is not None:
        names = a.certificate.names()
        bounds = all(torch.equal(getattr(a.certificate, n), getattr(b.certificate, n)) for n in names)
    facts = all(
        getattr(a, name) == getattr(b, name)
        for name in ("status", "point_status", "jvps", "vjps", "seconds", "metadata")
    )
    return tensors and bounds and facts


def parts(basis: latentjac.LocalBasis = BASIS) -> tuple[Tensors, Facts]:
    """What a file holds."""
    tensors = {name: getattr(basis, name).clone() for name in ("s", "v", "u", "residuals")}
    assert basis.certificate is not None
    for name in basis.certificate.names():
        tensors[f"certificate.{name}"] = getattr(basis.certificate, name).clone()
    facts = {
        "status": basis.status.value,
        "point_status": [status.value for status in basis.point_status],
        "jvps": basis.jvps,
        "vjps": basis.vjps,
        "seconds": basis.seconds,
        "metadata": dict(basis.metadata),
    }
    return tensors, facts


def written(tensors: Tensors, text: str, schema: str = "3", **metadata: str) -> bytes:
    """A file that someone wrote with a sum of its own."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    facts = {"schema": schema, "latentjac": text}
    if schema == "3":
        facts["sha256"] = digest(tensors, text)
    return save(tensors, metadata={**facts, **metadata})


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a file, and the tensors behind it."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: object, data: bytes, *, text: bytes | None = None, length: int | None = None) -> bytes:
    """A file with another header."""
    text = json.dumps(header).encode() if text is None else text
    return struct.pack("<Q", len(text) if length is None else length) + text + data
