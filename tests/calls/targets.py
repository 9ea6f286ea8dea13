"""What is called: every public function, constructor and method."""

from __future__ import annotations

import enum
import importlib
import inspect
from collections.abc import Callable, Iterator

from latentjac import papers, studies
from latentjac.diffusion.grids import GRIDS
from latentjac.diffusion.ode_solvers import SOLVERS

PACKAGES = ("diffusion", "editing", "geometry", "kernels", "linearization", "models", "report", "solvers", "studies")
PAPERS = tuple(papers.__all__)  # whose functions are called by the name of the paper and their own
# What the library makes and hands out: nobody calls these by hand.
MADE = {
    "Along", "Applied", "ArrayBasis", "ArrayOperator", "AttentionPrimal", "AutodiffLinearization", "Axes", "BasisPath",
    "BuildInfo", "Carried", "Carry", "Certificate",
    "Certificate.of", "Conditioning.__getitem__", "Curvature", "Curve", "Denoiser", "Edit", "EffectiveRank",
    "Estimate", "FeatureLinearity", "Finding", "Frames", "FrechetMean", "GlobalDirections", "Guided", "GuidedByImage",
    "Heat", "ImageEncoder", "ImageEncoder.encode", "ImageEncoder.without_picture", "Model.picture_in", "Way.read",
    "JacobiEigh", "JacobiSvd", "JointLinearization", "LatentCodec", "LinearOperator", "Linearity", "Linearization",
    "Linearization.rebase", "LocalBasis", "MatchedMean", "Method", "NormActPrimal", "PathMeasure", "PixelCodec",
    "PowerSpectrum", "Prediction", "PreparedImage", "PrincipalComponents", "ProgramLinearization", "Restrictable",
    "Row", "SampleMean", "Schedule.nearest", "SelfTest", "Slider.check_model",
    "SolverState", "SoundCodec", "SparseDirections", "Study",
    "SubspaceDistance", "T5TextEncoder", "TextEncoder", "Trajectory", "Transport", "VideoCodec", "VideoLatentCodec",
    "Way", "XSpaceMethod",
}  # fmt: skip
# Of methods of edits, whom `edit` calls, of what carries sliders, and of grids and solvers, whom a schedule and its
# loops call.
CALLED_BY_EDIT = {
    "check_size",
    "enough_steps",
    "layer_in",
    "longest_step",
    "outside",
    "samples_between",
    "steps",
    "walk",
}
CALLED_BY_SLIDER = {"carry", "prepare"}
CALLED_BY_SCHEDULE = {"down", "place", "up"}


def targets() -> Iterator[tuple[str, Callable]]:
    """Every public function, constructor and method: name and itself."""
    seen = set()
    homes = ("latentjac", *(f"latentjac.{name}" for name in PACKAGES), *(f"latentjac.papers.{name}" for name in PAPERS))
    for home in homes:
        module = importlib.import_module(home)
        for name in module.__all__:
            thing = getattr(module, name)
            if id(thing) in seen or not callable(thing) or (inspect.isclass(thing) and _not_called(thing)):
                continue
            seen.add(id(thing))
            if not inspect.isclass(thing):
                yield (f"{home.split('.')[-1]}.{name}" if home.startswith("latentjac.papers") else name), thing
                continue
            if name not in MADE:
                yield name, thing
            if not getattr(thing, "_is_protocol", False):
                yield from _methods(name, thing)


def _not_called(thing: type) -> bool:
    return issubclass(thing, (BaseException, enum.Enum))


def _methods(owner: str, kind: type) -> Iterator[tuple[str, Callable]]:
    for name in dir(kind):
        method = inspect.getattr_static(kind, name)
        own = not name.startswith("_") or name in ("__getitem__", "__call__")
        if own and (inspect.isfunction(method) or isinstance(method, (classmethod, staticmethod))):
            called_by_edit = name in CALLED_BY_EDIT and hasattr(kind, "samples_between")
            called_by_slider = name in CALLED_BY_SLIDER and hasattr(kind, "carry")
            called_by_schedule = name in CALLED_BY_SCHEDULE and kind in (*SOLVERS, *GRIDS)
            called = called_by_edit or called_by_slider or called_by_schedule
            if name in vars(kind) and f"{owner}.{name}" not in MADE and not called:
                yield f"{owner}.{name}", getattr(kind, name)


def entry_points() -> Iterator[tuple[str, Callable]]:
    """All targets, and the studies, which a table names."""
    yield from targets()
    for name, each in studies.STUDIES.items():
        yield f"{name}.run", each.run
