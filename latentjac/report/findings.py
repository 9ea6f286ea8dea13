"""Figures of findings: curves through means with their intervals, points, and maps."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from latentjac.arguments import check_kind
from latentjac.report.extras import picture_of, require_matplotlib
from latentjac.studies import Finding

if TYPE_CHECKING:
    from PIL import Image

    from latentjac.studies import Axes, Curve, Heat

# Told apart by all common kinds of colour vision (Okabe & Ito 2008), without its yellow, which is too faint for lines.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_WIDTH, _HEIGHT = 4.6, 3.7  # of a panel, inches
_MOST_COLUMNS = 3


def finding_figure(finding: Finding) -> Image.Image:
    """The curves of a finding, one panel for each of their axes, its maps, and its sentence below.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If finding is something else.
        ValueError: If the finding has no curves.
    """
    check_kind("finding_figure", "finding", finding, Finding, "a latentjac.studies.Finding")
    require_matplotlib()
    from matplotlib.figure import Figure

    panels: dict[Axes, list[Curve]] = {}
    for curve in finding.curves:
        panels.setdefault(curve.axes, []).append(curve)
    if not panels:
        raise ValueError("finding_figure: finding must have at least one curve, got none")
    count = len(panels) + len(finding.heats)
    across = 2 if count == 4 else min(count, _MOST_COLUMNS)
    down = -(-count // across)
    figure = Figure(figsize=(_WIDTH * across, _HEIGHT * down + 0.6), dpi=120, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for place, (axes, curves) in zip(grid, panels.items(), strict=False):
        _panel(place, axes, curves)
    for place, heat in zip(grid[len(panels) :], finding.heats, strict=False):
        _map(place, heat)
    for place in grid[count:]:
        place.set_axis_off()
    # A line under the figure: what it shows is then never apart from what it says.
    width = round(_WIDTH * across * 13)
    figure.supxlabel(textwrap.fill(finding.sentence, width), fontsize=9, color="#444444", x=0.01, ha="left")
    return picture_of(figure)


def _panel(place: Any, axes: Axes, curves: list[Curve]) -> None:
    for color, curve in zip(_repeated(len(curves)), curves, strict=True):
        label = curve.label or None
        if curve.low is None or curve.high is None:
            place.plot(curve.x, curve.y, "o", color=color, alpha=0.6, markersize=4, markeredgewidth=0, label=label)
            continue
        place.plot(curve.x, curve.y, "o-", color=color, markersize=3.5, linewidth=1.6, label=label)
        place.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.18, linewidth=0)
    if axes.x_log:
        place.set_xscale("log")
    if axes.y_log:
        place.set_yscale("log")
    if axes.falling:
        place.invert_xaxis()
    place.set_xlabel(axes.x, fontsize=9.5)
    place.set_ylabel(axes.y, fontsize=9.5)
    place.set_title(axes.title, fontsize=10.5)
    place.tick_params(labelsize=8.5)
    place.grid(alpha=0.3)
    place.spines[["top", "right"]].set_visible(False)
    if len(curves) > 1:
        place.legend(framealpha=0.75, edgecolor="none", fontsize=8.5)


def _map(place: Any, heat: Heat) -> None:
    image = place.imshow(heat.values, vmin=0, vmax=1, cmap="cividis")
    for ticks, positions in ((place.set_xticks, heat.x), (place.set_yticks, heat.y)):
        ticks(range(len(positions)), [f"{p:.2f}" for p in positions], fontsize=7.5)
    for row, values in enumerate(heat.values):
        for column, value in enumerate(values):
            ink = "white" if value < 0.5 else "black"
            place.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=ink)
    place.set_xlabel(heat.axes.x, fontsize=9.5)
    place.set_ylabel(heat.axes.y, fontsize=9.5)
    place.set_title(heat.axes.title, fontsize=10.5)
    place.figure.colorbar(image, ax=place, shrink=0.85)


def _repeated(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]
