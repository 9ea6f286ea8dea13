"""Does the influence of text fade as noise falls?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import torch

from latentjac.geometry import SampleMean, pair_mean, sample_mean
from latentjac.models import Model
from latentjac.public import public_as
from latentjac.shaped import Shaped
from latentjac.stopping import Bar
from latentjac.studies.curves import constant_curve, curve_of, ends_of, in_both_spaces, level_axes
from latentjac.studies.finding import Curve, Finding, columns, study
from latentjac.studies.points import bases_at, followed_points
from latentjac.studies.settings import Settings, check_samples, check_study
from latentjac.studies.tangent_spaces import SPACES, BySpace, relative_distances, unrelated_distance

NAME = "prompts"
EMPTY = ""


@dataclass(frozen=True, repr=False)
class PromptDistances(Shaped):
    """Distances between tangent spaces at each of L levels, relative to the largest possible.

    Attributes:
        levels: Noise levels as they are on the grid, fractions of T.
        prompts: P texts.
        of_prompts: For each space, all pairs of prompts at one of N samples, ``[N, P, P, L]``.
        of_samples: For each space, all pairs of samples under the empty text, ``[N, N, L]``.
        unrelated: Mean distance of random subspaces of x-space.
    """

    levels: list[float]
    prompts: tuple[str, ...]
    of_prompts: BySpace
    of_samples: BySpace
    unrelated: SampleMean

    def rows(self) -> list[dict[str, Any]]:
        """One row a pair: of prompts at one sample, then of samples under the empty text."""
        samples, pairs = range(len(self.of_samples.x)), list(combinations(range(len(self.prompts)), 2))
        own = {(i, a, b): (i, i, self.prompts[a], self.prompts[b]) for i in samples for a, b in pairs}
        others = {(i, j): (i, j, EMPTY, EMPTY) for i, j in combinations(samples, 2)}
        return [
            {"t": t}
            | dict(zip(("sample", "other_sample", "prompt", "other_prompt"), place, strict=True))
            | {f"distance_{space}": float(tables[space][index][level]) for space in SPACES}
            for level, t in enumerate(self.levels)
            for tables, places in ((self.of_prompts, own), (self.of_samples, others))
            for index, place in places.items()
        ]


@public_as(NAME)
@study(NAME)
def run(model: Model, settings: Settings, progress: bool = False) -> Finding:
    """Distances of the tangent spaces of one sample under two prompts, over noise levels (Park et al. 2023).

    Samples are generated under the empty text, without guidance; their bases are computed under every prompt. Distances
    are relative to the largest possible, in x-space and in h-space. The number is the change of the mean distance in
    x-space from the noisiest to the cleanest level; samples are independent, and its interval is Student's over them,
    for the prompts as given. Distances between samples under the empty text are there to compare with.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If the model has no text, or there are fewer than 3 samples.
    """
    check_study(NAME, model, settings, progress)
    if model.text is None:
        raise ValueError(f"{NAME}: model must be conditioned on text, got {model.name!r}, which is not")
    check_samples(NAME, settings, 3)
    return finding_of(prompt_distances(model, settings, progress))


def prompt_distances(model: Model, settings: Settings, progress: bool = False) -> PromptDistances:
    """Bases of all samples at all levels under every prompt and the empty text, compared level by level."""
    points = followed_points(model, settings, progress)
    texts = {text: model.conditioning(text) for text in (EMPTY, *settings.prompts)}
    of_prompts: dict[str, list[torch.Tensor]] = {space: [] for space in SPACES}
    of_samples: dict[str, list[torch.Tensor]] = {space: [] for space in SPACES}
    total = len(points) * len(texts) * settings.samples
    with Bar(NAME, total, "basis", shown=progress) as bar:
        for point in points:
            bases = {
                text: bases_at(model, replace(point, conditioning=encoded), settings, bar=bar)
                for text, encoded in texts.items()
            }
            of_each_sample = list(zip(*(bases[prompt] for prompt in settings.prompts), strict=True))
            for space in SPACES:
                of_prompts[space].append(torch.stack([relative_distances(b, space) for b in of_each_sample]))
                of_samples[space].append(relative_distances(bases[EMPTY], space))
    return PromptDistances(
        [point.t for point in points],
        settings.prompts,
        BySpace.of(lambda space: torch.stack(of_prompts[space], dim=-1)),
        BySpace.of(lambda space: torch.stack(of_samples[space], dim=-1)),
        unrelated_distance(bases[EMPTY], "x", settings.seed),
    )


def finding_of(distances: PromptDistances) -> Finding:
    """What the distances say; it holds if those of prompts surely fall in both spaces."""
    levels, prompts = distances.levels, len(distances.prompts)
    own: list[Curve] = []
    others: list[Curve] = []
    changes: dict[str, SampleMean] = {}
    a, b = torch.triu_indices(prompts, prompts, 1, device="cpu")
    for space, label in SPACES.items():
        axes = level_axes("relative geodesic distance", label)
        means = distances.of_prompts[space][:, a, b].mean(1)
        own.append(curve_of("one sample, two prompts", axes, levels, sample_mean(means)))
        others.append(curve_of("two samples, empty text", axes, levels, pair_mean(distances.of_samples[space])))
        changes[space] = sample_mean(means[:, -1] - means[:, 0])
    x_axes = own[0].axes
    others.append(constant_curve("random subspaces", x_axes, levels, distances.unrelated))
    holds = all(float(change.high) < 0 for change in changes.values())
    sentence = (
        f"The influence of text on tangent spaces {'fades' if holds else 'does not surely fade'} as noise falls: from "
        f"t = {levels[0]:.2f} to t = {levels[-1]:.2f} the mean relative distance under two prompts goes from "
        + in_both_spaces(own, changes)
        + f", over {len(distances.of_samples.x)} samples and {prompts} prompts; that of two samples under the empty "
        f"text goes from {others[0].y[0]:.2f} to {others[0].y[-1]:.2f} in x-space."
    )
    return Finding(NAME, columns(distances.rows()), (*own, *others), sentence, *ends_of(changes["x"]), holds)
