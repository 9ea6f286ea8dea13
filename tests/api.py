"""The public interface as it is: signatures, fields, values, options of the command line, forms of files.

``python tests/api.py`` writes it to ``tests/api.json``, which a test compares with what is there.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

FILE = Path(__file__).parent / "api.json"
HOMES = (
    "latentjac", "latentjac.batch", "latentjac.diffusion", "latentjac.editing", "latentjac.explore", "latentjac.files",
    "latentjac.geometry", "latentjac.kernels", "latentjac.linearization", "latentjac.models",
    "latentjac.papers.park2023", "latentjac.report", "latentjac.solvers", "latentjac.stopping", "latentjac.studies",
)  # fmt: skip
# Modules without a list of their names: those that users meet.
NAMES = {"latentjac.files": ("FileError",), "latentjac.stopping": ("Progress", "StoppedError", "limits")}
# Numbers of the forms of files, which grow where an older version could not read a file.
SCHEMAS = {
    "basis": ("latentjac.solvers.files", "SCHEMA"),
    "point, trajectory and slider": ("latentjac.diffusion.point_files", "SCHEMA"),
    "bases of a run": ("latentjac.batch.basis_files", "SCHEMA"),
}


def interface() -> dict[str, Any]:
    """What is there, by name."""
    return {
        "python": {name: entry for home in HOMES for name, entry in _of_module(home)},
        "command line": dict(sorted(_commands())),
        "files": {name: getattr(importlib.import_module(home), value) for name, (home, value) in SCHEMAS.items()},
    }


def _of_module(home: str) -> Iterator[tuple[str, Any]]:
    module = importlib.import_module(home)
    for name in sorted(NAMES.get(home) or module.__all__):
        yield f"{home}.{name}", _described(getattr(module, name))


def _described(thing: Any) -> Any:
    if inspect.isclass(thing):
        return _of_class(thing)
    if callable(thing):
        return _signature(thing)
    return "module" if inspect.ismodule(thing) else _plain(thing)


def _of_class(kind: type) -> dict[str, Any]:
    """Bases, members, constructor, fields and methods that are its own."""
    found: dict[str, Any] = {"bases": [base.__name__ for base in kind.__bases__ if base is not object]}
    if issubclass(kind, enum.Enum):
        return found | {"members": {member.name: member.value for member in kind}}
    if not issubclass(kind, BaseException) and not getattr(kind, "_is_protocol", False):
        found["made by"] = _signature(kind)
    if dataclasses.is_dataclass(kind):
        found["fields"] = [field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")]
    for name, value in sorted(vars(kind).items()):
        if name.startswith("_") or name in found.get("fields", ()):
            continue
        if isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value):
            found[name] = _signature(getattr(kind, name))
        elif isinstance(value, property):
            found[name] = "property"
    return found


def _signature(function: Any) -> str:
    """Names, kinds and defaults; annotations are for type checkers."""
    signature = inspect.signature(function)
    parameters = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    shown = [p.replace(default=_Shown(p.default)) if p.default is not p.empty else p for p in parameters]
    return str(signature.replace(parameters=shown, return_annotation=inspect.Signature.empty))


class _Shown:
    """A default as the list has it: by value where that is plain, by kind elsewhere."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        text = repr(self.value)
        of_process = " at 0x" in text or "<factory>" in text or isinstance(self.value, os._Environ)
        return f"<{type(self.value).__name__}>" if of_process else text


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, PurePath):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(_Shown(value))


def _commands() -> Iterator[tuple[str, Any]]:
    """Options of every command with their defaults, arguments by name."""
    import typer

    from latentjac.cli.app import app

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, {(p.opts[0] if p.opts else p.name): _default(p) for p in command.params if not p.is_eager}
        for inner, each in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {inner}", each)

    yield from walk("latentjac", typer.main.get_command(app))


def _default(parameter: Any) -> Any:
    value = parameter.default() if callable(parameter.default) else parameter.default
    return "required" if parameter.required else _plain(getattr(value, "value", value))


if __name__ == "__main__":
    FILE.write_text(json.dumps(interface(), indent=1, sort_keys=True) + "\n")
    sys.stdout.write(f"{FILE}\n")
