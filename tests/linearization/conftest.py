"""What all tests of the linearization share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from devices import threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Operators this small only wait for a second thread."""
    with threads(1):
        yield
