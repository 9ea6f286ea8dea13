"""Folders of models to be damaged, and a watch over the network."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import transformers
from pipelines import build_stable_diffusion

from latentjac.models import loading


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What reaches for a network, or looks for files where only the hub's own code would, fails the test."""
    calls: list[str] = []

    def forbid(owner: Any, name: str) -> None:
        def called(*args: object, **kwargs: object) -> None:
            calls.append(name)
            raise OSError(f"{name} was called")

        monkeypatch.setattr(owner, name, called)

    for name in ("socket", "create_connection", "getaddrinfo"):
        forbid(socket, name)
    for owner in (diffusers.ModelMixin, diffusers.SchedulerMixin, transformers.PreTrainedModel):
        forbid(owner, "from_pretrained")
    forbid(diffusers.ConfigMixin, "load_config")
    forbid(loading, "_download")
    yield
    assert calls == []


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Diffusion."""
    folder = tmp_path_factory.mktemp("text") / "model"
    build_stable_diffusion(tmp_path_factory.mktemp("tokenizer")).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tiny_folder, tmp_path) -> Path:
    """A folder of a tiny U-Net, to be damaged."""
    return shutil.copytree(tiny_folder, tmp_path / "model")
