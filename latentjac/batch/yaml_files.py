"""YAML files, read strictly: plain values alone, no key twice, nothing that refers to something else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from latentjac.files import FileError, open_file

LARGEST_YAML = 2**22  # bytes; longer lists of items are tables
# As JSON and YAML 1.2 write floats. YAML 1.1, which PyYAML reads, takes 1e-3 for a text.
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+$", re.ASCII)


def read_yaml(function: str, path: str | Path) -> Any:
    """The value of a YAML file: mappings, lists, texts, numbers, bools and None.

    Raises:
        ImportError: If PyYAML is not installed.
        FileNotFoundError: If there is no such file.
        FileError: If it is not such YAML in UTF-8 of at most ``LARGEST_YAML`` bytes.
    """
    with open_file(function, path) as file:
        content = file.read(LARGEST_YAML + 1)
    try:
        if len(content) > LARGEST_YAML:
            raise ValueError(f"it must have at most {LARGEST_YAML} bytes; longer lists of items are tables")
        return from_yaml(content.decode())
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise FileError(f"{function}: {str(path)!r} must be YAML, got {reason}") from error


def from_yaml(text: str) -> Any:
    """The value of a text.

    Raises:
        ImportError: If PyYAML is not installed.
        ValueError: If it is no YAML, has a key twice, or an alias.
    """
    yaml = require_yaml()
    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def require_yaml() -> Any:
    """PyYAML; an ImportError that names the remedy if it is missing."""
    try:
        import yaml
    except ImportError as error:
        raise ImportError("specs need PyYAML, which is not installed: pip install 'latentjac[batch]'") from error
    return yaml


def _loader() -> Any:
    """A loader of plain values."""
    yaml = require_yaml()

    class Strict(yaml.SafeLoader):  # type: ignore[name-defined]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                mark = self.peek_event().start_mark
                raise yaml.composer.ComposerError(None, None, "an alias, which stands for another part", mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys = [key.value for key, _ in node.value]
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or keys.count(key.value) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"a key twice: {key.value!r}", key.start_mark)
            return super().construct_mapping(node, deep)

    Strict.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    return Strict
