"""Whatever is handed to a public function: a right result, or an error that names the function and the argument."""

from __future__ import annotations

from pathlib import Path

import pytest
from calls.baselines import BASELINES
from calls.sweep import swept
from calls.targets import entry_points
from calls.things import Things

# Cases of which some messages have another form yet, or come after the network ran.
PENDING = (
)  # fmt: skip


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("calls"))


def test_every_function_is_swept() -> None:
    """A new function, constructor or method has no valid call here yet; a new parameter of one is swept by itself."""
    assert {key.partition("/")[0] for key in BASELINES} == {name for name, _ in entry_points()}


@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[pytest.mark.xfail(strict=True)] if key in PENDING else []) for key in BASELINES],
)
def test_every_argument_is_right_or_named(
    things: Things, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # some names are those of files
    faults = [f"{argument} = {value}: {wrong}" for argument, value, wrong in swept(things, key) if wrong]
    assert not faults, f"{len(faults)} of {key}:\n" + "\n".join(faults[:30])
