"""What a study finds: rows that were measured, curves through their means, and one number with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentjac.solvers import Status


@dataclass(frozen=True)
class Axes:
    """What a figure's panel shows; curves with equal axes share one.

    Attributes:
        x: Label of the horizontal axis, with its unit.
        y: Label of the vertical axis, with its unit.
        title: Above the panel.
        x_log: Logarithmic horizontally.
        y_log: Logarithmic vertically.
        falling: The horizontal axis falls to the right, as noise levels do from noise to image.
    """

    x: str
    y: str
    title: str = ""
    x_log: bool = False
    y_log: bool = False
    falling: bool = False


@dataclass(frozen=True)
class Curve:
    """Means with their 95% intervals over samples, or, without ``low`` and ``high``, points that are drawn as they are.

    Attributes:
        label: In the legend; empty for none.
        axes: Where it is drawn.
        x: Positions.
        y: Means, or the points.
        low: Lower ends of the intervals.
        high: Upper ends.
    """

    label: str
    axes: Axes
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Heat:
    """Means over two positions, drawn as a map in a panel of its own.

    Attributes:
        axes: Labels and title; ``falling`` holds for both axes.
        x: C positions.
        y: R positions.
        values: R rows of C parts of 1, which decide on the colours.
    """

    axes: Axes
    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Finding:
    """The outcome of a study.

    Attributes:
        name: Of the study.
        table: Columns of equal length, one row a measurement: what the statistics are made from.
        curves: What the figure shows.
        sentence: The finding in one sentence, with the number and its interval, whether it holds or not.
        number: The main number.
        interval: Its 95% interval over samples.
        holds: Whether the interval supports the finding that the study is about.
        heats: Maps that the figure shows behind the curves.
        status: How the bases ended that the study is made from: the worst of them; None without bases.

    Raises:
        ValueError: If columns differ in length or the interval does not hold the number.
    """

    name: str
    table: dict[str, list[Any]] = field(repr=False)
    curves: tuple[Curve, ...] = field(repr=False)
    sentence: str
    number: float
    interval: tuple[float, float]
    holds: bool
    heats: tuple[Heat, ...] = field(default=(), repr=False)
    status: Status | None = None

    def __post_init__(self) -> None:
        lengths = {column: len(values) for column, values in self.table.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Finding: table must have columns of equal length, got {lengths}")
        if not self.interval[0] <= self.number <= self.interval[1]:
            raise ValueError(f"Finding: interval must hold the number {self.number}, got {list(self.interval)}")

    @property
    def summary(self) -> dict[str, list[Any]]:
        """Means and intervals of all curves that have them, as columns of equal length."""
        rows = [
            {"title": c.axes.title, "quantity": c.axes.y, "curve": c.label, "x": x, "mean": y, "low": low, "high": high}
            for c in self.curves
            if c.low is not None and c.high is not None
            for x, y, low, high in zip(c.x, c.y, c.low, c.high, strict=True)
        ]
        return columns(rows)


def study(name: str) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    """A function that makes a finding, as the study of a name.

    Ctrl-C ends it, also while a basis is computed; bases that did not converge are warnings of the study, and the
    worst status is that of the finding.
    """

    def decorate(run: Callable[..., Finding]) -> Callable[..., Finding]:
        @wraps(run)
        def reported(*args: Any, **kwargs: Any) -> Finding:
            from latentjac.solvers.building import building  # imports torch, which names of studies do not need

            with building(f"study {name}") as built:
                finding = run(*args, **kwargs)
            return replace(finding, status=built.status)

        return reported

    return decorate


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """A table as columns, from rows with the same keys."""
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
