"""Every wrong input names the argument, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import build_scheduler, build_tiny_unet
from PIL import Image

import latentjac as lj
from latentjac import editing
from latentjac.diffusion import DDIM, Implicit, Rho, Schedule
from latentjac.papers import park2023
from latentjac.solvers import Krylov, Randomized, Subspace

X = torch.randn(1, 4, dtype=torch.float64)
LIN = lj.linearize(lambda x: x**2, X)
NAN = torch.full((1, 4), float("nan"))


class Context(SimpleNamespace):
    """What the rows of the table need."""

    model: lj.Model
    point: lj.Point
    v: torch.Tensor
    folder: Path


def point(c: Context, **changes: object) -> lj.Point:
    return replace(c.point, **changes)


def linear_edit(c: Context) -> lj.Edit:
    return lj.edit(c.model, c.point, c.v, 1.0, method=editing.Linear(num_steps=1))


def read(c: Context, solver: dict[str, object]) -> dict[str, object]:
    """A schedule as a file has it, with another solver."""
    return {**c.point.schedule.to_dict(), "solver": solver}


def of_park2023(c: Context) -> lj.Point:
    return park2023.invert(c.model, c.picture, 5).at(0.6)


Row = tuple[str, Callable[[Context], object], type[Exception], str]
TABLE: list[Row] = [
    # linearize
    ("f", lambda c: lj.linearize("f", X), TypeError, "f must be callable, got str"),
    ("x type", lambda c: lj.linearize(abs, [1.0]), TypeError, "x must be a torch.Tensor, got list"),
    ("x dtype", lambda c: lj.linearize(abs, torch.ones(2, dtype=torch.int64)), ValueError, "floating-point.*int64"),
    ("x empty", lambda c: lj.linearize(abs, torch.ones(0, 3)), ValueError, r"non-empty.*got shape \[0, 3\]"),
    ("x scalar", lambda c: lj.linearize(abs, torch.tensor(1.0)), ValueError, r"batch in dimension 0, got shape \[\]"),
    ("x nan", lambda c: lj.linearize(abs, NAN), ValueError, r"x must be finite, got 4 NaN and 0 Inf.*\[0, 0\]"),
    ("f dict", lambda c: lj.linearize(lambda x: {"y": x}, X), TypeError, "f must return one .*Tensor, got dict"),
    (
        "f int",
        lambda c: lj.linearize(lambda x: x.argmax(-1), X),
        TypeError,
        "must return one .*got dtype torch.int64",
    ),
    (
        "constant",
        lambda c: lj.linearize(torch.mul, X, X.clone().requires_grad_()),
        RuntimeError,
        r"constants\[0\] must be",
    ),
    ("backend", lambda c: lj.linearize(abs, X, backend="magic"), ValueError, "backend must be one of .*got 'magic'"),
    ("chunk_size", lambda c: lj.linearize(abs, X, chunk_size=0), ValueError, "chunk_size must be .*got 0"),
    (
        "f tuple",
        lambda c: lj.linearize(lambda x: (x, 1), X),
        TypeError,
        "f must return one .*Tensor, got tuple",
    ),
    ("f batch", lambda c: lj.linearize(lambda x: x.sum(), X), ValueError, r"batch of 1 points.*got shape \[\]"),
    ("f nan", lambda c: lj.linearize(lambda x: x / (x - x), X), lj.NonFiniteError, "f must be finite.*first made by"),
    ("graphs", lambda c: lj.linearize(abs, X, cuda_graphs=1), TypeError, "cuda_graphs must be one of .*auto.*got int"),
    ("graphs cpu", lambda c: lj.linearize(abs, X, cuda_graphs=True), ValueError, "'auto' or False for x on cpu, got"),
    (
        "graphs autodiff",
        lambda c: lj.linearize(abs, X, backend="autodiff", cuda_graphs=True),
        ValueError,
        "cuda_graphs must be 'auto' or False.*got True",
    ),
    ("precision", lambda c: lj.linearize(abs, X, precision="mixed"), ValueError, "precision must be None or.*'mixed'"),
    ("precision x", lambda c: lj.linearize(abs, X, precision="bf16"), ValueError, "None for x of torch.float64.*bf16"),
    (
        "precision autodiff",
        lambda c: lj.linearize(abs, X.float(), backend="autodiff", precision="bf16"),
        ValueError,
        "'fp32' or 'tf32' with torch.func, got 'bf16'",
    ),
    ("prepare", lambda c: LIN.prepare(0), ValueError, "prepare: probes must be at least 1, got 0"),
    ("jvp type", lambda c: LIN.jvp("v"), TypeError, "v must be a torch.Tensor, got str"),
    ("jvp shape", lambda c: LIN.jvp(X), ValueError, r"v must have shape \[k >= 1, 1, 4\], got \[1, 4\]"),
    ("jvp none", lambda c: LIN.jvp(X[None][:0]), ValueError, r"k >= 1.*got \[0, 1, 4\]"),
    ("jvp dtype", lambda c: LIN.jvp(X[None].float()), ValueError, "v must have dtype torch.float64, got torch.float32"),
    ("jvp device", lambda c: LIN.jvp(X[None].to("meta")), ValueError, "v must be on cpu, got meta"),
    ("vjp shape", lambda c: LIN.vjp(torch.ones(2, 1, 5, dtype=X.dtype)), ValueError, "u must have shape"),
    ("rebase", lambda c: LIN.rebase(X.float()), ValueError, "x must be .*float64, got .*float32"),
    ("rebase n", lambda c: LIN.rebase(X, X), ValueError, "constants must be 0 values or none, got 1"),
    ("scipy", lambda c: lj.linearize(abs, X.repeat(2, 1)).to_scipy(), ValueError, "one base point.*got 2"),
    # svd
    ("operator", lambda c: lj.svd("J"), TypeError, "operator must have x, y, jvp and vjp, got str"),
    ("k type", lambda c: lj.svd(LIN, k=2.0), TypeError, "k must be an int, got float"),
    ("k range", lambda c: lj.svd(LIN, k=5000), ValueError, r"k must be in \[1, min\(n, m\)\] = \[1, 4\], got 5000"),
    ("k zero", lambda c: lj.svd(LIN, k=0), ValueError, "k must be at least 1, got 0"),
    ("tol", lambda c: lj.svd(LIN, k=1, tol=0), ValueError, r"tol must be a number in \(0, 1\), got 0"),
    ("tol type", lambda c: lj.svd(LIN, k=1, tol="tight"), TypeError, "tol must be a number, got str"),
    ("max_passes", lambda c: lj.svd(LIN, k=1, max_passes=1), ValueError, "max_passes must be at least 2, got 1"),
    ("block_size", lambda c: Krylov(block_size=0), ValueError, "^Krylov: block_size must be at least 1, got 0"),
    ("generator", lambda c: lj.svd(LIN, k=1, generator=0), TypeError, "generator must be a torch.Generator.*got int"),
    ("callback", lambda c: lj.svd(LIN, k=1, callback=1), TypeError, "callback must be callable or None, got int"),
    ("warm", lambda c: lj.svd(LIN, k=1, warm_start=3), TypeError, "warm_start must be .*got int"),
    ("warm shape", lambda c: lj.svd(LIN, k=1, warm_start=torch.ones(1, 9)), ValueError, r"warm_start.*got \[1, 9\]"),
    ("k points", lambda c: lj.svd(lj.linearize(abs, X.repeat(2, 1)), k=5), ValueError, r"= \[1, 4\], got 5"),
    ("solver", lambda c: lj.svd(LIN, k=1, solver="qr"), TypeError, "solver must be a Krylov, .*got str"),
    ("solver class", lambda c: lj.svd(LIN, k=1, solver=Krylov), TypeError, "solver must be a Krylov, .*got type"),
    (
        "block_size word",
        lambda c: Krylov("timed"),
        ValueError,
        "block_size must be an int, 'measured' or None, got 'timed'",
    ),
    ("block_size type", lambda c: Krylov(2.0), TypeError, "block_size must be an int, 'measured' or None, got float"),
    ("stop", lambda c: Subspace(stop="soon"), ValueError, "^Subspace: stop must be one of .*got 'soon'"),
    (
        "max_seconds",
        lambda c: lj.svd(LIN, k=1, max_seconds=0),
        ValueError,
        r"max_seconds must be .* in \(0, inf\), got 0",
    ),
    ("oversampling", lambda c: Randomized(-1), ValueError, "^Randomized: oversampling must be at least 0, got -1"),
    ("power_steps", lambda c: Randomized(power_steps=1.5), TypeError, "power_steps must be an int, got float"),
    ("many power_steps", lambda c: Randomized(1, 1001), ValueError, "power_steps must be at most 1000, got 1001"),
    ("confirm", lambda c: Krylov(confirm=-1), ValueError, "confirm must be at least 0, got -1"),
    ("refine type", lambda c: lj.svd(LIN, k=1, refine_with="J"), TypeError, "refine_with must have x, y.*got str"),
    (
        "refine shape",
        lambda c: lj.svd(LIN, k=1, refine_with=lj.linearize(abs, X[:, :3])),
        ValueError,
        r"refine_with must have the shapes.*\[1, 4\].*got .*\[1, 3\]",
    ),
    ("save name", lambda c: lj.svd(LIN, k=1).save("b.pt"), ValueError, "path must end in .safetensors, got 'b.pt'"),
    ("save type", lambda c: lj.svd(LIN, k=1).save(3), TypeError, "path must be a str or Path, got int"),
    ("save dir", lambda c: lj.svd(LIN, k=1).save("/no/b.safetensors"), FileNotFoundError, "existing folder"),
    ("load none", lambda c: lj.LocalBasis.load("no.safetensors"), FileNotFoundError, "existing file, got 'no.s"),
    ("load junk", lambda c: lj.LocalBasis.load(c.junk), lj.FileError, "must be a basis saved by latentjac"),
    # load
    ("source", lambda c: lj.load(3), TypeError, "source must be a built-in name.*got int"),
    (
        "name",
        lambda c: lj.load("nobody"),
        lj.LoadError,
        r"built-in name \['avatars', 'avatars-flow', 'avatars-text', 'faces'\].*got 'nobody'",
    ),
    ("empty folder", lambda c: lj.load(c.folder), lj.LoadError, "model_index.json"),
    ("scheduler", lambda c: lj.load(build_tiny_unet()), TypeError, "scheduler must be given with a network, got None"),
    ("config", lambda c: lj.load("faces", config="a"), TypeError, "config must be None unless source is a single file"),
    ("pickled", lambda c: lj.load("a.ckpt"), lj.LoadError, "must be a safetensors file, got 'a.ckpt': pickled weights"),
    ("two", lambda c: lj.load("faces", build_scheduler()), TypeError, "scheduler must be None unless.*got DDIMSch"),
    ("dtype", lambda c: lj.load("faces", dtype="float32"), TypeError, "dtype must be a floating torch.dtype, got 'fl"),
    ("int", lambda c: lj.load("faces", dtype=torch.int8), TypeError, "floating torch.dtype, got torch.int8"),
    ("device", lambda c: lj.load("faces", device="tpu9"), ValueError, "device must be a torch device.*got 'tpu9'"),
    ("net", lambda c: lj.load(torch.nn.Linear(2, 2), build_scheduler()), lj.LoadError, "config with .*got Linear"),
    ("alphas", lambda c: lj.load(build_tiny_unet(), c.no_alphas), lj.LoadError, "alphas_cumprod.*got SimpleNamespace"),
    # pictures
    (
        "image type",
        lambda c: lj.invert(c.model, 3),
        TypeError,
        "invert: image must be a path, PIL image, array or tensor, got int",
    ),
    (
        "no file",
        lambda c: lj.invert(c.model, "no.jpg"),
        FileNotFoundError,
        "image must be a picture file, got 'no.jpg'",
    ),
    ("no image", lambda c: lj.invert(c.model, c.junk), ValueError, "image must be a picture file, got"),
    ("none", lambda c: lj.invert(c.model, []), ValueError, "at least one picture, got an empty list"),
    ("array", lambda c: lj.invert(c.model, np.zeros((4, 4))), ValueError, r"uint8 array \[H, W, 3\], got float64"),
    ("size", lambda c: lj.invert(c.model, torch.zeros(3, 9, 9)), ValueError, r"\[B, 3, 16, 16\], got .*\[3, 9, 9\]"),
    ("range", lambda c: lj.invert(c.model, 2 * torch.ones(3, 16, 16)), ValueError, r"in \[0, 1\], got \[2, 2\]"),
    ("crop", lambda c: lj.prepare_image(c.picture, 8, (1, 2)), ValueError, r"four ints .*got \(1, 2\)"),
    ("box", lambda c: lj.prepare_image(c.picture, 8, (0, 0, 99, 9)), ValueError, "inside 16x16, got"),
    ("kind", lambda c: lj.prepare_image(5, 8), TypeError, "image must be a PIL image or a path, got int"),
    # inversion, points, sampling
    (
        "steps",
        lambda c: lj.invert(c.model, c.picture, 0),
        ValueError,
        r"^invert: num_inference_steps must be in \[1, T\] = \[1, 1000\], got 0",
    ),
    (
        "steps type",
        lambda c: lj.invert(c.model, c.picture, 9.5),
        TypeError,
        "^invert: num_inference_steps must be an int, got float",
    ),
    ("refinement", lambda c: DDIM(-1), ValueError, "^DDIM: refinement must be at least 0, got -1"),
    ("refinement type", lambda c: DDIM(None), TypeError, "^DDIM: refinement must be an int, got NoneType"),
    ("implicit tol", lambda c: Implicit(0), ValueError, r"^Implicit: tol must be a number in \(0, 1\), got 0"),
    ("implicit most", lambda c: Implicit(most=0), ValueError, "^Implicit: most must be at least 1, got 0"),
    ("rho", lambda c: Rho(0.5), ValueError, r"^Rho: rho must be a number in \[1, 1000.0\], got 0.5"),
    (
        "grid",
        lambda c: lj.invert(c.model, c.picture, 2, grid="rho"),
        TypeError,
        "^invert: grid must be an Own, .*got str",
    ),
    (
        "invert solver",
        lambda c: lj.invert(c.model, c.picture, 2, solver=DDIM),
        TypeError,
        "^invert: solver must be a .*got type",
    ),
    ("t up", lambda c: lj.invert(c.model, c.picture, 2, t=0), ValueError, r"^invert: t must be .* \(0, 1\], got 0"),
    ("photo", lambda c: lj.edit(c.model, c.point, c.v, photo=3), TypeError, "^edit: photo must be a path, .*got int"),
    (
        "photos",
        lambda c: lj.edit(c.model, c.point, c.v, photo=[c.picture] * 2),
        ValueError,
        "^edit: photo must be one picture, got 2",
    ),
    ("solver read", lambda c: Schedule.from_dict(read(c, {"name": "RK4"})), TypeError, "solver must be a mapping with"),
    ("solver option", lambda c: Schedule.from_dict(read(c, {"name": "DDIM"})), TypeError, r"solver must hold \['name'"),
    (
        "prompt",
        lambda c: lj.invert(c.model, c.picture, 2, "a cat"),
        ValueError,
        "^invert: prompt must be left at None since.*got 'a cat'",
    ),
    ("t", lambda c: c.path.at(600), ValueError, r"^at: t must be a number in \[0, 1\], got 600"),
    ("t type", lambda c: c.path.at("0.6"), TypeError, "^at: t must be a number, got str"),
    (
        "t twice",
        lambda c: c.path.at(0.6, timestep=600),
        TypeError,
        "^at: t .* or timestep must be given, exactly one.*got both",
    ),
    ("timestep", lambda c: c.path.at(timestep=0.6), TypeError, "^at: timestep must be an int, got float"),
    ("too noisy", lambda c: c.path.at(timestep=1000), ValueError, "^at: timestep must be at most 999, got 1000"),
    ("output", lambda c: lj.sample(c.model, output_type="jpg"), ValueError, "output_type must be one of .*'jpg'"),
    ("num_images", lambda c: lj.sample(c.model, num_images=0), ValueError, "num_images must be at least 1, got 0"),
    ("num type", lambda c: lj.sample(c.model, num_images="2"), TypeError, "num_images must be an int, got str"),
    ("seed", lambda c: lj.sample(c.model, generator=3), TypeError, "torch.Generator or None, got int"),
    (
        "images of a point",
        lambda c: lj.sample(c.model, c.point, num_images=2),
        ValueError,
        "num_images must be left at 1 with a point, got 2",
    ),
    (
        "steps of a point",
        lambda c: lj.sample(c.model, c.point, num_inference_steps=10),
        ValueError,
        "num_inference_steps must be left at 50 with a point, got 10",
    ),
    ("point", lambda c: lj.sample(c.model, X), TypeError, "point must be a latentjac.Point.*got Tensor"),
    # basis and edits
    ("model", lambda c: lj.local_basis("faces", c.point), TypeError, "model must be a latentjac.Model.*got str"),
    (
        "level",
        lambda c: point(c, level=11),
        ValueError,
        "^Point: level must be at most 10, got 11",
    ),
    (
        "levels of another",
        lambda c: lj.local_basis(c.model, point(c, schedule=Schedule((1, 0.5), (0, 0.5), (0, 599)), level=1)),
        ValueError,
        "^local_basis: point.schedule must have signal and noise .* at timestep 599 as the model has, got 0.500000",
    ),
    (
        "conditioning",
        lambda c: point(c, conditioning=()),
        TypeError,
        "^Point: conditioning must be a latentjac.Conditioning",
    ),
    ("layer", lambda c: lj.local_basis(c.model, c.point, layer="midd"), ValueError, "got 'midd'; nearest: .*mid"),
    (
        "layer type",
        lambda c: lj.local_basis(c.model, c.point, layer=4),
        TypeError,
        "^local_basis: layer must be a module name.*got int",
    ),
    ("shape", lambda c: lj.local_basis(c.model, point(c, sample=X)), ValueError, r"point.sample.*got \[1, 4\]"),
    ("path", lambda c: lj.basis_path(c.model, c.point, [599]), TypeError, "trajectory must be .*Trajectory.*got Point"),
    ("no steps", lambda c: lj.basis_path(c.model, c.path, []), ValueError, "timesteps must be .*got none"),
    ("step kind", lambda c: lj.basis_path(c.model, c.path, ["a"]), TypeError, "timesteps must hold .*got str"),
    ("float", lambda c: lj.edit(c.model, c.single, c.v), ValueError, "must be torch.float64.*got torch.float32"),
    ("v type", lambda c: lj.edit(c.model, c.point, [1.0]), TypeError, "directions must be a torch.Tensor, got list"),
    ("v shape", lambda c: lj.edit(c.model, c.point, X), ValueError, r"\[3, 16, 16\] or \[q, 3, 16, 16\], got \[1, 4\]"),
    ("v zero", lambda c: lj.edit(c.model, c.point, 0 * c.v), ValueError, "must not be zero, got zero at index 0"),
    ("v nan", lambda c: lj.edit(c.model, c.point, c.v / 0), ValueError, "directions must be finite, got NaN or Inf"),
    ("distance", lambda c: lj.edit(c.model, c.point, c.v, "far"), TypeError, "distance must be a number, got str"),
    (
        "far",
        lambda c: lj.edit(c.model, c.point, c.v, float("inf")),
        ValueError,
        r"distance must be a number in \(-10000.0, 10000.0\), got inf",
    ),
    (
        "nowhere",
        lambda c: lj.edit(c.model, c.point, c.v, []),
        ValueError,
        "distance must be a non-empty sequence of numbers, got none",
    ),
    ("far with", lambda c: lj.edit(c.model, c.point, c.v, 1.0, 16), TypeError, "takes from 3 to 4 positional"),
    ("way", lambda c: lj.edit(c.model, c.point, c.v, method="linear"), TypeError, "method must be a method.*got str"),
    (
        "way class",
        lambda c: lj.edit(c.model, c.point, c.v, method=editing.Linear),
        TypeError,
        "method must be a method.*got the class Linear",
    ),
    ("compose", lambda c: lj.edit(c.model, c.point, c.v, compose=1), TypeError, "compose must be a bool, got int"),
    (
        "composed",
        lambda c: lj.edit(c.model, c.point, c.v, [1.0, 2.0], compose=True),
        ValueError,
        "one number for each of 1 directions with compose=True, got 2",
    ),
    (
        "rank of",
        lambda c: lj.edit(c.model, c.point, c.v, mask=editing.Mask(c.mask, null_rank=10**6)),
        ValueError,
        r"edit: mask.null_rank must be at most the \d+ values outside the mask, got 1000000",
    ),
    (
        "h shape",
        lambda c: lj.edit(c.model, c.point, c.v, method=editing.HSpace()),
        ValueError,
        r"directions must have shape \[16, 4, 4\] or .*got \[3, 16, 16\]",
    ),
    (
        "frames of",
        lambda c: lj.editing.walk_frames(c.model, c.point, c.v),
        TypeError,
        "edit must be a latentjac.Edit, got Tensor",
    ),
    (
        "frames at",
        lambda c: lj.editing.walk_frames(c.model, c.point, linear_edit(c), direction=1),
        ValueError,
        r"direction must be in \[0, 1\), got 1",
    ),
    (
        "frames",
        lambda c: lj.editing.walk_frames(c.model, c.point, linear_edit(c), count=1),
        ValueError,
        "at least 2, got 1",
    ),
    (
        "frames type",
        lambda c: lj.editing.walk_frames(c.model, c.point, linear_edit(c), count=2.0),
        TypeError,
        "count must be an int, got float",
    ),
    (
        "frames unmoved",
        lambda c: lj.editing.walk_frames(c.model, c.point, linear_edit(c), unmoved=c.v),
        ValueError,
        r"unmoved must have shape \[1, 3, 16, 16\] as the sample of the point, got \[",
    ),
    # papers
    (
        "park2023 steps",
        lambda c: park2023.invert(c.model, c.picture, 2),
        ValueError,
        r"^park2023.invert: num_inference_steps must be in \[3, T\].*got 2",
    ),
    (
        "park2023 levels",
        lambda c: park2023.schedule("ddim", 5),
        TypeError,
        "^park2023.schedule: scheduler must .*got str",
    ),
    (
        "park2023 image",
        lambda c: park2023.invert(c.model, "missing.png", 5),
        FileNotFoundError,
        "^park2023.invert: image must .*'missing.png'",
    ),
    (
        "park2023 prompt",
        lambda c: park2023.invert(c.model, c.picture, 5, "a cat"),
        ValueError,
        "^park2023.invert: prompt must .*got 'a cat'",
    ),
    (
        "park2023 model",
        lambda c: park2023.local_basis(None, c.point),
        TypeError,
        "^park2023.local_basis: model must be .*got NoneType",
    ),
    (
        "park2023 k",
        lambda c: park2023.local_basis(c.model, of_park2023(c), 0),
        ValueError,
        "^park2023.local_basis: k must be at least 1, got 0",
    ),
    (
        "park2023 layer",
        lambda c: park2023.local_basis(c.model, of_park2023(c), layer="nope"),
        ValueError,
        "^park2023.local_basis: layer must be .*got 'nope'",
    ),
    (
        "park2023 basis elsewhere",
        lambda c: park2023.local_basis(c.model, c.point),
        ValueError,
        r"^park2023.local_basis: point must come from park2023.invert\(...\), got one of other levels",
    ),
    (
        "park2023 mask",
        lambda c: lj.edit(c.model, of_park2023(c), c.v, mask=c.mask, method=park2023.Walk()),
        ValueError,
        r"^edit: mask must be left out with method=Walk\(...\)",
    ),
    (
        "park2023 distance",
        lambda c: lj.edit(c.model, of_park2023(c), c.v, [1.0], method=park2023.Walk()),
        ValueError,
        r"^edit: distance must be left out with method=Walk\(...\), which has its own, got \(1.0,\)",
    ),
    (
        "park2023 composed",
        lambda c: lj.edit(c.model, of_park2023(c), c.v, compose=True, method=park2023.Walk()),
        ValueError,
        r"^edit: compose must be left out with method=Walk\(...\), which has its own, got True",
    ),
    (
        "park2023 edit elsewhere",
        lambda c: lj.edit(c.model, c.point, c.v, method=park2023.Walk()),
        ValueError,
        r"^edit: point must come from park2023.invert\(...\), got one of other levels",
    ),
    (
        "park2023 frames",
        lambda c: lj.editing.walk_frames(
            c.model, of_park2023(c), lj.edit(c.model, of_park2023(c), c.v, method=park2023.Walk(num_steps=1))
        ),
        ValueError,
        r"^walk_frames: edit must keep its way, got one with method=Walk\(...\)",
    ),
    ("vectors", lambda c: Subspace(vectors="best"), ValueError, "^Subspace: vectors must be one of .*got 'best'"),
    (
        "warm shape of a layer",
        lambda c: lj.local_basis(c.model, c.point, 2, warm_start=torch.ones(1, 9)),
        ValueError,
        r"^local_basis: warm_start must have shape \[q, .*got \[1, 9\]",
    ),
    ("mask type", lambda c: lj.edit(c.model, c.point, c.v, mask="m.png"), TypeError, "mask must be a bool .*got str"),
    (
        "mask shape",
        lambda c: lj.editing.masked_basis(c.model, c.point, c.mask[:8]),
        ValueError,
        r"mask must be bool \[16, 16\], got torch.bool \[8, 16\]",
    ),
    (
        "mask dtype",
        lambda c: lj.editing.masked_basis(c.model, c.point, c.mask.float()),
        ValueError,
        r"mask must be bool.*got torch.float32",
    ),
    (
        "mask none",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask & False),
        ValueError,
        "mark a part.*got none of it",
    ),
    (
        "mask all",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask | True),
        ValueError,
        "mark a part.*got all of it",
    ),
    (
        "mask k",
        lambda c: lj.editing.masked_basis(c.model, c.point, c.mask, 49),
        ValueError,
        "k must be at most the 48 values inside the mask, got 49",
    ),
    (
        "mask layer",
        lambda c: lj.editing.masked_basis(c.model, c.point, c.mask, layer="mid"),
        ValueError,
        r"layer must be one of \['x0', 'eps'\], got 'mid'",
    ),
    (
        "mask points",
        lambda c: lj.editing.masked_basis(c.model, c.many, [c.mask] * 3),
        ValueError,
        r"mask must be one for all or 2 \(as many as samples\), got 3",
    ),
    (
        "null both",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask, 2, 0.5),
        TypeError,
        "^null_space: rank or energy must be given.*got both",
    ),
    (
        "null rank",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask, 0),
        ValueError,
        "rank must be at least 1, got 0",
    ),
    (
        "rank type",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask, 0.5),
        TypeError,
        "rank must be an int or None",
    ),
    (
        "null energy",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask, energy=1.5),
        ValueError,
        r"energy must be a number in \(0, 1\), got 1.5",
    ),
    (
        "energy type",
        lambda c: lj.editing.null_space(c.model, c.point, c.mask, energy="half"),
        TypeError,
        "energy must be a number or None, got str",
    ),
]


@pytest.fixture
def context(tiny_model, tiny_point, tmp_path) -> Context:
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"\x80\x04not a tensor file" * 9)
    empty = tmp_path / "empty"
    empty.mkdir()
    picture = Image.new("RGB", (16, 16), "orange")
    return Context(
        model=tiny_model,
        point=tiny_point,
        many=replace(tiny_point, sample=tiny_point.sample.repeat(2, 1, 1, 1)),
        single=tiny_point.to(dtype=torch.float32),
        path=lj.invert(tiny_model, picture, 2),
        v=torch.ones(3, 16, 16, dtype=torch.float64),
        mask=torch.eye(16, dtype=torch.bool),
        junk=junk,
        folder=empty,
        picture=picture,
        no_alphas=SimpleNamespace(config={}),
    )


@pytest.mark.parametrize(("call", "error", "message"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_refusal(context: Context, call: Callable, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call(context)
    assert type(caught.value) is error
    assert re.search(message, str(caught.value)), str(caught.value)


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) >= 40
    assert len({row[0] for row in TABLE}) == len(TABLE)


def test_nothing_was_written(context: Context, monkeypatch, tmp_path) -> None:
    """A refused save leaves no file behind."""
    monkeypatch.chdir(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    for name in ("basis.pt", "missing/basis.safetensors"):
        with pytest.raises((ValueError, FileNotFoundError)):
            lj.svd(LIN, k=1).save(name)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
