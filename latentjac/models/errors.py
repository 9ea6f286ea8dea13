"""What goes wrong when a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from latentjac.files import FileError


class LoadError(RuntimeError):
    """A model could not be found, fetched or understood.

    Example:
        >>> try:
        ...     latentjac.load("no such model")
        ... except latentjac.LoadError:
        ...     print("faces" in latentjac.builtin_models())
        True
    """


@contextmanager
def reading() -> Iterator[None]:
    """Turn what is wrong with a file into a :class:`LoadError`."""
    try:
        yield
    except (FileError, OSError) as error:
        raise LoadError(str(error)) from error
