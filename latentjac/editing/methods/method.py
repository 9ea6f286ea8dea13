"""What every method of an edit is given, what it has to answer, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from tqdm import tqdm

from latentjac.diffusion import Point, Schedule
from latentjac.editing.arguments import check_composed, unit_directions
from latentjac.editing.masks import Mask
from latentjac.editing.questions import Asking
from latentjac.editing.result import Edit, Walked
from latentjac.models import Model
from latentjac.stopping import Bar


@dataclass(frozen=True)
class Job:
    """An edit to be made, whose arguments were checked as far as they do not depend on the method.

    Attributes:
        model: The model.
        point: Where; one sample.
        schedule: The levels below the point.
        level: Level of the point.
        directions: As they were given: of the shape and length that the caller chose.
        distances: Signed distances.
        compose: Go along all directions at once.
        mask: Where the edit is meant to be, on the model's device, or None.
        progress: Show a progress bar.
        outside: Directions ``[r, C, H, W]`` that no step may take, where they are known already; None to compute those
            of the mask.
    """

    model: Model
    point: Point
    schedule: Schedule
    level: int
    directions: torch.Tensor = field(repr=False)
    distances: tuple[float, ...]
    compose: bool = False
    mask: Mask | None = None
    progress: bool = False
    outside: torch.Tensor | None = field(default=None, repr=False)

    def point_under(self, prompt: str | None, class_label: int | None = None) -> Point:
        """The point under a prompt or a class; as it is without one."""
        if prompt is None and class_label is None:
            return self.point
        return self.point.with_prompt(self.model, prompt, class_label=class_label)

    def rows(self, like: torch.Tensor) -> torch.Tensor:
        """Unit directions ``[q, ...]`` with the shape, type and device of one row of ``like``.

        Raises:
            ValueError: If they do not fit, or directions are composed and there is not one distance for each.
        """
        rows = unit_directions(self.directions, like)
        check_composed(rows, self.distances, self.compose)
        return rows

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise at the point."""
        return self.schedule.noises[self.level]

    def bar(self, total: int) -> tqdm:
        """A progress bar of so many steps."""
        return Bar("edit", total, shown=self.progress)


@runtime_checkable
class Method(Protocol):
    """A way to edit: a frozen dataclass whose fields are its options, checked when it is made.

    Attributes:
        unit: Of the distances.
        in_features: Whether directions are of the layer's output, as ``basis.u`` is, or of samples, as ``basis.v`` is.
        projects: Whether a mask's null space is taken out of its steps.
    """

    unit: ClassVar[str]
    in_features: ClassVar[bool]
    projects: ClassVar[bool]

    def layer_in(self, model: Model) -> str:
        """The feature map that it uses and measures.

        Raises:
            ValueError: If the network has no such layer.
        """
        ...

    def walk(self, job: Job) -> Walked | Asking[Walked]:
        """Make the edit, up to clean samples.

        As a generator of questions to the network it goes on together with edits of other samples.

        Raises:
            ValueError: If the job does not fit; before the network runs, where that can be known.
        """
        ...

    def samples_between(self, job: Job, edit: Edit, direction: int, distances: list[float], bar: tqdm) -> torch.Tensor:
        """Clean samples ``[n, C, H, W]`` at other distances along a direction of an edit that it made.

        Args:
            job: Model and point of the edit.
            edit: The edit.
            direction: Index of the direction; 0 for composed ones.
            distances: n of them; of composed directions parts of the way, from 0 to 1.
            bar: Progress bar to update once a level.

        Raises:
            ValueError: If its edits do not keep what this takes.
        """
        ...


def check_method(function: str, method: Any) -> Method:
    """The method; raise unless it is one, and not its class."""
    if isinstance(method, type) or not isinstance(method, Method):
        got = f"the class {method.__name__}" if isinstance(method, type) else type(method).__name__
        raise TypeError(f"{function}: method must be a method of latentjac.editing such as Guidance(), got {got}")
    return method
