"""Calls every public function with hostile values in place of each argument, and judges what comes of it.

An argument of a function meets the long table of values once, in the first case that gives it a value of its own (in
the first case of the function where none does). Arguments of which all functions ask the same (``SAME``), and options
that functions hand to the solver (``SOLVER``), meet it in the first such case of all functions. Everywhere else an
argument meets the short table, which has a value of each kind: a check that is missing shows with those. Values derived
from the valid one come in every case.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from calls.baselines import BASELINES
from calls.things import RUNS, Things
from calls.values import PLAIN, SHORT, derived

import latentjac as lj
from latentjac import studies
from latentjac.studies import points

SECONDS = 20  # that no call on such small networks takes
OURS = (FileNotFoundError, IndexError)
WITHOUT_ARGUMENT = (lj.NonFiniteError, lj.ConvergenceError, lj.LoadError)  # what came out, whatever went in
INFINITE = ("gap", "leakage")  # where nothing is known, and where nothing changed inside
# What is right though the rules above say otherwise.
RIGHT = {
    ("rowwise_product", "matrices", "not contiguous"): "documented",
    ("park2023.local_basis", "strict", "True"): "then a network on which its rule does not stop it raises",
    ("BasisPath.__getitem__", "index", "slice"): "as of a tuple",
    **{("Point", "sample", value): "seen where the point is used" for value in ("nan", "inf", "one nan")},
    **{
        (name, "point", "[it]"): "several points give a list"
        for name in BASELINES
        if name.partition("/")[0] in ("edit", "Slider.apply")
    },
    ("masked_basis/several", "point", "our point"): "it holds one sample, and there are two masks",
    ("effective_rank/basis", "operator", "our lin"): "the basis does not fit it, and is named",
    ("Mask", "null_rank", "0"): "then tol has no use, and is named",
    **{("write_json", "content", value): "its own error" for value in ("spiteful", "[spiteful]")},
    **{("load", "source", value): "a network needs a scheduler" for value in ("network",)},
    **{
        (name, argument, value): "as of any operation of torch: looking at values would wait for the GPU at every pass"
        for name, argument in (("Linearization.jvp", "v"), ("Linearization.vjp", "u"))
        for value in ("nan", "inf", "one nan")
    },
    ("Denoiser.output/guided", "x", "huge"): "guidance takes a difference of large values",
    **{
        (name, argument, value): "a function of torch's, which reads no values and can be differentiated"
        for name in ("Model.eps", "Model.x0", "Denoiser.eps", "Denoiser.x0", "Denoiser.output", "Denoiser.predict")
        for argument in ("x", "t")
        for value in ("nan", "inf", "one nan", "subclass")
    },
}
# What only the network can tell: whether directions and k fit features, whether it listens to a direction, and how
# far one changes the picture.
SEEN_LATE = (
    "directions", "k", "sigma", ("Model.linearization", "mask"), ("Slider.make", "change"),
    ("Slider.make", "tolerance"),
)  # fmt: skip
OWN = ("model", "point", "path", "basis", "edited", "lin", "features", "schedule")
SAME = ("model", "point", "generator", "progress", "strict", "bar", "layer", "backend", "precision", "conditioning")
SOLVER = {
    (function, option)
    for function in ("edit", "masked_basis", "null_space", "local_basis", "basis_path", "svd", "effective_rank")
    for option in ("k", "tol", "max_passes", "max_seconds", "block_size", "confirm")
}
CALLED = ("f", "callback", "statistic", "stop", "progress")  # an error of what is called is its own


def own_values(c: Things) -> dict[str, Any]:
    """Objects of ours, each the wrong one nearly everywhere."""
    return {f"our {name}": getattr(c, name) for name in OWN}


@cache
def made(name: str) -> Any:
    return PLAIN[name]()


def hostile(c: Things, valid: Any, long: bool) -> Iterator[tuple[str, Any, bool]]:
    """Values for an argument that has a valid one: names, values, and whether they mean the valid one."""
    for name in PLAIN if long else SHORT:
        yield name, PLAIN[name]() if name in ("iterator", "generator") else made(name), False
    for name, value in own_values(c).items():
        if long or name in ("our model", "our point"):
            yield name, value, False
    yield from derived(valid)


@cache
def long_cases(c: Things) -> dict[tuple[str, str], str]:
    """The case in which each argument of each function meets the long table."""
    found: dict[tuple[str, str], str] = {}
    calls = {key: baseline(c) for key, baseline in BASELINES.items()}
    for key, (_, arguments) in calls.items():
        for argument in arguments:
            found.setdefault(_shared(key, argument), key)
    for key, (function, _) in calls.items():
        for argument in inspect.signature(function).parameters:
            found.setdefault(_shared(key, argument), key)
    return found


def _shared(key: str, argument: str) -> tuple[str, str]:
    name = key.partition("/")[0]
    return "" if argument in SAME else "solver" if (name, argument) in SOLVER else name, argument


def swept(c: Things, key: str) -> Iterator[tuple[str, str, str]]:
    """Argument, name of the value and what is wrong, for every combination; empty where nothing is."""
    function, arguments = BASELINES[key](c)
    name = key.partition("/")[0]
    parameters = inspect.signature(function).parameters
    expected = None if name.endswith(".run") else invoke(function, arguments)
    for argument, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD or ("/" in key and argument not in arguments):
            continue  # what another case of the same function does not give, its first one does
        valid = arguments.get(argument, parameter.default)
        for label, value, same in hostile(c, valid, long_cases(c)[_shared(key, argument)] == key):
            given = {**BASELINES[key](c)[1], argument: value}
            if parameter.kind is parameter.VAR_POSITIONAL:
                given[argument] = (value,)
                same = False
            if not {(name, argument, label), (key, argument, label)} & RIGHT.keys() and not (
                argument in CALLED and callable(value)
            ):
                yield argument, label, judge(name, argument, function, given, expected, same)


def invoke(function: Callable, arguments: Mapping[str, Any]) -> Any:
    positional: list[Any] = []
    named = dict(arguments)
    for argument, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL and argument in named:
            positional = [named.pop(a) for a in before_it(function, argument) if a in named]
            positional += named.pop(argument)
    result = function(*positional, **named)
    return list(result) if inspect.isgenerator(result) else result


def before_it(function: Callable, argument: str) -> list[str]:
    names = list(inspect.signature(function).parameters)
    return names[: names.index(argument)]


def judge(name: str, argument: str, function: Callable, given: Mapping[str, Any], expected: Any, same: bool) -> str:
    """What is wrong with the outcome of a call, or nothing."""
    before = RUNS[0]
    try:
        with limited(), studies_stopped(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = invoke(function, given)
    except Reached:
        return "" if fits_study(given[argument]) else "taken by a study"
    except WITHOUT_ARGUMENT as error:
        return "" if " must " in str(error) else f"refused as {error}"
    except (TypeError, ValueError, *OURS) as error:
        if unnamed(function, name, argument, str(error)) or same:
            return f"refused as {type(error).__name__}: {str(error)[:200]}"
        late = RUNS[0] > before and not {argument, (name, argument)} & set(SEEN_LATE)
        return f"refused after the network ran: {str(error)[:200]}" if late else ""
    except RuntimeError as error:
        if "must be a plain tensor outside differentiation" in str(error) and not unnamed(
            function, name, argument, str(error)
        ):
            return ""
        return f"{type(error).__name__}: {str(error)[:200]}"
    except (Exception, RecursionError, Hung) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    foreign = [str(w.message)[:200] for w in caught if not re.match(r"(\w+|\w+\.\w+): ", str(w.message))]
    if foreign:
        return f"warned: {foreign[0]}"
    if expected is not None and kind_of(result) is not kind_of(expected):
        return f"gave a {type(result).__name__} in place of a {type(expected).__name__}"
    if (where := not_finite(result)) and not function.__module__.startswith("latentjac.kernels"):
        return f"gave NaN or Inf in {where}"
    if same and (where := different(result, expected)):
        return f"gave another result: {where}"
    return ""


def kind_of(result: Any) -> type:
    """Its type; which linearization is made is up to the library."""
    return lj.Linearization if isinstance(result, lj.Linearization) else type(result)


def unnamed(function: Callable, name: str, argument: str, message: str) -> bool:
    """Whether a message does not begin with the function and name the argument.

    Kernels compare shapes and types with those of their first argument and name the one that differs.
    """
    names = {name, name.split(".")[-1], name.split(".")[0]}
    prefix, _, rest = message.partition(": ")
    subjects = [argument]
    if function.__module__.startswith("latentjac.kernels"):
        subjects += inspect.signature(function).parameters
    return prefix not in names or not any(re.search(rf"(?<!['\w]){subject}\b(?!')", rest) for subject in subjects)


class Reached(Exception):
    """A study would begin to compute."""


def fits_study(value: Any) -> bool:
    """Whether a study may begin with this argument."""
    several = isinstance(value, (list, tuple)) and all(isinstance(each, lj.Model) for each in value)
    return several or isinstance(value, (lj.Model, studies.Settings, bool, np.bool_))


@contextmanager
def studies_stopped() -> Iterator[None]:
    """Have studies stop where their first samples would be made; whole ones are run elsewhere."""

    def stop(*given: object, **named: object) -> None:
        raise Reached

    before, points.noise_point = points.noise_point, stop
    try:
        yield
    finally:
        points.noise_point = before


class Hung(BaseException):
    """A call took too long."""


@contextmanager
def limited() -> Iterator[None]:
    def stop(*given: object) -> None:
        raise Hung(f"more than {SECONDS} s")

    # Of the processor's time: what else runs on the machine does not count.
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def parts(value: Any, where: str = "result") -> Iterator[tuple[str, Any]]:
    """The leaves of a result."""
    if isinstance(value, lj.Linearization):
        ones = torch.ones_like(value.x, device=value.x.device)[None]
        yield from ((f"{where}.{name}", leaf) for name, leaf in (("y", value.y), ("jvp", value.jvp(ones))))
    elif hasattr(value, "rmatvec"):  # a linear operator of SciPy's
        yield f"{where}.matvec", value.matvec(np.ones(value.shape[1]))
    elif isinstance(value, (lj.Model, torch.nn.Module)) or callable(value):
        return
    elif dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            if one.name not in ("seconds", "metadata", "native", "schedule"):
                yield from parts(getattr(value, one.name), f"{where}.{one.name}")
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from parts(entry, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, entry in enumerate(value):
            yield from parts(entry, f"{where}[{i}]")
    else:
        yield where, value


def not_finite(result: Any) -> str:
    for where, leaf in parts(result):
        if isinstance(leaf, torch.Tensor) and leaf.device.type != "meta" and leaf.is_floating_point():
            leaf = leaf.float() if leaf.element_size() == 1 else leaf
            bad = torch.isnan(leaf) if where.endswith(INFINITE) else ~torch.isfinite(leaf)
            finite = not bool(bad.any())
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f":
            finite = bool(np.isfinite(leaf).all())
        else:
            finite = not isinstance(leaf, float) or np.isfinite(leaf)
        if not finite:
            return where
    return ""


def different(result: Any, expected: Any) -> str:
    for (where, one), (_, other) in zip(parts(result), parts(expected), strict=True):
        if isinstance(one, torch.Tensor):
            equal = torch.allclose(one.double(), other.double(), rtol=1e-6, atol=1e-9)
        elif isinstance(one, np.ndarray) and one.dtype.kind == "f":
            equal = one.shape == other.shape and np.allclose(one, other, rtol=1e-6, atol=1e-9)
        elif isinstance(one, (int, float, str)):
            equal = one == other or (isinstance(one, float) and abs(one - other) <= 1e-9 + 1e-6 * abs(other))
        else:
            equal = True
        if not equal:
            return where
    return ""
