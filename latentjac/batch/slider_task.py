"""Sliders of a run, for several items at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

from latentjac.batch.masks import masks_for
from latentjac.batch.parts import Result
from latentjac.batch.slider_spec import SliderOf
from latentjac.batch.spec import Spec
from latentjac.batch.work import NOT_CONVERGED, Work, alike, ended, point_of, split, under
from latentjac.diffusion import Point, Trajectory, invert
from latentjac.editing import Applied, Slider
from latentjac.editing.applying import inversion_to, missed_change
from latentjac.models import Model

_UNDER = ("prompt", "negative_prompt", "guidance_scale", "class_label")


def leading_slider(spec: Spec) -> Slider | None:
    """The slider whose inversion photos begin with: the first, where nothing else of the spec takes another one."""
    if not spec.sliders or spec.invert or spec.bases is not None or spec.edits:
        return None
    return Slider.load(spec.sliders[0].slider)


def invert_as(model: Model, slider: Slider, works: Sequence[Work], asked: dict[str, Any]) -> Trajectory:
    """Photos inverted as the one was that a slider was made with.

    Args:
        model: The model.
        slider: The slider; its conditioning is that of items without a prompt and a class.
        works: Items with photos, all or none of which have a prompt, and a class.
        asked: Options of the inversion of a spec, some of which go with prompts and classes of items.
    """
    if works[0].item.is_told:
        told = under({name: asked[name] for name in _UNDER if name in asked}, works)
    else:
        told = {"conditioning": slider.conditioning.to(model.device)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pictures that were not found again; their rows tell
        return invert(
            model,
            [work.picture for work in works if work.picture is not None],
            **inversion_to(model, slider.schedule),
            **told,
        )


class SliderWith:
    """A slider applied to several items side by side."""

    together: ClassVar[bool] = True

    def __init__(self, number: int, entry: SliderOf, asked: dict[str, Any]) -> None:
        self._number, self._entry, self._asked = number, entry, asked
        self._slider = Slider.load(entry.slider)
        self.place = {"step": "slider", "number": number, "t": entry.t, "slider": entry.name}

    def ready(self, work: Work) -> bool:
        """Once there is a trajectory."""
        return work.at is not None

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Apply it; the row of an item that it could not change as stated tells so."""
        entry = self._entry
        points = self._points(model, works)
        photos = [work.picture if entry.residual else None for work in works]
        options: dict[str, Any] = {"calibrate": entry.calibrate, "carry": entry.built()}
        options["mask"] = None if entry.mask is None else masks_for(entry.mask, model, works)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of changes that were not reached; the row tells
            applied = self._slider.apply(model, points, entry.values, photo=photos, **options)
        assert isinstance(applied, list)
        return [self._told(*row) for row in zip(works, points, applied, strict=True)]

    def _points(self, model: Model, works: Sequence[Work]) -> list[Point]:
        """The point of each item; photos that were not inverted as that of the slider are now."""
        left = [work for work in works if work.picture is not None and self._path(work) is None]
        for group in alike(left):
            some = [left[i] for i in group]
            paths = split(invert_as(model, self._slider, some, self._asked))
            for work, path in zip(some, paths, strict=True):
                work.paths.append((self._slider.conditioning, path))
        return [self._point(work) for work in works]

    def _path(self, work: Work) -> Trajectory | None:
        """The trajectory that the slider takes, if there is one already."""
        slider, own = self._slider, work.item.is_told
        fitting = ((told, path) for told, path in work.paths if path.schedule == slider.schedule)
        return next((path for told, path in fitting if own or told == slider.conditioning), None)

    def _point(self, work: Work) -> Point:
        path, slider = self._path(work), self._slider
        if path is None:
            return point_of(work, slider.t)
        return path.at(timestep=slider.schedule.timesteps[slider.level])

    def _told(self, work: Work, point: Point, applied: Applied) -> Result:
        edit, path = applied.edit, self._path(work)
        facts = {
            "timestep": float(point.timestep),
            "inversion": None if path is None else path.status[0].value,
            "layer": edit.layer,
            "method": self._entry.method,
            "values": list(applied.values),
            "distance": list(edit.distances),
            "changes": applied.changes.tolist(),
            "calibrated": list(applied.calibrated),
            "linear": None if applied.linear is None else list(applied.linear),
            "leakage": None if edit.leakage is None else edit.leakage.flatten().tolist(),
            "retained": applied.retained,
            "num_steps": edit.num_steps,
            "linear_up_to": None if edit.linearity is None else [found.radius for found in edit.linearity],
            "path": None if edit.along is None else edit.along.path.flatten().tolist(),
            **ended(edit.status, "slider: every basis must converge, got one that did not"),
            **self._reached(applied),
        }
        names = [f"slider{self._number}_{value:+g}" for value in applied.values]
        return Result(facts, pictures=list(zip(names, edit.images, strict=True)))

    def _reached(self, applied: Applied) -> dict[str, Any]:
        """Status and error of values that do not have their change."""
        missed = missed_change(applied, self._slider.change) if self._entry.calibrate else None
        if missed is None:
            return {}
        return {"status": NOT_CONVERGED, "error": f"slider: values must have their change, got {missed}"}
