"""Runs that are killed lose at most what was under way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
PROGRAM = Path(__file__).with_name("killed.py")


def kills(folder: Path, *arguments: str) -> int:
    # Its forks need one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["kills"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_every_write(tmp_path: Path) -> None:
    assert kills(tmp_path, "every") > 50


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random(tmp_path: Path) -> None:
    assert kills(tmp_path, "random", "30", "0") == 30
