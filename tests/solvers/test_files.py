"""Files of bases: whatever is done to one, it loads as it was or is refused by one kind of error."""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import latentjac
from latentjac.files import FileError
from latentjac.solvers import Randomized, Subspace, files
from latentjac.tensor_files import digest, read_tensors

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def decompose(points: int = 1, k: int = 3, **options: Any) -> latentjac.LocalBasis:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    x = torch.randn(points, 3, 4, generator=generator, dtype=torch.float64)
    lin = latentjac.linearize(lambda x: (x.flatten(1) @ weight.T).tanh(), x)
    basis = latentjac.svd(lin, k=k, **options)
    basis.metadata.update(model="m", layer="mid", t=0.5, timestep=500, num_inference_steps=10, grid="scheduler")
    return basis


BASIS, BATCH = decompose(), decompose(points=2)


def same(a: latentjac.LocalBasis, b: latentjac.LocalBasis) -> bool:
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("basis", [BASIS, BATCH], ids=["one point", "two points"])
def test_what_is_saved_is_loaded(tmp_path, basis, dtype) -> None:
    basis = basis.to(dtype=dtype)
    path = basis.save(tmp_path / "b.safetensors")
    assert same(latentjac.LocalBasis.load(path), basis)
    basis.save(path)  # a basis replaces a basis
    assert os.listdir(tmp_path) == ["b.safetensors"]


