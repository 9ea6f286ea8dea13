"""Every option of every command against values that nobody should type: one line and exit status 2, at once."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import latentjac
from latentjac import batch, editing
from latentjac.models import loading

typer = pytest.importorskip("typer")

from latentjac.cli import app, main, study  # noqa: E402

VALUES = {
    "empty": "", "spaces": "   ", "nan": "nan", "inf": "inf", "minus one": "-1", "zero": "0", "1e308": "1e308",
    "10**30": str(10**30), "digits": "9" * 5000, "unicode": "ünï ٣ ½", "long": "x" * 5000, "a folder": "folder",
    "a device": "/dev/null", "a line break": "a\nb", "twice": "1,1", "half": "0.5", "not UTF-8": "\udcff",
    "null": "a\0b", "markup": "[red]{0}%s</b>",
}  # fmt: skip
NUMBERS = {"nan", "inf", "minus one", "zero", "1e308", "10**30", "half"}
# What of these an option takes; everything else must be refused.
TAKEN = {
    "--out": {*VALUES} - {"empty", "digits", "long", "a device", "null"},
    "--distance": {"minus one", "zero", "half"},
    "--t": {"zero", "half"},
    "--tol": {"half"},
    "--change": {"half"},
    "--values": {"minus one", "zero", "half"},
    "--seed": {"zero"},
    "--frames": {"zero"},
}
# Whether these can be done is known to the model alone.
ASKS_THE_MODEL = {
    "--steps", "-k", "--layer", "--direction", "--prompt", "--edit-prompt", "--class-label", "--control-strength",
    "--control-mode", "--size", "--from-words",
}  # fmt: skip


class Reached(BaseException):
    """The expensive part of a run began."""


@dataclass
class Counted:
    """How often weights were read, and what a run printed."""

    loads: int = 0
    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def run(self, *arguments: str) -> int | None:
        """Exit status of a command; None if it got as far as the inversion."""
        self.loads, self.out, self.err = 0, io.StringIO(), io.StringIO()
        with redirect_stdout(self.out), redirect_stderr(self.err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["latentjac", *arguments])
            try:
                main()
            except Reached:
                return None
            except SystemExit as stop:
                return stop.code
        raise AssertionError("a command must end with a status")

    @property
    def error(self) -> str:
        """The one line that a refusal is, behind what was under way."""
        *begun, error = self.err.getvalue().splitlines()
        assert set(begun) <= {"loading the model ..."}
        assert error.startswith("error: ")
        assert len(error) < 700
        return error


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that has no commands of its own."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not getattr(command, "commands", None):
        yield path, command


ROOT = typer.main.get_command(app.app)
COMMANDS = dict(leaves(ROOT))
STUDY = ("study", "rank")
OPTIONS = [
    (path, option)
    for path, command in COMMANDS.items()
    if path[0] != "study" or path == STUDY
    for option in command.params
    if option.name != "help"
]


def named(case: Any) -> str:
    return " ".join(case) if isinstance(case, tuple) else max(case.opts, key=len)


@pytest.fixture(scope="module")
def parts(tiny_folder):
    model = latentjac.load(tiny_folder)
    return loading.Parts(model.network, model.scheduler)


@pytest.fixture(scope="module")
def slider(tiny_folder) -> latentjac.Slider:
    """Of the model that is read under every name."""
    model = latentjac.load(tiny_folder)
    point = latentjac.invert(model, torch.rand(3, 16, 16), 3, t=0.5).at(0.5)
    direction, method = torch.randn(3, 16, 16), editing.Linear(diagnostics=False)
    made = latentjac.Slider.make(model, point, direction, change=1e-3, method=method, tolerance=0.4)
    return replace(made, metadata={**made.metadata, "model": "faces"})


@pytest.fixture
def counted(parts, slider, tmp_path, monkeypatch) -> Counted:
    """A place with a photo, where reading weights is counted and inversions and studies end a run."""
    found = Counted()

    def read(*arguments: object) -> loading.Parts:
        found.loads += 1
        return parts

    def reached(*arguments: object, **options: object) -> None:
        raise Reached

    def offline(*arguments: object) -> None:
        raise latentjac.LoadError("load: hub model must be in the cache, got nothing")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "app", ROOT)  # made once
    monkeypatch.setattr(loading, "PipelineFolder", lambda *arguments: SimpleNamespace(read=read))
    monkeypatch.setattr(loading, "_download", offline)
    monkeypatch.setattr(latentjac, "invert", reached)
    monkeypatch.setattr(batch.Run, "run", reached)
    # The page would import Gradio, and set variables for it.
    monkeypatch.setitem(sys.modules, "latentjac.explore.serve", SimpleNamespace(serve=reached, wait=None))
    monkeypatch.setattr("latentjac.explore.environment.settle", lambda folder: None)
    monkeypatch.setattr(study, "STUDIES", {name: replace(s, run=reached) for name, s in study.STUDIES.items()})
    (tmp_path / "folder").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    (tmp_path / "spec.yaml").write_text("items: [photo.png]\n")
    slider.save(tmp_path / "slider.safetensors")
    return found


def base(path: tuple[str, ...], **arguments: str) -> list[str]:
    """The shortest command line that works; or with others of its arguments."""
    given = {"spec", *arguments}
    needed = [option.name for option in COMMANDS[path].params if option.required or option.name in given]
    files = {"photo": "photo.png", "spec": "spec.yaml", "slider": "slider.safetensors", **arguments}
    return [*path, *(["--"] if arguments else []), *(files[name] for name in needed)]


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_what_is_well_typed_begins(counted, path) -> None:
    status = counted.run(*base(path), *(["--model", "faces", "--model", "avatars"] if path[-1] == "complexity" else []))
    assert status == (0 if path == ("info",) else None)


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=named)
def test_values_that_nobody_should_type(counted, tmp_path, path, option) -> None:
    argument = option.param_type_name == "argument"
    name = named(option).replace("--no-gif", "--gif")
    for label, value in VALUES.items():
        if argument:
            typed = base(path, **{option.name: value})
        elif getattr(option, "is_flag", False):
            typed = [*base(path), f"{name}={value}"]
        else:
            typed = [*base(path), name, value]
        status = counted.run(*typed)
        before = {p.name for p in tmp_path.iterdir()}
        if label in TAKEN.get(name, ()):
            assert status is None, (label, counted.err.getvalue())
            continue
        assert status == 2, (label, counted.err.getvalue())
        assert (option.metavar if argument else name) in counted.error, (label, counted.error)
        assert counted.loads == 0 or name in ASKS_THE_MODEL, label
        assert before == {"folder", "photo.png", "slider.safetensors", "spec.yaml"}, label


def test_all_studies_have_the_same_options() -> None:
    options = [[option.opts for option in command.params] for path, command in COMMANDS.items() if path[0] == "study"]
    assert len(options) == len(study.STUDIES) + 1
    assert all(other == options[0] for other in options)


def test_every_option_teaches() -> None:
    for path, command in COMMANDS.items():
        for option in command.params:
            said = option.help or ""
            assert len(said.split()) > 2, (path, option.name)
            told = option.required or getattr(option, "is_flag", False) or option.default is not None
            assert told or "default" in said, (path, option.name)
