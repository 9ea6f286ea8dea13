"""What importing costs, and what a name of the package is whatever was imported before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import latentjac

ROOT = Path(latentjac.__file__).parent
# Each takes a second or more to import, or is of no use where nothing is computed.
HEAVY = {"torch", "diffusers", "transformers", "matplotlib", "numpy", "PIL", "scipy", "pyarrow", "jinja2", "yaml"}

# Forgets the package and imports it anew, beginning with one of its modules.
IN_ANY_ORDER = """
import importlib, sys, types
import latentjac
KEPT = ("_native", "linearization.declared")  # what torch and the loader know of once a process
for first in sys.argv[1:]:
    for name in [name for name in sys.modules if name.partition(".")[0] == "latentjac" and not name.endswith(KEPT)]:
        del sys.modules[name]
    importlib.import_module(first)
    package = sys.modules["latentjac"]
    for name in ("svd", "edit", "linearize"):
        assert isinstance(getattr(package, name), types.FunctionType), (first, name)
    exec("from latentjac import *")
    assert svd is package.svd and callable(edit)
"""


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def test_functions_are_functions_after_any_order_of_imports() -> None:
    firsts = ("solvers.krylov", "editing.edit", "linearization.trace", "diffusion", "geometry", "models", "studies")
    python("-c", IN_ANY_ORDER, *(f"latentjac.{name}" for name in (*firsts, "papers")))


def test_the_engine_needs_no_diffusers() -> None:
    names = [f"latentjac.{package}" for package in ("kernels", "linearization", "solvers")]
    python("-c", f"import sys, {', '.join(names)}; assert not {{'diffusers', 'transformers'}} & set(sys.modules)")


def test_there_are_about_twenty_names() -> None:
    assert len(latentjac.__all__) <= 27


def test_every_public_name_is_there() -> None:
    assert set(latentjac.__all__) <= set(dir(latentjac))
    for name in latentjac.__all__:
        assert not isinstance(getattr(latentjac, name), ModuleType)
    assert isinstance(latentjac.geometry, ModuleType)
    with pytest.raises(AttributeError, match="module 'latentjac' has no attribute 'krylov'"):
        latentjac.krylov  # noqa: B018


def test_type_checkers_are_told_of_every_public_name() -> None:
    block = next(node for node in ast.parse((ROOT / "__init__.py").read_text()).body if isinstance(node, ast.If))
    told = {(node.module, alias.name) for node in block.body for alias in node.names}
    assert {name for _, name in told} == set(latentjac.__all__)
    for module, name in told:
        assert getattr(latentjac, name) is getattr(sys.modules[module], name)


def test_a_name_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latentjac, "svd", abs)
    assert latentjac.svd is abs


def test_help_waits_for_nothing_heavy() -> None:
    pytest.importorskip("typer")
    code = (
        "import sys\n"
        "from latentjac.cli import main\n"
        "for arguments in (['--help'], ['--version'], *([name, '--help'] for name in sys.argv[1:])):\n"
        "    sys.argv = ['latentjac', *arguments]\n"
        "    try: main()\n"
        "    except SystemExit as stop: assert not stop.code, (arguments, stop.code)\n"
        f"    found = {HEAVY!r} & set(sys.modules)\n"
        "    assert not found, (arguments, found)\n"
    )
    python("-c", code, "demo", "edit", "basis", "invert", "run", "info", "study")
