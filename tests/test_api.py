"""What users build on stays as it is, or goes by the way that docs/stability.md describes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from api import FILE, HOMES, NAMES, interface

import latentjac

ROOT = Path(__file__).parent.parent
CLIENT = Path(__file__).parent / "client.py"


def test_the_interface_is_that_of_the_list() -> None:
    pytest.importorskip("typer")
    found = list(compared(json.loads(FILE.read_text()), json.loads(json.dumps(interface()))))
    assert not found, "\n".join(["docs/stability.md says what may change; then: python tests/api.py", *found])


def compared(listed: Any, now: Any, where: str = "") -> Any:
    """A line for each difference."""
    if isinstance(listed, dict) and isinstance(now, dict):
        for key in sorted({*listed, *now}):
            inner = f"{where}/{key}"
            if key not in listed:
                yield f"new: {inner}"
            elif key not in now:
                yield f"gone: {inner}"
            else:
                yield from compared(listed[key], now[key], inner)
    elif listed != now:
        yield f"changed: {where}: {listed} -> {now}"


def test_differences_are_named() -> None:
    before = {"python": {"f": "(x, k=8)", "g": "(x)", "C": {"fields": ["a"]}}}
    after = {"python": {"f": "(x, k=9)", "h": "(x)", "C": {"fields": ["a", "b"]}}}
    assert list(compared(before, after)) == [
        "changed: /python/C/fields: ['a'] -> ['a', 'b']",
        "changed: /python/f: (x, k=8) -> (x, k=9)",
        "gone: /python/g",
        "new: /python/h",
    ]


def test_every_public_package_is_listed() -> None:
    """Packages of docs and README, that is all but the command line, and single modules that have public names."""
    packages = {f"latentjac.{path.parent.name}" for path in (ROOT / "latentjac").glob("*/__init__.py")}
    assert packages - {"latentjac.cli", "latentjac.papers"} <= {*HOMES}
    homes = {getattr(latentjac, name).__module__.split(".")[1] for name in latentjac.__all__}
    assert {f"latentjac.{home}" for home in homes} <= {*HOMES}
    assert {*NAMES} <= {*HOMES}


@pytest.mark.slow
def test_a_client_passes_strict_type_checks() -> None:
    """Types of the interface as another project's mypy sees them, and what it refuses."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", ""]
    command += ["--follow-imports", "silent", str(CLIENT)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_client_runs() -> None:
    done = subprocess.run([sys.executable, str(CLIENT)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
