"""Items under way through the steps of a run, and what every step of a run has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from PIL import Image

from latentjac.batch.items import Item
from latentjac.batch.parts import Result
from latentjac.diffusion import Point, Trajectory
from latentjac.models import Conditioning, Model
from latentjac.solvers import LocalBasis, Status

if TYPE_CHECKING:
    from latentjac.batch.masks import OwnMask

OK, NOT_CONVERGED, ERROR, SKIPPED = "ok", "not converged", "error", "skipped"

Place = tuple[float, str]  # t and layer of a basis


@dataclass
class Work:
    """An item under way.

    Attributes:
        item: The item.
        picture: Its photo at the model's size; None for items that are generated.
        at: The point at a fraction of T, once there is a trajectory.
        paths: Its trajectories, if it has a photo, each with what it was to be inverted under: that of the first step,
            and others that sliders took.
        bases: The bases found so far.
        masks: Its own masks, by the columns that name them.
    """

    item: Item
    picture: Image.Image | None
    at: Callable[[float], Point] | None = None
    paths: list[tuple[Conditioning, Trajectory]] = field(default_factory=list)
    bases: dict[Place, LocalBasis] = field(default_factory=dict)
    masks: dict[str, OwnMask] = field(default_factory=dict)


class Task(Protocol):
    """A step of a run.

    Attributes:
        place: Columns that tell its rows from those of other steps.
        together: Whether it gains from several items at once.
    """

    place: dict[str, Any]
    together: ClassVar[bool]

    def ready(self, work: Work) -> bool:
        """Whether what it needs of earlier steps is there."""
        ...

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Do it for some items; a result for each, in order."""
        ...


def point_of(work: Work, t: float) -> Point:
    """The point of an item at a fraction of T."""
    assert work.at is not None  # a task is not run before it is ready
    return work.at(t)


def under(options: dict[str, Any], works: Sequence[Work]) -> dict[str, Any]:
    """Options with the prompts and classes that items have of their own; all or none of them have."""
    found = dict(options)
    items = [work.item for work in works]
    if items[0].prompt is not None:
        found["prompt"] = [item.prompt for item in items]
    if items[0].label is not None:
        found["class_label"] = [item.label for item in items]
    return found


def alike(works: Sequence[Work]) -> list[list[int]]:
    """Which items can start together: photos or seeds, of which all or none have a prompt, and a class."""
    found: dict[tuple[bool, ...], list[int]] = {}
    for i, work in enumerate(works):
        item = work.item
        found.setdefault((work.picture is None, item.prompt is None, item.label is None), []).append(i)
    return list(found.values())


def split(path: Trajectory) -> list[Trajectory]:
    """The trajectory of each of several pictures."""
    rows = [slice(i, i + 1) for i in range(len(path.reconstruction))]
    return [
        replace(
            path,
            samples=path.samples[:, row],
            reconstruction=path.reconstruction[row],
            psnr=path.psnr[row],
            status=path.status[row],
            error=path.error[row],
            conditioning=path.conditioning.rows(row),
        )
        for row in rows
    ]


def ended(status: Status | None, expected: str, basis: LocalBasis | None = None) -> dict[str, Any]:
    """Status and error of what is, or is built on, a basis that ended so."""
    if status is None or status.fine:
        return {"status": OK}
    worst = "" if basis is None else f" {basis.residuals.max().item():.1e}"
    return {"status": NOT_CONVERGED, "error": f"{expected}{worst} ({status.value})"}
