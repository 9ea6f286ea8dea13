"""What goes wrong, in terms of what was typed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import is_dataclass

import numpy as np
import pytest
import torch
from cli.commands import run
from PIL import Image
from report.parsed import Page

import latentjac
from latentjac import editing, papers
from latentjac.cli import edit, edit_method
from latentjac.cli.refusals import OPTIONS, in_options, one_line
from latentjac.geometry.transport import METHODS as TRANSPORTS

typer = pytest.importorskip("typer")


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("svd: k must be in [1, 8], got 9", "-k must be in [1, 8], got 9"),
        ("num_inference_steps: expected an int, got str", "--steps must be an int, got str"),
        ("layer: expected a module name, got 'x'", "--layer must be a module name, got 'x'"),
        ("HSpace: layer must be a module, got 'eps'", "--layer must be a module, got 'eps'"),
        ("edit: --gif must be left at False with compat='park2023', got True",
         "--gif must be left at False with --compat park2023, got True"),
        ("load: folder must hold a pipeline, got 'x'", "load: folder must hold a pipeline, got 'x'"),
        ("No such option: --bogus", "No such option: --bogus"),
    ],
)  # fmt: skip
def test_messages_name_options(message, expected) -> None:
    assert in_options(message) == expected
    assert in_options(expected) == expected


def test_an_argument_can_come_from_another_option() -> None:
    assert in_options("edit: prompt must be None, got 'a'", {"prompt": "--edit-prompt"}) == (
        "--edit-prompt must be left out, got 'a'"
    )


def test_every_option_that_is_named_can_be_typed() -> None:
    from latentjac.cli.app import app

    typed, commands = {"PHOTO"}, [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
        typed |= {name for option in command.params for name in option.opts}
    assert set(OPTIONS.values()) <= typed


def test_messages_are_one_line_of_some_length() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert len(one_line("x" * 10**6)) < 700


def is_method(kind: object) -> bool:
    """Whether it is a class of methods that can be made and walks."""
    return isinstance(kind, type) and is_dataclass(kind) and hasattr(kind, "walk") and kind is not editing.XSpaceMethod


@pytest.mark.parametrize("kind", [*filter(is_method, vars(editing.methods).values()), papers.park2023.Walk])
def test_every_option_of_a_method_is_a_flag_with_the_same_default(kind: type) -> None:
    """But for what has another meaning there: a seed, the tolerance of the first basis, the layer of directions.

    Commands always measure. A flag without a default leaves it to the method.
    """
    from latentjac.cli.app import app

    flags = {param.name: param.default for param in typer.main.get_command(app).commands["edit"].params}
    typed = {"num_steps": "edit_steps", "prompt": "edit_prompt"}
    for name, default in edit_method.defaults_of(kind).items():
        if name not in ("linearity_tolerance", "tol", "generator", "layer", "diagnostics"):
            assert flags[typed.get(name, name)] in (default, None), name


def test_choices_are_those_of_the_functions() -> None:
    assert edit.TRANSPORTS == TRANSPORTS
    kinds = {name for name, kind in vars(editing.methods).items() if is_method(kind)}
    assert {*edit_method.METHODS.values()} == kinds
    assert [*edit_method.PAPERS] == papers.__all__
    for name, kind in edit_method.PAPERS.items():
        assert is_method(getattr(getattr(papers, name), kind))


@pytest.fixture
def uninvertible(monkeypatch):
    """Nothing may be inverted."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("must be refused before the inversion")

    monkeypatch.setattr(latentjac, "invert", refuse)
    monkeypatch.setattr(papers.park2023, "invert", refuse)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--photo", "PHOTO", "--steps", 1001], "--steps must be .*1000.* got 1001"),
        (["edit", "PHOTO", "--compat", "park2023", "--steps", 2], "--steps must be .* got 2"),
        (["basis", "PHOTO", "-k", 769], "-k must be at most 768, the number of singular triplets of --layer, got 769"),
        (["basis", "PHOTO", "--layer", "nope"], "--layer must be .*got 'nope'; nearest: "),
        (["basis", "PHOTO", "--layer", "time_embedding"], "--layer must be a feature map that depends on the picture"),
        (["edit", "PHOTO", "--direction", "1,900"], "--direction must be numbers from 1 to 768, .* got 900"),
        (["edit", "PHOTO", "--method", "h-space", "--layer", "eps"], "--layer must be a module, to whose output"),
        (["edit", "PHOTO", "--method", "geodesic", "-k", 900], "-k must be at most 768, .* got 900"),
        (["edit", "PHOTO", "--mask", "MASK", "--null-rank", 900], "--null-rank must be at most 384, .* got 900"),
        (["edit", "PHOTO", "--mask", "MASK", "--direction", 385], "--direction must be .* from 1 to 384, .* got 385"),
        (["edit", "PHOTO", "--mask", "BLACK"], "--mask must mark a part of the photo, got none of it"),
        (["edit", "PHOTO", "--mask", "TEXT"], "--mask must be a picture file, got .*whose format Pillow does not know"),
        (["edit", "PHOTO", "--basis", "TEXT"], "--basis must "),
        (["edit", "TEXT"], "PHOTO must be a picture file, got .*whose format Pillow does not know"),
        (["demo", "--photo", "TEXT"], "--photo must be a picture file, got "),
        (["edit", "PHOTO", "--crop", "0,0,17,16"], r"--crop must be a box inside 16x16, got \(0, 0, 17, 16\)"),
        (["edit", "PHOTO", "--crop", "4,0,4,16"], "--crop must be .*with left < right"),
        (["edit", "PHOTO", "--compose", "--direction", "1,2", "--distance", "1"], "--distance must be one number"),
        (["edit", "PHOTO", "--direction", "1,1"], "--direction must be different"),
        (["edit", "PHOTO", "--distance", "1,1.0"], "--distance must be different"),
        (["edit", "PHOTO", "--edit-prompt", "a"], "--edit-prompt must be left out since .* got 'a'"),
        (["edit", "PHOTO", "--null-energy", 0.5], "--null-energy must be left out unless --mask is given, got 0.5"),
        (["edit", "PHOTO", "--null-rank", 2], "--null-rank must be left out unless --mask is given, got 2"),
        (["edit", "PHOTO", "--mask", "MASK", "--method", "h-space", "--null-rank", 2],
         "--null-rank must be left out with --method h-space, got 2"),
        (["edit", "PHOTO", "--mask", "MASK", "--null-rank", 2, "--null-energy", 0.5],
         "--null-energy must be left out with --null-rank, got 0.5"),
        (["edit", "PHOTO", "--gain", 2], "--gain must be left out unless --compat park2023 is given, got 2"),
        (["edit", "PHOTO", "--inject", "point"],
         "--inject must be left at below unless --method h-space is given, got point"),
        (["edit", "PHOTO", "--asymmetric"], "--asymmetric must be left out unless --method h-space is given, got True"),
        (["edit", "PHOTO", "--method", "h-space", "--edit-steps", 3], "--edit-steps must be left out unless .* got 3"),
        (["edit", "PHOTO", "--method", "linear", "--reestimate", 3],
         "--reestimate must be left out unless --method guidance is given, got 3"),
        (["edit", "PHOTO", "--transport", "pseudoinverse"],
         "--transport must be left at park2023 unless --method geodesic is given, got pseudoinverse"),
        (["edit", "PHOTO", "--compat", "park2023", "--reestimate", 3], "--reestimate must be left out unless .* got 3"),
        (["edit", "PHOTO", "--compat", "park2023", "--distance", "1"], "--distance must be left out with --compat"),
        (["edit", "PHOTO", "-k", 9], "-k must be left at 8 unless --method geodesic or --reestimate is given, got 9"),
        (["basis", "PHOTO", "--device", "cuda:99"], "--device must be one that torch sees, got .*cuda:99"),
        (["basis", "NAN"], "PHOTO must be finite, got 1 NaN and 0 Inf"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_the_inversion(
    arguments, message, photo, tiny_folder, tmp_path, uninvertible
) -> None:
    mask = Image.new("L", (16, 16))
    mask.save(tmp_path / "black.png")
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    values = np.zeros((16, 16), np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tiff")
    (tmp_path / "text.safetensors").write_text("text")
    files = {
        "PHOTO": photo, "MASK": tmp_path / "mask.png", "BLACK": tmp_path / "black.png", "NAN": tmp_path / "nan.tiff",
        "TEXT": tmp_path / "text.safetensors",
    }  # fmt: skip
    arguments = [files.get(argument, argument) for argument in arguments]
    done = run(*arguments, "--model", tiny_folder, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert re.search(message, done.stderr.splitlines()[-1]), done.stderr
    assert not (tmp_path / "out" / "run.json").exists()


def test_what_was_done_to_a_mask_is_printed(photo, tiny_folder, tmp_path) -> None:
    mask = Image.new("RGBA", (16, 16), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 200), (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    done = run(
        "edit", photo, "--mask", tmp_path / "mask.png", "--method", "linear", "--distance", 1, "--steps", 4, "--tol",
        0.1, "--edit-steps", 1, "--null-rank", 0, "--model", tiny_folder, "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "mask: laid its transparent parts over black" in done.stdout
    assert "mask: 50% of it is neither black nor white" in done.stdout
    assert "mask: 50.0% of the picture is inside" in done.stdout


def test_a_photo_whose_name_is_not_utf8(photo, tiny_folder, tmp_path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        photo.rename(tmp_path / name)
    except OSError:
        pytest.skip("the file system takes only names in UTF-8")
    done = run("invert", tmp_path / name, "--model", tiny_folder, "--steps", 2, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "caf" in json.loads((tmp_path / "out" / "run.json").read_text())["photo"]["file"]
    assert "caf" in Page((tmp_path / "out" / "index.html").read_text()).text


@pytest.mark.parametrize("stage", ["load", "invert", "local_basis", "edit"])
def test_ctrl_c_ends_with_130_whatever_is_under_way(stage, photo, tiny_folder, tmp_path, monkeypatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(latentjac, stage, interrupted)
    done = run(
        "edit", photo, "--model", tiny_folder, "--steps", 4, "--tol", 0.1, "--edit-steps", 1, "--out", tmp_path / "x"
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "x" / "run.json").exists()
    assert not (tmp_path / "x" / "index.html").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
def test_ctrl_c_from_outside(photo, tiny_folder, tmp_path) -> None:
    command = [sys.executable, "-m", "latentjac", "invert", photo, "--model", tiny_folder, "--steps", "1000"]
    slow = ["--grid", "own", "--solver", "ddim", "--refinement", "1000"]
    with subprocess.Popen(
        [*command, *slow, "--out", tmp_path / "x"], stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if "inverting" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130
    assert rest.splitlines()[-1] == "interrupted"
    assert "Traceback" not in rest
    assert not (tmp_path / "x" / "run.json").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [(torch.OutOfMemoryError("no memory"), 2), (MemoryError(), 2), (latentjac.ConvergenceError("slow", None), 2)],
    ids=lambda value: type(value).__name__,
)
def test_errors_of_the_machine_are_one_line(error, status, photo, tiny_folder, tmp_path, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(latentjac, "invert", fail)
    done = run("invert", photo, "--model", tiny_folder, "--steps", 2, "--out", tmp_path / "x")
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_defects_are_not_hidden(photo, tiny_folder, tmp_path, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(latentjac, "invert", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run("invert", photo, "--model", tiny_folder, "--steps", 2, "--out", tmp_path / "x")


def test_a_missing_command_shows_help() -> None:
    for arguments in ([], ["study"]):
        done = run(*arguments)
        assert done.returncode == 2
        assert "Commands:" in done.stdout
