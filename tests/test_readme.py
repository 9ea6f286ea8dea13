"""The README's Python runs as it stands there, and its commands can be called one after the other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import torch
import yaml

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
    assert names["basis"].k == 8
    assert names["basis"].status.fine

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


def test_commands_work_one_after_the_other() -> None:
    """In a fresh clone: files that they name are there, and the environment is active before its command is called."""
    text = (ROOT / "README.md").read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    own = [line for line in lines if line.startswith("latentjac ")]
    assert len(own) >= 4
    assert all(lines.index("source .venv/bin/activate") < lines.index(line) for line in own)
    for path in re.findall(r"[\w./-]+\.(?:jpg|png|md)", " ".join(lines)):
        assert (ROOT / path).exists(), path


def test_bibtex_and_citation_are_of_this_version() -> None:
    text, citation = (ROOT / "README.md").read_text(), yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f"version = {{{latentjac.__version__}}}" in text
    assert citation["version"] == latentjac.__version__
    assert citation["title"] in " ".join(text.split())
    assert citation["references"][0]["title"] in " ".join(text.split())
