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
    ["papers"],
    ["studies"],
    ["report"],
    ["explore"],
    ["batch"],
    ["cli"],
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


def names_used(source: str) -> set[str]:
    """Dotted names that a module imports or reads, such as ``torch.nn``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute):
            found.add(ast.unparse(node))
    return found


def of_networks(source: str) -> set[str]:
    return {name for name in names_used(source) if f"{name}.".startswith(("torch.nn.", "diffusers.", "transformers."))}


def test_the_solvers_know_no_networks() -> None:
    """They work on linear operators, whatever these are made of."""
    wrong = {path.name: found for path in (ROOT / "solvers").rglob("*.py") if (found := of_networks(path.read_text()))}
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        "import torch.nn.functional as F",
        "import diffusers",
        "from torch import nn",
        "from torch.nn import Module",
        "def f(x):\n    import transformers",
        "def f(x):\n    return torch.nn.functional.relu(x)",
    ],
)
def test_networks_are_seen_in_every_form(source: str) -> None:
    assert of_networks(source)
    assert not of_networks("import torch\nfrom torch import nnapi\ntorch.linalg.norm(diffuser)")


def test_no_module_is_called_utils() -> None:
    assert not list(ROOT.rglob("util*.py"))
