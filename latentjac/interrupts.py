"""Ctrl-C that gave a partial result: it ends a loop whose body does not look at how its results ended.

Whoever is interrupted hands back what there is, and leaves a note here. Looking at the result's status takes the note
away. Whoever starts next and finds the note raises ``KeyboardInterrupt``.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any


class _Note(threading.local):
    """Of the thread that was interrupted: the partial result, if it is still there."""

    result: weakref.ref[Any] | None = None


_note = _Note()


def leave(result: object) -> None:
    """Ctrl-C ended the computation of a result, and nobody has seen its status yet."""
    _note.result = weakref.ref(result)


def unseen(result: object) -> bool:
    """Whether Ctrl-C ended the computation of this result, and nobody has seen its status yet."""
    return _note.result is not None and _note.result() is result


def see(result: object) -> None:
    """Somebody looks at the status of a result."""
    if unseen(result):
        _note.result = None


def raise_unseen(function: str) -> None:
    """Raise if Ctrl-C ended something before whose status nobody has seen; once.

    Raises:
        KeyboardInterrupt: If so.
    """
    if _note.result is not None:
        _note.result = None
        raise KeyboardInterrupt(
            f"{function}: not begun, since Ctrl-C interrupted the basis before and nothing has read its status"
        )
