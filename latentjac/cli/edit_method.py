"""The method of an edit, as flags describe it: a flag is a field of one of the methods, or of what a method holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from latentjac.cli.refusals import OPTIONS, Refusal, refusing
from latentjac.cli.values import refusal
from latentjac.edit_options import METHODS

if TYPE_CHECKING:
    from latentjac.editing import Method

# Names of --compat, and the classes that they mean, of modules of latentjac.papers that have the names.
PAPERS = {"park2023": "Walk"}
_KINDS = {
    **{f"--method {name}": kind for name, kind in METHODS.items()},
    **{f"--compat {name}": kind for name, kind in PAPERS.items()},
    "--reestimate": "Reestimation",
    "--mask": "Mask",
}
_FLAGS = {**OPTIONS, "prompt": "--edit-prompt", "every": "--reestimate"}


def build_method(method: str, compat: str | None, given: Mapping[str, Any]) -> Method:
    """The method with its options; raise where a flag was given that it does not have.

    Args:
        method: One of ``METHODS``.
        compat: One of ``PAPERS``, which comes before the method, or None.
        given: What each flag holds, by the name of its field; a flag that was not typed holds the field's default.
    """
    from latentjac import editing

    kind = _class_of(METHODS[method] if compat is None else PAPERS[compat])
    options = dict(given)
    with refusing(**_FLAGS):
        if kind is editing.Guidance and options["reestimate"] is not None:
            options["reestimate"] = editing.Reestimation(options["reestimate"], k=options.pop("k"))
        own = defaults_of(kind)
        for name in options.keys() - own.keys():
            check_left_alone(name, options.pop(name))
        return kind(**{name: value for name, value in options.items() if value is not None})


def check_left_alone(name: str, value: Any) -> None:
    """Raise unless a flag holds the default of the field of its name: what it is for is not there."""
    owners = {flag: known for flag, kind in _KINDS.items() if name in (known := defaults_of(_class_of(kind)))}
    usual = next(known[name] for known in owners.values())
    if value != usual:
        left = "left out" if usual is None or usual is False else f"left at {usual}"
        raise refusal(_FLAGS[name], f"{left} unless {' or '.join(owners)} is given", value)


def check_mask_flags(method: Method, masked: bool, given: Mapping[str, Any]) -> None:
    """Raise where a flag of the mask was given, and there is none, or the method takes nothing out of its steps."""
    for name, value in given.items():
        if not masked:
            check_left_alone(name, value)
        elif value is not None and not method.projects:
            raise Refusal(f"{_FLAGS[name]} must be left out with --method {name_of(method)}, got {value}")
    typed = {_FLAGS[name]: value for name, value in given.items() if value is not None}
    if len(typed) > 1:
        first, second = typed
        raise refusal(second, f"left out with {first}", typed[second])


def _class_of(kind: str) -> type:
    """The class of a name, of one of the papers or of ``latentjac.editing``."""
    from latentjac import editing, papers

    home = next((getattr(papers, paper) for paper, own in PAPERS.items() if own == kind), editing)
    return getattr(home, kind)


def defaults_of(kind: type) -> dict[str, Any]:
    """Names and defaults of the options of a method."""
    return {field.name: field.default for field in fields(kind)}


def name_of(method: Method) -> str:
    """What a method is called on the command line."""
    kind = type(method).__name__
    return next((name for name, own in {**METHODS, **PAPERS}.items() if own == kind), kind)
