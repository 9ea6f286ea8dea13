"""What is remembered of operators for later runs."""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """One value an operator, for as long as it lives; of one that is not hashable or not weakly referable, none.

    An operator that is a handle of something longer-lived has an attribute ``engine`` for that: the value is then
    that of the engine. Threads may share it.
    """

    def __init__(self) -> None:
        self._values: weakref.WeakKeyDictionary[Any, Value] = weakref.WeakKeyDictionary()
        self._lock = threading.RLock()  # the end of an engine, in the same thread, may call for it too

    def get(self, operator: Any) -> Value | None:
        """The value, if there is one."""
        with self._lock, suppress(TypeError):
            return self._values.get(_engine(operator))
        return None

    def take(self, operator: Any) -> Value | None:
        """The same, which is forgotten here."""
        with self._lock, suppress(TypeError):
            return self._values.pop(_engine(operator), None)
        return None

    def put(self, operator: Any, value: Value) -> None:
        """Remember a value, if that can be."""
        with self._lock, suppress(TypeError):
            self._values[_engine(operator)] = value


def _engine(operator: Any) -> Any:
    engine = getattr(operator, "engine", None)
    return operator if engine is None else engine
