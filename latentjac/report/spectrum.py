"""Plots of singular values and their residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latentjac.arguments import check_kind, check_text
from latentjac.report.extras import picture_of, require_matplotlib
from latentjac.solvers import LocalBasis

if TYPE_CHECKING:
    from PIL import Image


def spectrum_plot(basis: LocalBasis, title: str = "") -> Image.Image:
    """Singular values, and below them the true residual of each triplet against the tolerance.

    Raises:
        ImportError: If matplotlib is not installed.
        TypeError: If an argument has a wrong type.
        ValueError: If the basis holds several points.
    """
    check_kind("spectrum_plot", "basis", basis, LocalBasis, "a LocalBasis")
    if basis.s.ndim != 1:
        raise ValueError(f"spectrum_plot: basis must hold one point, got {basis.points}; take basis.point(i)")
    title = check_text("spectrum_plot", "title", title)
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.4))
    index = range(1, basis.k + 1)
    upper.plot(index, basis.s.tolist(), "o-", color="#2458a6")
    upper.set_ylabel("singular value")
    upper.set_ylim(bottom=0)
    upper.set_title(title, fontsize=11, parse_math=False)
    residuals = [max(r, 1e-16) for r in basis.residuals.tolist()]
    lower.semilogy(index, residuals, "s", color="#a6452e")
    if "tol" in basis.metadata:
        lower.axhline(basis.metadata["tol"], color="grey", linestyle="--", linewidth=1)
        lower.text(1, basis.metadata["tol"] * 1.2, "tolerance", fontsize=8, color="grey")
    lower.set_ylabel("residual")
    lower.set_xlabel("direction")
    lower.xaxis.get_major_locator().set_params(integer=True)
    for axis in (upper, lower):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return picture_of(figure)
