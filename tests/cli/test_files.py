"""What commands do to files: of the user's, of older runs, and with names of every kind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cli.commands import run
from PIL import Image
from report.parsed import Page

pytest.importorskip("typer")

QUICK = ["--steps", 4, "--tol", 0.1]


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def test_a_folder_of_the_users_is_refused_at_once(photo, tiny_folder, tmp_path, monkeypatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    photo.rename(site / "reconstruction.png")
    (site / "index.html").write_text("my page")
    before = content(site)
    monkeypatch.chdir(site)
    done = run("invert", "reconstruction.png", "--model", tiny_folder, "--out", ".")
    assert done.returncode == 2
    assert "--out: expected" in done.stderr.splitlines()[-1]
    assert "loading the model" not in done.stderr
    assert content(site) == before


def test_an_edit_in_the_folder_of_another_run(photo, tiny_folder, tmp_path) -> None:
    out = tmp_path / "out"
    done = run("basis", photo, "--model", tiny_folder, "-k", 1, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    before = content(out)
    edit = ["edit", photo, "--model", tiny_folder, "--distance", "1", "--edit-steps", 1, "--out", out]
    done = run(*edit, "--basis", out / "basis.safetensors")
    assert done.returncode == 2
    assert "--out: expected a folder without the files that the run reads" in done.stderr
    assert "which holds basis" in done.stderr
    assert content(out) == before
    other = tmp_path / "basis.safetensors"
    other.write_bytes(before["basis.safetensors"])
    done = run(*edit, "--basis", other)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"direction1_+1.png", "sheet.png", "index.html", "run.json"}


def test_a_photo_whose_name_is_not_utf8(photo, tiny_folder, tmp_path) -> None:
    name, out = os.fsdecode(b"caf\xe9.png"), tmp_path / os.fsdecode(b"out-\xe9")
    photo = photo.rename(photo.with_name(name))
    done = run("basis", photo, "--model", tiny_folder, "-k", 1, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_bytes().decode(), parse_constant=refuse)
    assert record["photo"]["file"].endswith("caf\\udce9.png")
    assert "caf\\udce9.png" in Page((out / "index.html").read_bytes().decode()).text
