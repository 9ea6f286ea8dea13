"""``latentjac explore``: what it serves and what it refuses; the page itself is tested in tests/browser."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer")
from cli.commands import run
from families import SMALL
from networks import build_scheduler, build_shallow_unet
from PIL import Image

import latentjac
from latentjac.explore import Question, Session
from latentjac.models.prepare import read_image

FACE = Path(latentjac.__file__).parent / "assets" / "face.jpg"


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command sets of the environment goes with the test."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def served(variables: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command would serve, and how."""
    pytest.importorskip("gradio")
    import latentjac.explore.serve as module

    served: dict[str, Any] = {}

    class Page:
        class blocks:
            local_url, share_url = "http://127.0.0.1:7860/", None

    def serve(shared: Any, **options: Any) -> type[Page]:
        served.update(options, shared=shared, folder=shared.folder, there=shared.folder.is_dir())
        return Page

    monkeypatch.setattr(module, "serve", serve)
    monkeypatch.setattr(module, "wait", lambda page: None)
    return served


def test_what_is_served(served: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = latentjac.load(build_shallow_unet(), build_scheduler())
    monkeypatch.setattr(latentjac, "load", lambda source, **options: model)
    done = run("explore", "any", "--no-browser", "--port", 7999, "--steps", 5, "--solver", "ddim", "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:7860/" in done.stdout
    assert (served["port"], served["share"], served["browser"]) == (7999, False, False)
    shared = served["shared"]
    assert (shared.model, shared.steps, shared.seed) == (model, 5, 3)
    assert isinstance(shared.inversion["solver"], latentjac.diffusion.DDIM)
    assert served["there"]
    assert not served["folder"].exists()  # files of visitors go with the command
    photo = read_image(FACE, "photo")
    assert not shared.under(photo, (0, 0, 64, 64), None)
    with pytest.raises(ValueError, match="--prompt"):
        shared.under(photo, (0, 0, 64, 64), "a face")


# A row of small networks, the option that it must be given, and whether the photo itself stands for what it is of.
PICTURED = [
    ("controlnet", "--control"),
    ("t2i-adapter", "--control"),
    ("inpainting", "--inpaint-mask"),
    ("variation", "--image-prompt"),
    ("pix2pix", None),
]


@pytest.mark.filterwarnings("ignore:invert. picture", "ignore:local_basis")
@pytest.mark.parametrize(("name", "option"), PICTURED)
def test_pictures_beside_the_photo(
    served: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, option: str | None
) -> None:
    """A model that needs one is refused at once, and the option named; with it a photo goes all the way."""
    pytest.importorskip("transformers")
    model = SMALL[name].load(SMALL[name].source(tmp_path))
    monkeypatch.setattr(latentjac, "load", lambda source, **options: model)
    given = Image.new("L", (16, 16))
    given.paste(255, (4, 4, 12, 12))
    given.save(tmp_path / "given.png")
    typed = ["explore", "any", "--no-browser", "--steps", 3, "--tol", 0.1]
    if option is not None:
        done = run(*typed)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith(f"error: {option} must be given since the network of")
        typed += [option, tmp_path / "given.png"]
    done = run(*typed)
    assert done.returncode == 0, done.stderr
    session = Session(replace(served["shared"], folder=tmp_path))
    session.open(FACE)
    for job in (session.invert, lambda: session.find(Question(k=1, end=1.0))):
        begun = job()
        assert begun.join(60)
        assert not begun.error
    assert len(session.lines) == 1
    if option is None:  # the photo that was opened, in its frame
        assert session.way is not None
        assert session.photo is not None
        expected = model.conditioning(None, image=session.photo.fitted((16, 16)).image)
        assert session.way.trajectory.conditioning == expected


@pytest.mark.usefixtures("variables")
def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    done = run("explore", tmp_path / "nowhere", "--no-browser")
    assert done.returncode == 2
    assert done.stderr.startswith("error: MODEL must be a built-in name")


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else found(name, *a))
    done = run("explore", "--no-browser")
    assert done.returncode == 2
    assert "pip install 'latentjac[explore]'" in done.stderr
