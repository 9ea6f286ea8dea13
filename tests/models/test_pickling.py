"""Models go to other processes, as the workers of a DataLoader and Ray need it, with all that encodes their prompts."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import SMALL
from video_pipelines import build_wan

import latentjac
from latentjac.models import adapters
from latentjac.models.pipeline_text import PipelineText

# One whose weights are computed of others, and those whose processor is a stand-in that pickle does not find.
COPIED = {"stable-audio", "kandinsky-5-edit", "qwen-image-edit", "qwen-image-edit-plus"}
_OTHER = """
import pickle, sys, torch
torch.set_num_threads(1)
model = pickle.load(open(sys.argv[1], "rb"))
print(model.identity(), float(model.conditioning("a red cat")["text"].double().norm()))
"""


def _one_each() -> list[str]:
    """A row for each function that makes encoders of prompts."""
    found = {}
    for name, row in reversed(SMALL.items()):
        make = getattr(adapters, row.family).make_text
        if make is not None:
            found[make] = name
    return sorted(found.values())


@pytest.mark.parametrize("name", _one_each())
def test_a_copy_encodes_the_same(name: str, tmp_path: Path) -> None:
    row = SMALL[name]
    model = row.load(row.source(tmp_path))
    copied = copy.deepcopy(model) if name in COPIED else pickle.loads(pickle.dumps(model))
    assert copied.identity() == model.identity()
    under = row.conditioning(model, row.scale)
    assert row.conditioning(copied, row.scale) == under
    x = torch.randn(1, *model.sample_shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(float(model.levels.nearest(1.0)))
    assert torch.equal(copied.eps(x, t, under), model.eps(x, t, under))
    assert copied.network is not model.network


def test_another_process_encodes_the_same(tmp_path: Path) -> None:
    model = latentjac.load(build_wan(), size=(16, 32), frames=5)
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    done = subprocess.run(
        [sys.executable, "-c", _OTHER, tmp_path / "model"], capture_output=True, text=True, check=True
    )
    identity, norm = done.stdout.split()
    assert identity == model.identity()
    assert float(norm) == pytest.approx(float(model.conditioning("a red cat")["text"].double().norm()), rel=1e-6)


def test_weights_are_held_once() -> None:
    """What the pipeline of the encoder has is what the model has, also in a copy."""
    model = pickle.loads(pickle.dumps(latentjac.load(build_wan(), size=(16, 32), frames=5)))
    assert isinstance(model.text, PipelineText)
    assert model.text._pipeline.transformer is model.network
    assert model.text._pipeline.vae is model.codec.autoencoder
