"""Do directions change coarse structure in noise and fine detail in images?"""

from __future__ import annotations

import torch

from latentjac.geometry import power_spectrum
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.stopping import Bar
from latentjac.studies.curves import ends_of, level_axes, mean_curve, mean_ratio
from latentjac.studies.finding import Finding, columns, study
from latentjac.studies.points import bases_at, followed_points
from latentjac.studies.settings import Settings, check_study

NAME = "coarse-to-fine"


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Spatial frequencies of the directions v of h-space's local basis, over noise levels (Park et al. 2023).

    The number is the ratio of their mean frequency (power-weighted, averaged over the k directions of a sample) at the
    cleanest level to that at the noisiest: the geometric mean over samples.

    Raises:
        TypeError: If an argument has a wrong type.
    """
    check_study(NAME, model, settings, progress)
    points = followed_points(model, settings, progress)
    rows = []
    with Bar(NAME, len(points) * settings.samples, "basis", shown=progress) as bar:
        for point in points:
            for sample, basis in enumerate(bases_at(model, point, settings, bar=bar)):
                spectrum = power_spectrum(basis.v)
                rows += [
                    {
                        "sample": sample,
                        "t": point.t,
                        "direction": i + 1,
                        "s": float(basis.s[i]),
                        "residual": float(basis.residuals[i]),
                        "centroid": float(spectrum.centroid[i]),
                        "below": float(spectrum.below[i]),
                    }
                    for i in range(basis.k)
                ]
    return _finding(columns(rows), [point.t for point in points], settings)


def _finding(table: dict[str, list], levels: list[float], settings: Settings) -> Finding:
    shape = len(levels), settings.samples, settings.k
    centroid, below = (
        torch.tensor(table[name], dtype=torch.float64, device="cpu").reshape(shape).mean(-1).T
        for name in ("centroid", "below")
    )
    number, interval = ends_of(mean_ratio(centroid[:, -1], centroid[:, 0]))
    between = f"between t = {levels[0]:.2f} and t = {levels[-1]:.2f}"
    ends = f"({centroid[:, 0].mean():.3f} to {centroid[:, -1].mean():.3f} cycles per pixel)"
    ratio = f"{number:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]"
    holds = interval[0] > 1
    sentence = (
        f"Directions {'go' if holds else 'do not go'} from coarse to fine: their mean spatial frequency changes by a "
        f"factor of {ratio} {between} {ends}, over {settings.samples} samples."
    )
    curves = (
        mean_curve("mid", level_axes("mean frequency of v (cycles per pixel)"), levels, centroid),
        mean_curve("mid", level_axes("power of v below 0.125 cycles per pixel"), levels, below),
    )
    return Finding(NAME, table, curves, sentence, number, interval, holds)
