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
# Every fourth write, which meets all kinds of them, since a file has five; or all of them, and many more at random.
STRIDE, RANDOM = (1, 200) if os.environ.get("LATENTJAC_ALL_KILLS") == "1" else (4, 20)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_writes_and_at_random(tmp_path: Path) -> None:
    # Its forks need one thread.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), str(tmp_path), str(STRIDE), str(RANDOM), "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    writes, random = json.loads(done.stdout)
    assert writes["kills"] * STRIDE > 80
    assert random["kills"] >= RANDOM
