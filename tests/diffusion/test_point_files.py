"""Points and trajectories in files: what comes back, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import rand
from safetensors.torch import save_file

import latentjac
from latentjac import Conditioning
from latentjac.models import ClassifierFree
from latentjac.papers import park2023
from latentjac.strict_json import from_json, to_json
from latentjac.tensor_files import digest, read_header, read_tensors


@pytest.fixture
def point(tiny_point) -> latentjac.Point:
    guidance = ClassifierFree(Conditioning({"text": rand(1, 2)}), 3.0)
    return replace(tiny_point, conditioning=Conditioning({"text": rand(1, 2, seed=4)}, guidance))


def same(a: latentjac.Point, b: latentjac.Point) -> bool:
    return torch.equal(a.sample, b.sample) and (a.level, a.schedule, a.conditioning) == (
        b.level, b.schedule, b.conditioning
    )  # fmt: skip


def test_a_point_comes_back(point, tmp_path: Path) -> None:
    path = point.save(tmp_path / "p.safetensors")
    assert same(latentjac.Point.load(path), point)
    assert point.save(path) == path  # over a point
    half = point.to(dtype=torch.float16)
    assert same(latentjac.Point.load(half.save(path)), half)


def test_a_trajectory_comes_back(tiny_model, tmp_path: Path) -> None:
    for invert in (latentjac.invert, park2023.invert):
        path = invert(tiny_model, torch.rand(2, 3, 16, 16), 5)
        found = latentjac.Trajectory.load(path.save(tmp_path / "t.safetensors"))
        assert torch.equal(found.samples, path.samples)
        assert torch.equal(found.reconstruction, path.reconstruction)
        assert (found.schedule, found.psnr, found.evaluations) == (path.schedule, path.psnr, path.evaluations)
        assert same(found.at(0.6), path.at(0.6))
        again = latentjac.sample(tiny_model, found.at(0.6), output_type="latent")
        assert torch.equal(again, latentjac.sample(tiny_model, path.at(0.6), output_type="latent"))


def test_files_of_other_things_are_named(tiny_model, tiny_point, tmp_path: Path) -> None:
    point = tiny_point.save(tmp_path / "point.safetensors")
    basis = latentjac.local_basis(tiny_model, tiny_point, 1, tol=0.1).save(tmp_path / "basis.safetensors")
    old = tmp_path / "trajectory.safetensors"
    save_file({"samples": rand(5, 3, 16, 16)}, old)  # as run folders had it
    for path in (point, basis, old):
        with pytest.raises(
            latentjac.FileError, match=r"load: path must be a trajectory saved by latentjac, got .*meta"
        ):
            latentjac.Trajectory.load(path)
    with pytest.raises(FileExistsError, match=r"save: path must be new or that of a point, got .*basis"):
        tiny_point.save(basis)
    with pytest.raises(ValueError, match=r"save: path must end in .safetensors"):
        tiny_point.save(tmp_path / "point.pt")
    with pytest.raises(FileNotFoundError):
        latentjac.Point.load(tmp_path / "none.safetensors")


def rewritten(path: Path, change, tensors=None) -> Path:
    """The file with other facts or tensors, and a sum that fits."""
    header = read_header("test", path)
    held = dict(read_tensors("test", path, "any", lambda header: None))
    facts = from_json(header.metadata["latentjac-point"].encode())
    change(facts)
    held.update(tensors or {})
    text = to_json(facts)
    metadata = {"schema": header.metadata["schema"], "latentjac-point": text, "sha256": digest(held, text)}
    save_file(held, path, metadata)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(level=99), "level must be at most 10, got 99"),
        (lambda f: f.update(level=True), "level must be an int, got bool"),
        (lambda f: f.pop("level"), "facts must be"),
        (lambda f: f.update(more=1), "facts must be"),
        (lambda f: f.update(schedule=[]), "values must be a mapping"),
        (lambda f: f["schedule"].pop("noises"), "values must be a mapping of"),
        (lambda f: f["schedule"].update(signals=[1.0]), "must hold 2 or more numbers each, as many"),
        (lambda f: f["schedule"].update(noises=[0, *[-1] * 10]), r"noises must be numbers in \[0, 1e\+06\], got -1"),
        (lambda f: f["schedule"]["timesteps"].reverse(), "timesteps must be ascending"),
        (lambda f: f["schedule"].update(num_train_timesteps=10**9), "num_train_timesteps must be at most 100000"),
    ],
)
def test_facts_that_cannot_be(tiny_point, tmp_path: Path, change, message: str) -> None:
    path = rewritten(tiny_point.save(tmp_path / "p.safetensors"), change)
    with pytest.raises(latentjac.FileError, match=f"load: path must be a point saved by latentjac, got .*{message}"):
        latentjac.Point.load(path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"sample": rand(1, 3, 16, 16) * float("nan")}, "sample must be finite, got NaN"),
        ({"sample": torch.ones(1, 3, 16, 16, dtype=torch.int64)}, "sample must be a floating-point batch"),
        ({"other": rand(2)}, "tensors must be .*'sample'"),
        ({"conditioning.a b": rand(1, 2)}, "named by identifiers"),
        ({"conditioning.text": rand(7, 2)}, "conditioning must have 1 row"),
        ({"conditioning.guidance.scale": rand(1)}, "tensors must be there with guidance"),
    ],
)
def test_tensors_that_cannot_be(tiny_point, tmp_path: Path, tensors, message: str) -> None:
    path = rewritten(tiny_point.save(tmp_path / "p.safetensors"), lambda facts: None, tensors)
    with pytest.raises(latentjac.FileError, match=f"load: path must be a point saved by latentjac, got .*{message}"):
        latentjac.Point.load(path)


def test_damage_is_noticed(tiny_point, tmp_path: Path) -> None:
    path = tiny_point.save(tmp_path / "p.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(latentjac.FileError, match="the file is damaged"):
        latentjac.Point.load(path)
