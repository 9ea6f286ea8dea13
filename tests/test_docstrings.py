"""Every name of the top level has an example in its docstring, and the reference in docs/ has every public name."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import api
import numpy as np
import pytest
import torch
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> dict[str, object]:
    """What examples take for known; the model is tiny, and the photo is in the folder."""
    folder = tmp_path_factory.mktemp("examples")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "photo.jpg")
    model = latentjac.load(build_shallow_unet(), build_scheduler())
    path = latentjac.invert(model, folder / "photo.jpg", num_inference_steps=12, t=0.7)
    point = path.at(t=0.7)
    basis = latentjac.local_basis(model, point, k=2, tol=0.1)
    return {
        "folder": folder,
        **{"latentjac": latentjac, "torch": torch, "model": model, "path": path, "point": point, "basis": basis},
    }


@pytest.mark.filterwarnings("ignore:invert")
@pytest.mark.parametrize("name", latentjac.__all__)
def test_example_of_a_top_level_name_runs(name: str, known: dict[str, object], monkeypatch) -> None:
    monkeypatch.chdir(known["folder"])
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(latentjac, name), name, module=False, globs=known)
    assert example.examples, f"{name}: no example"
    assert any(f"latentjac.{name}" in step.source or step.want for step in example.examples)
    said: list[str] = []
    doctest.DocTestRunner().run(example, out=said.append)
    assert not said, "".join(said)


def test_reference_has_every_public_name() -> None:
    """Those of the top level one by one; modules are documented whole, by their ``__all__``."""
    text = "".join(page.read_text() for page in REFERENCE.glob("*.md"))
    for name in latentjac.__all__:
        assert re.search(rf"^\.\. auto\w+:: latentjac\.{name}$", text, re.MULTILINE), name
    for home in api.HOMES[1:]:
        names = api.NAMES.get(home) or importlib.import_module(home).__all__
        assert f".. automodule:: {home}\n" in text or all(
            name in latentjac.__all__ or f":: {home}.{name}\n" in text for name in names
        ), home
