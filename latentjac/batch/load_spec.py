"""How the model of a spec is loaded: options of :func:`latentjac.load`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentjac.arguments import shown
from latentjac.batch.spec_values import NAME, Check, digest_of, of_part, options, placed, text
from latentjac.models.errors import LoadError
from latentjac.models.lora import check_loras
from latentjac.models.prepare import as_size

_LOAD: dict[str, Check] = {
    "size": lambda key, value: list(as_size(NAME, key, value)),
    "config": text(),
    "lora": lambda key, value: value,  # see _loras
    "revision": text(),
    "variant": text(),
}


def load_of(value: Any, root: Path) -> dict[str, Any]:
    """The options, with files where they are, each checked.

    Args:
        value: What the spec has under ``load``.
        root: Folder that relative paths begin in.
    """
    found = options("load", value, _LOAD)
    if "config" in found:
        found["config"] = placed(found["config"], root)
    if "lora" in found:
        found["lora"] = _loras(found["lora"], root)
    return found


def _loras(value: Any, root: Path) -> dict[str, float]:
    """Files of low-rank adapters with their scales."""
    given = value if isinstance(value, Mapping) else {value: 1.0} if isinstance(value, str) else None
    if not given or not all(isinstance(path, str) for path in given):
        expected = "a file, a folder or a mapping of such to scales"
        raise TypeError(f"{NAME}: 'load.lora' must be {expected}, got {shown(value)}")
    placed = {str(root / Path(path).expanduser()): scale for path, scale in given.items()}
    try:
        with of_part("load", ("lora",)):
            return {str(path): scale for path, scale in check_loras(NAME, placed).items()}
    except LoadError as error:
        raise ValueError(f"{NAME}: 'load.lora' {str(error).partition('lora ')[2]}") from error


def told(load: Mapping[str, Any]) -> dict[str, Any]:
    """What decides of them what is computed: not where files are."""
    found = {name: value for name, value in load.items() if name != "config"}  # the model's identity tells its parts
    if "lora" in found:
        found["lora"] = {digest_of(Path(path)): scale for path, scale in found["lora"].items()}
    return found
