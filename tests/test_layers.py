"""Nothing imports upward: the rule that keeps the layers apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "latentjac"
# From the lowest to the highest; packages of one group may use each other.
LAYERS = [
    ["kernels"],
    ["linearization"],
    ["solvers"],
    ["models", "diffusion"],
    ["geometry"],
    ["editing"],
    ["studies"],
    ["cli", "report"],
]
RANK = {package: rank for rank, group in enumerate(LAYERS) for package in group}


def imported_packages(source: str) -> set[str]:
    """Subpackages of latentjac that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "latentjac" else [f"latentjac.{a.name}" for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "latentjac" and len(parts) > 1 and parts[1] in RANK:
                found.add(parts[1])
    return found


def upward(package: str, source: str) -> set[str]:
    return {other for other in imported_packages(source) if RANK[other] > RANK[package]}


@pytest.mark.parametrize("package", sorted(RANK))
def test_nothing_imports_upward(package: str) -> None:
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / package).rglob("*.py")
        if (found := upward(package, path.read_text()))
    }
    assert not wrong


def test_the_rule_sees_every_form_of_import() -> None:
    for statement in (
        "import latentjac.editing",
        "from latentjac.editing import edit",
        "from latentjac import editing",
        "def f():\n    from latentjac.editing.edit import Edit",
    ):
        assert upward("solvers", statement) == {"editing"}
    assert not upward("editing", "from latentjac.solvers import svd")


def test_what_stands_beside_the_layers_knows_none_of_them() -> None:
    for path in set(ROOT.glob("*.py")) - {ROOT / "__init__.py", ROOT / "__main__.py"}:
        assert not imported_packages(path.read_text()), path


def test_every_package_has_a_layer_and_every_layer_a_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(RANK)


def test_no_module_is_called_utils() -> None:
    assert not list(ROOT.rglob("util*.py"))