@pytest.mark.filterwarnings("ignore:svd")
@pytest.mark.parametrize(
    "options",
    [
        {"max_passes": 2},
        {"solver": Randomized()},
        {"solver": Subspace(stop="park2023", vectors="park2023")},
        {"tol": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "function", [lambda x: x.flatten(1).softmax(-1), lambda x: 0 * x, lambda x: x.flatten(1)[:, :2]]
)
def test_every_kind_of_basis_can_be_saved(tmp_path, options, function) -> None:
    """Not converged, of a rank below k, and with the rows that the code of Park et al. returns."""
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    basis = latentjac.svd(latentjac.linearize(function, x), k=2, **options)
    assert same(latentjac.LocalBasis.load(basis.save(tmp_path / "b.safetensors")), basis)


def test_rows_may_be_zero_or_not_where_s_is(tmp_path) -> None:
    s, u = BASIS.s.clone(), BASIS.u.clone()
    s[-1] = 0
    kept = replace(BASIS, s=s)
    u[-1] = 0
    for basis in (kept, replace(kept, u=u)):
        assert same(latentjac.LocalBasis.load(basis.save(tmp_path / "b.safetensors")), basis)


def test_numbers_that_json_lacks_come_back_as_texts(tmp_path) -> None:
    basis = replace(BASIS, metadata={"bound": [float("inf"), float("nan")], "name": "caf\udce9"})
    path = basis.save(tmp_path / "b.safetensors")
    found = latentjac.LocalBasis.load(path).metadata
    assert found == {"bound": ["Infinity", "NaN"], "name": "caf\\udce9"}


# --- damage -------------------------------------------------------------------------------------------------------

Tensors, Facts = dict[str, torch.Tensor], dict[str, Any]


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


def changed(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors, Facts], None]:
    def apply(tensors: Tensors, facts: Facts) -> None:
        tensors[name] = change(tensors[name])

    return apply


def entry(name: str, index: int, value: float) -> Callable[[Tensors, Facts], None]:
    def put(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[index] = value
        return tensor

    return changed(name, put)


def fact(name: str, value: object) -> Callable[[Tensors, Facts], None]:
    return lambda tensors, facts: facts.update({name: value})


def noted(name: str, value: object) -> Callable[[Tensors, Facts], None]:
    return lambda tensors, facts: facts["metadata"].update({name: value})


NAN, INF = float("nan"), float("inf")
CONTENT: dict[str, tuple[Callable[[Tensors, Facts], Any], str]] = {
    "s nan": (entry("s", 1, NAN), "s must be finite"),
    "s inf": (entry("s", 0, INF), "s must be finite"),
    "s negative": (entry("s", 2, -1e-9), "s must be descending, from 0"),
    "s unsorted": (changed("s", lambda s: s.flip(0)), "s must be descending"),
    "s shape": (changed("s", lambda s: s[:, None, None]), r"s must have shape \[k\] or \[B, k\]"),
    "s scalar": (changed("s", lambda s: s[0]), "s must have shape"),
    "s empty": (changed("s", lambda s: s[:0]), "s must have shape"),
    "s longer": (changed("s", lambda s: torch.cat([s, s])), "residuals must have the shape of s"),
    "s dtype": (changed("s", lambda s: s.float()), "one floating type"),
    "s gone": (lambda tensors, facts: tensors.pop("s"), "tensors must be"),
    "v bool": (changed("v", lambda v: v > 0), "one floating type"),
    "v int": (changed("v", lambda v: v.long()), "one floating type"),
    "v half": (changed("v", lambda v: v.half()), "one floating type"),
    "all int": (
        lambda tensors, facts: tensors.update({n: tensors[n].long() for n in ("s", "v", "u", "residuals")}),
        "one floating type",
    ),
    "v nan": (entry("v", 5, NAN), "v must be finite"),
    "v long": (changed("v", lambda v: 7 * v), "rows of v must be orthonormal to 1e-05"),
    "v long by little": (changed("v", lambda v: 1.0001 * v), "rows of v must be orthonormal"),
    "v one long": (changed("v", lambda v: torch.cat([v[:2], 2 * v[2:]])), "rows of v must be orthonormal"),
    "v twice": (changed("v", lambda v: v[[0, 0, 2]]), "rows of v must be orthonormal"),
    "v zero": (changed("v", lambda v: 0 * v), "rows of v must be orthonormal"),
    "v huge": (changed("v", lambda v: v + 1e300), "rows of v must be orthonormal"),
    "v rows": (changed("v", lambda v: v[:2]), r"v must hold \[3\] rows"),
    "v flat": (changed("v", lambda v: v[:, 0, 0]), r"v must hold \[3\] rows that can be orthogonal"),
    "v narrow": (changed("v", lambda v: v[:, 0, :2]), "that can be orthogonal"),
    "v gone": (lambda tensors, facts: tensors.pop("v"), "tensors must be"),
    "u nan": (entry("u", 0, NAN), "u must be finite"),
    "u long": (changed("u", lambda u: u + 0.1), "rows of u must be orthonormal"),
    "u zero where s is not": (changed("u", lambda u: torch.cat([u[:2], 0 * u[2:]])), "rows of u must be orthonormal"),
    "u rows": (changed("u", lambda u: u.repeat(2, 1)), r"u must hold \[3\] rows"),
    "u one dimension": (changed("u", lambda u: u.reshape(-1)), r"u must hold \[3\] rows"),
    "residuals nan": (entry("residuals", 0, NAN), "residuals must be numbers from 0"),
    "residuals negative": (entry("residuals", 0, -1.0), "residuals must be numbers from 0"),
    "residuals shape": (changed("residuals", lambda r: r[:2]), "residuals must have the shape of s"),
    "certificate dtype": (changed("certificate.gap", lambda g: g.float()), "certificate.gap must be torch.float64"),
    "certificate shape": (changed("certificate.angle", lambda a: a[None]), r"certificate.angle .* of shape \[\]"),
    "certificate nan": (entry("certificate.s_error", 0, NAN), "certificate.s_error must be numbers from 0"),
    "certificate negative": (entry("certificate.angle", 0, -1.0), "certificate.angle must be numbers from 0"),
    "certificate gone": (lambda tensors, facts: tensors.pop("certificate.gap"), "with or without a certificate"),
    "more tensors": (lambda tensors, facts: tensors.update(w=torch.ones(2)), "tensors must be"),
    "status unknown": (fact("status", "fine"), "status must be one of"),
    "status null": (fact("status", None), "status must be one of"),
    "status list": (fact("status", []), "status must be one of"),
    "point_status long": (fact("point_status", ["converged"] * 2), "point_status must be one a point"),
    "point_status text": (fact("point_status", "converged"), "point_status must be a list"),
    "point_status object": (fact("point_status", [{}]), "point_status must be a list"),
    "jvps text": (fact("jvps", "7"), "jvps must be an int from 0"),
    "jvps bool": (fact("jvps", True), "jvps must be an int from 0"),
    "jvps huge": (fact("jvps", 10**400), "jvps must be an int from 0"),
    "vjps negative": (fact("vjps", -1), "vjps must be an int from 0"),
    "seconds text": (fact("seconds", "NaN"), "seconds must be a number from 0"),
    "seconds huge": (fact("seconds", 10**400), "seconds must be a number from 0"),
    "facts that replace s": (fact("s", [1.0]), "facts must be"),
    "facts that replace the class": (fact("certificate", {}), "facts must be"),
    "fact gone": (lambda tensors, facts: facts.pop("vjps"), "facts must be"),
    "metadata null": (fact("metadata", None), "metadata must be a JSON object"),
    "metadata list": (fact("metadata", []), "metadata must be a JSON object"),
    "layer int": (noted("layer", 3), "metadata: layer must be a text"),
    "model null": (noted("model", None), "metadata: model must be a text"),
    "t text": (noted("t", "0.5"), "metadata: t must be a number in"),
    "t out": (noted("t", 1.5), "metadata: t must be a number in"),
    "t gone": (lambda tensors, facts: facts["metadata"].pop("t"), "must have t beside num_inference_steps"),
    "steps zero": (noted("num_inference_steps", 0), "num_inference_steps must be an int from 1"),
    "steps fraction": (noted("num_inference_steps", 2.5), "num_inference_steps must be an int from 1"),
    "tol object": (noted("tol", {}), "metadata: tol must be a number"),
    "identity list": (noted("model_identity", ["a"]), "model_identity must be a text"),
}


@pytest.mark.parametrize("name", CONTENT)
def test_content_that_is_no_basis(tmp_path, name: str) -> None:
    damage, message = CONTENT[name]
    tensors, facts = parts()
    damage(tensors, facts)
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts)))
    with pytest.raises(FileError, match=message) as caught:
        latentjac.LocalBasis.load(path)
    assert "b.safetensors" in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_the_undamaged_parts_load(tmp_path) -> None:
    """Or the table above would prove nothing."""
    path = tmp_path / "b.safetensors"
    for basis in (BASIS, BATCH):
        tensors, facts = parts(basis)
        path.write_bytes(written(tensors, json.dumps(facts)))
        assert same(latentjac.LocalBasis.load(path), basis)


