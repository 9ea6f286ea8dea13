"""Where the direction of a slider comes from: a basis of the photo, a saved one, words, or two pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

import latentjac
from latentjac.cli import checks, stages
from latentjac.cli.inversion import Inversion
from latentjac.cli.photo import Picture, read_photo
from latentjac.cli.refusals import Refusal, refusing
from latentjac.cli.run_folder import RunFolder
from latentjac.cli.saved_basis import check_basis, open_basis, place_of_basis
from latentjac.cli.values import refusal
from latentjac.editing import Mask, Method, pair_direction, word_direction
from latentjac.editing.masks import OUTPUT_LAYERS


class Found(NamedTuple):
    """A direction, and the basis of samples that it is one of, if there is one."""

    direction: torch.Tensor
    others: latentjac.LocalBasis | None = None


@dataclass(frozen=True)
class Site:
    """Where a direction is looked for.

    Attributes:
        model: The model.
        how: How photos are inverted.
        t: Fraction of T.
        place: The feature map.
        method: How the slider walks.
        mask: Where it is meant to act.
    """

    model: latentjac.Model
    how: Inversion
    t: float
    place: checks.Place
    method: Method
    mask: Mask | None

    @property
    def part(self) -> torch.Tensor | None:
        """The part of the output whose basis is wanted; None for all of it."""
        return None if self.mask is None or self.place.layer not in OUTPUT_LAYERS else self.mask.pixels

    @property
    def triplets(self) -> int:
        """How many directions there are."""
        part = self.part
        return self.place.triplets if part is None else self.model.sample_shape[0] * int(part.sum())


class Source(Protocol):
    """Where a direction comes from; its methods are called in this order, and raise what was typed wrongly.

    Attributes:
        of_samples: Whether directions are those of samples, never of features.
        layer: The feature map that it belongs to, if it is a saved one.
    """

    of_samples: bool
    layer: str | None

    def place(self, steps: int | None, t: float | None) -> tuple[int | None, float | None]:
        """Steps of the grid and noise level, where it has some of its own."""
        ...

    def read(self) -> None:
        """Read its pictures."""
        ...

    def check(self, site: Site) -> None:
        """Whether there is such a direction."""
        ...

    def find(self, run: RunFolder, inverted: stages.Inverted, site: Site) -> Found:
        """The direction at a photo."""
        ...


class _Source:
    """A source with nothing of its own."""

    of_samples = False
    layer: str | None = None

    def place(self, steps: int | None, t: float | None) -> tuple[int | None, float | None]:
        return steps, t

    def read(self) -> None:
        pass

    def check(self, site: Site) -> None:
        pass


@dataclass
class FromPhoto(_Source):
    """A direction of the photo's own basis.

    Attributes:
        index: Which.
        tol: Of the basis.
        seed: Of the basis.
    """

    index: int
    tol: float
    seed: int

    def check(self, site: Site) -> None:
        """See :class:`Source`."""
        checks.check_directions([self.index], site.triplets, "the singular triplets of --layer")

    def find(self, run: RunFolder, inverted: stages.Inverted, site: Site) -> Found:
        """See :class:`Source`."""
        made = stages.compute_basis(
            run, inverted, site.t, self.index + 1, site.place.layer, self.tol, self.seed, site.part
        )
        return _triplet(made[1], self.index, site.method)


class FromFile(_Source):
    """A direction of a saved basis."""

    def __init__(self, file: Path, index: int, left: dict[str, tuple[Any, Any]]) -> None:
        self._basis, self._index = open_basis(file, [index], left), index
        self.layer = self._basis.metadata.get("layer")

    def place(self, steps: int | None, t: float | None) -> tuple[int | None, float | None]:
        """See :class:`Source`."""
        return place_of_basis(self._basis, steps, t)

    def check(self, site: Site) -> None:
        """See :class:`Source`."""
        check_basis(site.model, self._basis, site.place, site.method)

    def find(self, run: RunFolder, inverted: stages.Inverted, site: Site) -> Found:
        """See :class:`Source`."""
        return _triplet(self._basis, self._index, site.method)


@dataclass
class FromPrompts(_Source):
    """The direction from one prompt to another.

    Attributes:
        words: Prompt to go to.
        away: Prompt to come from; None for that of the photo.
    """

    words: str
    away: str | None
    of_samples = True

    def check(self, site: Site) -> None:
        """See :class:`Source`."""
        with refusing(prompt="--from-words"):
            site.model.conditioning(self.words)

    def find(self, run: RunFolder, inverted: stages.Inverted, site: Site) -> Found:
        """See :class:`Source`."""
        point = inverted.trajectory.at(site.t)
        with run.timed("finding the direction of the words"), refusing(prompt="--from-words", away="--away"):
            return Found(word_direction(site.model, point, self.words, self.away, mask=site.mask))


@dataclass
class FromPair(_Source):
    """The direction from one picture to another.

    Attributes:
        before: The file of the one.
        after: That of the other.
    """

    before: Path
    after: Path
    pictures: list[Picture] = field(default_factory=list, init=False)
    of_samples = True

    def read(self) -> None:
        """See :class:`Source`."""
        self.pictures = [read_photo("--before", self.before, None), read_photo("--after", self.after, None)]

    def find(self, run: RunFolder, inverted: stages.Inverted, site: Site) -> Found:
        """See :class:`Source`."""
        how, under = site.how, inverted.trajectory.conditioning
        with run.timed("inverting the pair"), refusing(before="--before", after="--after"):
            pictures: list[Any] = [picture.fitted(site.model.codec.size).image for picture in self.pictures]
            options: dict[str, Any] = {"t": how.t, "grid": how.grid, "solver": how.solver}
            path = latentjac.invert(site.model, pictures, how.steps, conditioning=under, **options)
            first, second = path.at(site.t).split()
            return Found(pair_direction(first, second, mask=site.mask))


def source_of(
    index: int,
    tol: float,
    seed: int,
    *,
    basis: Path | None,
    words: str | None,
    away: str | None,
    before: Path | None,
    after: Path | None,
) -> Source:
    """The source that flags ask for; raise where they ask for two, or for half of one."""
    if (before is None) != (after is None):
        missing, there = ("--before", after) if before is None else ("--after", before)
        raise Refusal(f"{missing} must be given with the other picture of the pair, {there}, got none")
    given = {"--basis": basis, "--from-words": words, "--before": before}
    several = [name for name, value in given.items() if value is not None]
    if len(several) > 1:
        raise refusal(several[1], f"left out with {several[0]}", given[several[1]])
    if away is not None and words is None:
        raise refusal("--away", "left out without --from-words", away)
    if words is not None:
        return FromPrompts(words, away)
    if before is not None and after is not None:
        return FromPair(before, after)
    if basis is not None:
        return FromFile(basis, index, {"--tol": (tol, 1e-3), "--seed": (seed, 0)})
    return FromPhoto(index, tol, seed)


def _triplet(basis: latentjac.LocalBasis, index: int, method: Method) -> Found:
    """A direction of a basis in what the method moves, features or samples."""
    return Found(basis.u[index]) if method.in_features else Found(basis.v[index], basis)
