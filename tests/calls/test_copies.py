"""What calls hand out, and what they raise, can be sent to another process and copied."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from calls.baselines import BASELINES
from calls.sweep import different, invoke
from calls.things import Things

import latentjac

# What belongs to a process, and why; whoever tries is told at once.
BOUND = {
    **dict.fromkeys(
        ("linearization_at", "linearize", "linearize/autodiff", "Model.linearization", "Linearization.at",
         "ProgramLinearization.at", "Linearization.restrict", "Linearization.to_scipy"),
        "holds a trace",
    ),
    **dict.fromkeys(("FeatureMap", "FeatureMap.at", "Model", "Model.feature_map"), "of a function without a name"),
    "attention_primal": "holds addresses",
}  # fmt: skip
WAYS: dict[str, Callable] = {"pickle": lambda result: pickle.loads(pickle.dumps(result)), "deepcopy": copy.deepcopy}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Things:
    return Things(tmp_path_factory.mktemp("copies"))


def test_results_are_the_same_in_another_place(things: Things) -> None:
    wrong = {}
    for key, baseline in BASELINES.items():
        if key.endswith(".run"):  # findings of studies are made of the same
            continue
        function, arguments = baseline(things)
        result = invoke(function, arguments)
        for name, way in WAYS.items():
            try:
                found = different(way(result), result)
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if found:
                wrong[f"{key}, {name}"] = found
    unexpected = {which: found for which, found in wrong.items() if which.partition(", ")[0] not in BOUND}
    assert not unexpected, "\n".join(f"{which}: {found}" for which, found in unexpected.items())
    assert {f"{key}, pickle" for key in BOUND} <= {*wrong}, "they can be sent by now"
    assert all(found.startswith(("TypeError", "AttributeError", "PicklingError")) for found in wrong.values())


def errors() -> Iterator[type[BaseException]]:
    """Every public exception."""
    for name in latentjac.__all__:
        thing = getattr(latentjac, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            yield thing


@pytest.mark.parametrize("kind", list(errors()))
def test_errors_are_the_same_in_another_place(things: Things, kind: type[BaseException]) -> None:
    """Or a pool of processes would break at the first one."""
    rest: list[Any] = [things.basis] if kind is latentjac.ConvergenceError else []
    error = kind("what was wrong", *rest)
    for way in WAYS.values():
        again = way(error)
        assert (type(again), str(again)) == (kind, "what was wrong")
        assert not rest or not different(again.basis, error.basis)