@pytest.mark.parametrize("name", ["s unsorted", "v long", "u nan", "residuals negative", "metadata null", "jvps text"])
def test_a_basis_that_would_not_load_is_not_saved(tmp_path, name: str) -> None:
    tensors, facts = parts()
    CONTENT[name][0](tensors, facts)
    fields = {**{n: tensors[n] for n in ("s", "v", "u", "residuals")}, "jvps": facts["jvps"]}
    basis = replace(BASIS, **fields, metadata=facts["metadata"])
    with pytest.raises(ValueError, match="save: basis must be one that can be loaded again"):
        basis.save(tmp_path / "b.safetensors")
    assert not os.listdir(tmp_path)


TEXTS = {
    "no JSON": ("{", "Expecting property name"),
    "empty": ("", "Expecting value"),
    "null": ("null", "facts must be a JSON object, got NoneType"),
    "list": ("[]", "facts must be a JSON object, got list"),
    "text": ('"x"', "facts must be a JSON object, got str"),
    "NaN": ('{"seconds": NaN}', "finite numbers, got nan at seconds"),
    "infinity": ('{"seconds": -Infinity}', "finite numbers, got -inf at seconds"),
    "large": ('{"seconds": 1e999}', "finite numbers, got inf at seconds"),
    "twice": ('{"jvps": 1, "jvps": 2}', "'jvps' twice"),
    "nested": ('{"metadata": ' + "[" * 50_000 + "]" * 50_000 + "}", "at most 64 deep"),
    "objects": ('{"a":' * 50_000 + "1" + "}" * 50_000, "at most 64 deep"),
    "half a pair": ('{"metadata": "\\ud800"}', "surrogates"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_facts_that_are_no_strict_json(tmp_path, name: str) -> None:
    text, message = TEXTS[name]
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(parts()[0], text))
    with pytest.raises(FileError, match=message):
        latentjac.LocalBasis.load(path)


@pytest.mark.parametrize("schema", ["-5", "0", "4", "99", "2.0", " 3", "3 ", "+3", "x", "", "³", "1" * 5000])
def test_schemas_that_are_not_known(tmp_path, schema: str) -> None:
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts), schema))
    with pytest.raises(FileError, match="schema must be one of"):
        latentjac.LocalBasis.load(path)
    if schema == "4":
        with pytest.raises(FileError, match="a newer latentjac wrote it"):
            latentjac.LocalBasis.load(path)


