"""Files of adapters, and pipelines of diffusers put together of parts that were read here, whose loaders read them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from latentjac.arguments import check_number, shown
from latentjac.models.errors import LoadError

Scaled = dict[Path, float]  # files of adapters, and their scales
LARGEST_SCALE = 100.0


def check_scaled(
    function: str, argument: str, given: Any, expected: str, file_of: Callable[[str | Path], Path]
) -> Scaled:
    """Files of adapters with their scales.

    Args:
        function: For messages.
        argument: The same.
        given: A file, several as keys with their scales, or None for none.
        expected: What it must be, for messages.
        file_of: The file that an entry means; it raises where there is none.

    Raises:
        TypeError: If it is none of these.
        ValueError: If a scale is out of range.
    """
    if given is None:
        return {}
    found: Scaled = {}
    for source, scale in given.items() if isinstance(given, Mapping) else [(given, 1.0)]:
        if not isinstance(source, (str, Path)):
            raise TypeError(f"{function}: {argument} must be {expected}, got {shown(given)}")
        path, name = file_of(source), f"{argument}[{str(source)!r}]"
        found[path] = check_number(function, name, scale, -LARGEST_SCALE, LARGEST_SCALE, least=True, most=True)
    return found


def pipeline_of(kind: str, made: Mapping[str, Any], settings: Mapping[str, Any], argument: str, loader: str) -> Any:
    """A pipeline of parts, with a loader of adapters.

    Args:
        kind: Its class.
        made: Its parts.
        settings: Its other settings, among entries that are none.
        argument: Of :func:`latentjac.load`, for messages.
        loader: Name of the method.

    Raises:
        LoadError: If the class has no such loader, or does not take the parts.
    """
    import diffusers

    known: Any = getattr(diffusers, kind, None)
    if not hasattr(known, loader):
        raise LoadError(
            f"load: {argument} must be None for a pipeline without {loader} in diffusers, got one for a {kind}"
        )
    plain = {name: value for name, value in settings.items() if not isinstance(value, (list, tuple))}
    offered = {**plain, **made, "requires_safety_checker": False}
    taken = inspect.signature(known).parameters
    given = {
        name: offered.get(name)
        for name, parameter in taken.items()
        if name in offered or (parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD)
    }
    try:
        return known(**given)
    except Exception as error:
        raise LoadError(
            f"load: {argument} must be None for a {kind} from a folder ({short(error)}): load it and the adapter by "
            "diffusers, and give the pipeline object to latentjac.load"
        ) from error


def check_peft() -> None:
    """Raise unless there is the package that low-rank adapters need."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise LoadError("load: lora must be None unless peft is there: pip install peft") from error


def short(error: Exception) -> str:
    """The first line of a message."""
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
