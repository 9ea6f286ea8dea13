"""Is a direction carried to another sample the better, the closer their tangent spaces are?"""

from __future__ import annotations

from dataclasses import replace

import torch

from latentjac.geometry import SampleMean, jackknife, pair_mean, pairs_of, rank_correlation
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.stopping import Bar
from latentjac.studies.curves import curve_of, ends_of, level_axes, stated
from latentjac.studies.finding import Axes, Curve, Finding, columns, study
from latentjac.studies.samples import sample_distances
from latentjac.studies.settings import Settings, check_samples, check_study
from latentjac.studies.tangent_spaces import SPACES, BySpace, TangentSpaces, tangent_spaces
from latentjac.studies.transport_effects import WAYS, TransportEffects, transport_effects

NAME = "transport"
_LEAST_WITHIN = 5  # samples: without one of them there are still 6 distances to rank at a level
_LARGEST_RHO = 0.999999  # its transform is finite
_LABELS = {
    "park2023": "transported",
    "pseudoinverse": "by the pseudo-inverse",
    "unchanged": "unchanged",
    "own": "target's own of this rank",
    "random": "random",
}


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Parallel transport of the strongest directions between samples, against the distance of their tangent spaces.

    The success of carrying v from A to B is the cosine between what a step along the carried direction does to B's
    features and what as long a step along v does to A's. The number is Spearman's rho between it, averaged over the
    directions, and the distance in h-space, over all ordered pairs and levels. Pairs share samples: intervals leave one
    sample out in turn, for rho after Fisher's transform.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there are fewer than 3 samples.
    """
    check_study(NAME, model, settings, progress)
    check_samples(NAME, settings, 3)
    spaces = tangent_spaces(model, settings, NAME, progress)
    distances = sample_distances(spaces)
    total = spaces.samples * len(spaces.levels)
    with Bar("carrying", total, "target", shown=progress) as bar:
        effects = [transport_effects(model, spaces, level, settings, bar) for level in range(len(spaces.levels))]
    return _finding(spaces, distances, effects)


def association(distances: torch.Tensor, success: torch.Tensor) -> SampleMean:
    """Spearman's rho over ordered pairs of N samples, at one level or over several, with its interval.

    Args:
        distances: ``[N, N]`` or ``[N, N, L]``.
        success: The same shape.
    """

    def transformed(kept: torch.Tensor) -> torch.Tensor:
        rho = rank_correlation(pairs_of(distances, kept).flatten(), pairs_of(success, kept).flatten())
        return rho.clamp(-_LARGEST_RHO, _LARGEST_RHO).atanh()

    return jackknife(transformed, len(distances)).map(torch.tanh)


def _finding(spaces: TangentSpaces, distances: BySpace, effects: list[TransportEffects]) -> Finding:
    # Means over directions, [W, N, N, L].
    cosines, sizes = (
        torch.stack([getattr(one, name).mean(-1) for one in effects], -1) for name in ("cosines", "sizes")
    )
    rho = association(distances["h"], cosines[WAYS.index("park2023")])
    better = pair_mean((cosines[WAYS.index("pseudoinverse")] - cosines[WAYS.index("park2023")]).mean(-1))
    holds = float(rho.high) < 0
    cosine, size = (
        {way: f"{float(pair_mean(values[i].mean(-1)).value):.2f}" for i, way in enumerate(WAYS)}
        for values in (cosines, sizes)
    )
    sentence = (
        f"A direction is carried {'better' if holds else 'no better'} to a sample whose tangent space is closer: "
        f"Spearman's rho of distance and success is {stated(rho)} over the pairs of {spaces.samples} samples at "
        f"{len(spaces.levels)} levels. The effects of transported directions have a mean cosine of "
        f"{cosine['park2023']} with those at the source and {size['park2023']} of their size; unchanged directions "
        f"{cosine['unchanged']} and {size['unchanged']}, the target's own {cosine['own']}, random ones "
        f"{cosine['random']}; the pseudo-inverse adds {_small(better)} to the cosine."
    )
    table = columns(_rows(spaces, distances, effects))
    return Finding(NAME, table, _curves(spaces, distances, cosines, sizes), sentence, *ends_of(rho), holds)


def _small(mean: SampleMean) -> str:
    """As :func:`stated`, for numbers of which two digits would show nothing."""
    return f"{float(mean.value):+.4f} [{float(mean.low):+.4f}, {float(mean.high):+.4f}]"


def _curves(spaces: TangentSpaces, distances: BySpace, cosines: torch.Tensor, sizes: torch.Tensor) -> tuple[Curve, ...]:
    everyone, carried = torch.arange(spaces.samples, device="cpu"), cosines[WAYS.index("park2023")]
    scatter = Axes("relative distance in h-space", "cosine of the effects", "transport between all pairs")
    curves = [
        Curve(
            f"t = {t:.2f}",
            scatter,
            tuple(pairs_of(distances["h"][..., i], everyone).tolist()),
            tuple(pairs_of(carried[..., i], everyone).tolist()),
        )
        for i, t in enumerate(spaces.levels)
    ]
    panels = {
        level_axes("cosine of the effects", "means over pairs"): cosines,
        level_axes("size of the effect over the source's", "means over pairs"): sizes,
    }
    for axes, values in panels.items():
        curves += [curve_of(_LABELS[way], axes, spaces.levels, pair_mean(values[i])) for i, way in enumerate(WAYS)]
    if spaces.samples >= _LEAST_WITHIN:
        curves += _within_levels(spaces, distances, carried)
    return tuple(curves)


def _within_levels(spaces: TangentSpaces, distances: BySpace, success: torch.Tensor) -> list[Curve]:
    """Rho at every level by itself, where what levels differ by cannot make it."""
    axes = level_axes("Spearman's rho of distance and success", "pairs of one level")
    curves = []
    for space, label in SPACES.items():
        found = [association(distances[space][..., i], success[..., i]) for i in range(len(spaces.levels))]
        value, low, high = (torch.stack([getattr(rho, name) for rho in found]) for name in ("value", "low", "high"))
        together = replace(found[0], value=value, low=low, high=high)
        curves.append(curve_of(f"distance in {label}", axes, spaces.levels, together))
    return curves


def _rows(spaces: TangentSpaces, distances: BySpace, effects: list[TransportEffects]) -> list[dict]:
    """One row a level, ordered pair, direction and way."""
    n, q = spaces.samples, effects[0].retained.shape[-1]
    return [
        {"t": t, "source": a, "target": b, "direction": i + 1, "way": way}
        | {f"distance_{space}": float(distances[space][a, b, level]) for space in SPACES}
        | {
            "retained": float(effects[level].retained[a, b, i]),
            "cosine": float(effects[level].cosines[w, a, b, i]),
            "size": float(effects[level].sizes[w, a, b, i]),
        }
        for level, t in enumerate(spaces.levels)
        for a in range(n)
        for b in range(n)
        if a != b
        for i in range(q)
        for w, way in enumerate(WAYS)
    ]