def test_older_schemas(tmp_path) -> None:
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    path.write_bytes(written(tensors, json.dumps(facts), "2"))
    assert same(latentjac.LocalBasis.load(path), BASIS)
    for name in [name for name in tensors if name.startswith("certificate.")]:
        del tensors[name]
    del facts["point_status"]
    path.write_bytes(written(tensors, json.dumps(facts), "1"))
    assert same(latentjac.LocalBasis.load(path), replace(BASIS, certificate=None, point_status=()))
    # Vectors of park2023 were not noted.
    tensors["u"][1] = tensors["u"][0]
    facts["metadata"]["method"] = "subspace"
    path.write_bytes(written(tensors, json.dumps(facts), "1"))
    assert latentjac.LocalBasis.load(path).k == 3
    path.write_bytes(written(tensors, json.dumps(facts), "1", sha256="0" * 64))
    with pytest.raises(FileError, match="metadata of schema 1 must be"):
        latentjac.LocalBasis.load(path)


def test_vectors_of_park2023_had_another_name(tmp_path) -> None:
    """As bases had it that were computed with compat="pullback"."""
    tensors, facts = parts()
    path = tmp_path / "b.safetensors"
    tensors["u"][1] = tensors["u"][0]
    for name in ("paper", "park2023"):
        facts["metadata"] |= {"vectors": name, "stop": name, "grid": "pullback"}
        path.write_bytes(written(tensors, json.dumps(facts)))
        assert latentjac.LocalBasis.load(path).metadata["grid"] == "pullback"
    facts["metadata"]["vectors"] = "ritz"
    path.write_bytes(written(tensors, json.dumps(facts)))
    with pytest.raises(FileError, match="rows of u must be orthonormal"):
        latentjac.LocalBasis.load(path)


def test_a_sum_finds_what_no_other_check_does(tmp_path) -> None:
    tensors, facts = parts()
    text = json.dumps(facts)
    whole = {"schema": "3", "latentjac": text, "sha256": digest(tensors, text)}
    tensors["v"].view(-1)[0] += 1e-9
    path = tmp_path / "b.safetensors"
    path.write_bytes(save(tensors, metadata=whole))
    with pytest.raises(FileError, match="SHA-256"):
        latentjac.LocalBasis.load(path)


# --- headers ------------------------------------------------------------------------------------------------------


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: object, data: bytes, *, text: bytes | None = None, length: int | None = None) -> bytes:
    text = json.dumps(header).encode() if text is None else text
    return struct.pack("<Q", len(text) if length is None else length) + text + data


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


# --- paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "pipe", "link to a pipe", "device"])
def test_paths_that_are_no_files(tmp_path, kind: str) -> None:
    path = tmp_path / "b.safetensors"
    if kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to("pipe")
    with pytest.raises(FileError, match="must be a file"):
        latentjac.LocalBasis.load(path)
    with pytest.raises(OSError, match=r"b\.safetensors"):
        BASIS.save(path)


def test_links_to_a_basis(tmp_path) -> None:
    BASIS.save(tmp_path / "b.safetensors")
    (tmp_path / "link.safetensors").symlink_to("b.safetensors")
    assert same(latentjac.LocalBasis.load(tmp_path / "link.safetensors"), BASIS)


@pytest.mark.parametrize("content", [b"notes", save({"weight": torch.ones(2)})])
def test_a_file_that_is_no_basis_is_not_replaced(tmp_path, content: bytes) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileExistsError, match="save: path must be new or that of a basis"):
        BASIS.save(path)
    assert path.read_bytes() == content


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


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    assert torch.equal(load_file(BASIS.save(tmp_path / "b.safetensors"))["v"], BASIS.v)
