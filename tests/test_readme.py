"""The README's Python runs as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch

import latentjac

ROOT = Path(__file__).parent.parent
PHOTO = ROOT / "latentjac" / "assets" / "face.jpg"


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_examples_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(PHOTO, "photo.jpg")
    whole_job, parts = python_blocks()
    names: dict[str, object] = {}
    exec(whole_job, names)
    assert Path("edited.png").exists()
    assert latentjac.LocalBasis.load("basis.safetensors").k == 8
    assert names["path"].psnr[0] >= 25

    x = torch.randn(1, 12)
    setting = {"f": lambda z, t: (t * z).sin(), "x": x, "constants": (torch.tensor(2.0),), "latentjac": latentjac}
    exec(parts, {**setting, "V": torch.randn(3, 1, 12), "U": torch.randn(3, 1, 12)})


def test_marked_commands_are_there() -> None:
    text = (ROOT / "README.md").read_text()
    for mark in ("demo", "tests"):
        command = re.search(rf"<!-- {mark} -->\n```bash\n(.*?)```", text, re.DOTALL)
        assert command
        assert command[1].count("\n") == 1  # one line, with its own set-up
        assert "venv" in command[1]
