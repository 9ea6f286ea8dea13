"""Files of bases: what is saved is loaded, and nothing else is written over."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from solvers.saved_bases import BASIS, BATCH, same

import latentjac
from latentjac.files import FileError
from latentjac.solvers import Randomized, Subspace

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


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


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    assert torch.equal(load_file(BASIS.save(tmp_path / "b.safetensors"))["v"], BASIS.v)
