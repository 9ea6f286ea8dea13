"""What is remembered of operators for later runs."""

from __future__ import annotations

import weakref
from contextlib import suppress
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """One value an operator, for as long as it lives; of one that is not hashable or not weakly referable, none."""

    def __init__(self) -> None:
        self._values: weakref.WeakKeyDictionary[Any, Value] = weakref.WeakKeyDictionary()

    def get(self, operator: Any) -> Value | None:
        """The value, if there is one."""
        with suppress(TypeError):
            return self._values.get(operator)
        return None

    def take(self, operator: Any) -> Value | None:
        """The same, which is forgotten here."""
        with suppress(TypeError):
            return self._values.pop(operator, None)
        return None

    def put(self, operator: Any, value: Value) -> None:
        """Remember a value, if that can be."""
        with suppress(TypeError):
            self._values[operator] = value
