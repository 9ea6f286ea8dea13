"""The steps of a run, each for several items at once: what is asked of the library, and the rows that come of it.

A task gets items whose earlier tasks succeeded and hands back a result for each, in order. What it raises is about all
of them; :mod:`latentjac.batch.compute` finds out about whom. So a task may take its items together where the library
does, as inversion, or one by one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch

from latentjac.batch.basis_files import check_kept
from latentjac.batch.edit_spec import EditOf
from latentjac.batch.mask_spec import MaskOf
from latentjac.batch.masks import masks_for
from latentjac.batch.parts import Result
from latentjac.batch.slider_task import SliderWith, invert_as, leading_slider
from latentjac.batch.spec import Spec, built
from latentjac.batch.together import groups, joined
from latentjac.batch.work import Place, Task, Work, alike, ended, point_of, split, under
from latentjac.diffusion import Point, descend, invert, linearization_at, noise_point
from latentjac.editing.edit import edit
from latentjac.editing.masks import masked_basis
from latentjac.editing.result import Edit
from latentjac.geometry.linearity import measure_linearity
from latentjac.geometry.local_basis import local_basis
from latentjac.models import Model, to_pil
from latentjac.solvers import LocalBasis, Status, effective_rank

_LINEARITY_TOLERANCE = 0.1


def tasks_of(spec: Spec) -> list[Task]:
    """All steps in order; the first one gives items their points."""
    tasks: list[Task] = [Start(spec)]
    bases = spec.bases
    for t in () if bases is None else bases.t:
        for layer in () if bases is None else bases.layer:
            tasks.append(BasisAt(spec, (t, layer)))
            mask = None if bases is None else bases.mask
            tasks += [MEASURES[name](options, (t, layer), mask) for name, options in spec.measures.items()]
    tasks += [EditWith(number, entry) for number, entry in enumerate(spec.edits, 1)]
    return tasks + [SliderWith(number, entry, spec.invert) for number, entry in enumerate(spec.sliders, 1)]


class Start:
    """Photos are inverted and seeds sampled, those of a kind together."""

    together: ClassVar[bool] = True

    def __init__(self, spec: Spec) -> None:
        self._spec, self._leading = spec, leading_slider(spec)
        self.place = {"step": "start"}

    def ready(self, work: Work) -> bool:
        """Always."""
        return True

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Give each its way between image and noise."""
        found: dict[int, Result] = {}
        for members in alike(works):
            some = [works[i] for i in members]
            results = self._sample(model, some) if some[0].picture is None else self._invert(model, some)
            found |= dict(zip(members, results, strict=True))
        return [found[i] for i in range(len(works))]

    def _invert(self, model: Model, works: Sequence[Work]) -> list[Result]:
        if self._leading is not None:
            path = invert_as(model, self._leading, works, self._spec.invert)
        else:
            pictures: list[Any] = [work.picture for work in works]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of pictures that were not found again; their rows tell
                path = invert(model, pictures, **under(built(self._spec.invert), works))
        results = []
        for work, own in zip(works, split(path), strict=True):
            work.at = own.at
            work.paths.append((own.conditioning if self._leading is None else self._leading.conditioning, own))
            facts = {"psnr": own.psnr[0], "evaluations": own.evaluations, "inversion": own.status[0].value}
            results.append(Result(facts))
        return results

    def _sample(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Noise of each item's own seed taken down; points are kept at the levels that the spec names."""
        options = self._spec.sample
        whole = noise_point(model, len(works), generator=torch.Generator(), **under(options, works))
        levels = {t: whole.schedule.level(t=t) for t in _levels_of(self._spec)}
        noise = torch.cat([self._noise(model, work, whole.rows(slice(i, i + 1))) for i, work in enumerate(works)])
        kept: dict[int, torch.Tensor] = {}
        x = noise
        with torch.no_grad():
            for level, x in descend(model, noise, whole.schedule, whole.level, whole.conditioning):
                if level in levels.values():
                    kept[level] = x
        pictures = to_pil(model.codec.decode(x))
        results = []
        for i, work in enumerate(works):
            row = slice(i, i + 1)
            told = whole.conditioning.rows(row)
            points = {
                t: replace(whole, sample=kept[level][row], level=level, conditioning=told)
                for t, level in levels.items()
            }
            work.at = points.__getitem__
            results.append(Result({}, pictures=[("sample", pictures[i])]))
        return results

    def _noise(self, model: Model, work: Work, point: Point) -> torch.Tensor:
        """The noise of an item's seed, whatever items are beside it."""
        generator = torch.Generator().manual_seed(work.item.seed or 0)
        steps = point.num_inference_steps
        made = noise_point(model, num_inference_steps=steps, generator=generator, conditioning=point.conditioning)
        return made.sample


def _levels_of(spec: Spec) -> list[float]:
    """Every t that a step of the spec is at."""
    bases = () if spec.bases is None else spec.bases.t
    others = [entry.t for entry in spec.edits] + [entry.t for entry in spec.sliders]
    return list(dict.fromkeys([*bases, *others]))


class OneByOne:
    """A task that takes items one by one.

    Attributes:
        place: Columns that tell its rows from those of other steps.
    """

    place: dict[str, Any]
    together: ClassVar[bool] = False

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Do it for some items, one after the other."""
        return [self.one(model, work) for work in works]

    def one(self, model: Model, work: Work) -> Result:
        """Do it for an item."""
        raise NotImplementedError


class BasisAt:
    """The local bases at points, of several items side by side."""

    together: ClassVar[bool] = True

    def __init__(self, spec: Spec, place: Place) -> None:
        assert spec.bases is not None
        self._bases, self._where = spec.bases, place
        self.place = {"step": "basis", "t": place[0], "layer": place[1]}

    def ready(self, work: Work) -> bool:
        """Once there is a point."""
        return work.at is not None

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Find the bases, and keep them also where they did not converge."""
        points = [point_of(work, self._where[0]) for work in works]
        found: dict[int, Result] = {}
        for group in groups(points):
            bases = self._found(model, [works[i] for i in group], [points[i] for i in group])
            found |= {i: self._kept(works[i], points[i], basis) for i, basis in zip(group, bases, strict=True)}
        return [found[i] for i in range(len(works))]

    def _found(self, model: Model, works: Sequence[Work], points: Sequence[Point]) -> list[LocalBasis]:
        """The basis at each point; what they cost is divided among them."""
        asked, count, layer = self._bases, len(points), self._where[1]
        options: dict[str, Any] = {"tol": asked.tol, "generator": torch.Generator().manual_seed(asked.seed)}
        facts: list[dict[str, Any]] = [{} for _ in points]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a basis that did not converge; its row tells
            if asked.mask is None:
                bases = local_basis(model, joined(points), asked.k, layer, **options)
            else:
                masks = masks_for(asked.mask, model, works)
                bases = masked_basis(model, joined(points), masks, asked.k, layer=layer, **options)
                facts = [{"mask_pixels": int(mask.sum())} for mask in masks]
        if bases.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        cost = {name: round(getattr(bases, name) / count) for name in ("jvps", "vjps")}
        cost["seconds"] = bases.seconds / count
        return [replace(bases.point(i), metadata=bases.metadata | facts[i], **cost) for i in range(count)]

    def _kept(self, work: Work, point: Point, basis: LocalBasis) -> Result:
        asked = self._bases
        basis = check_kept(basis)
        work.bases[self._where] = basis
        facts = {
            "timestep": float(point.timestep),
            "singular_values": basis.s.tolist(),
            "residuals": basis.residuals.tolist(),
            "jvps": basis.jvps,
            "vjps": basis.vjps,
            **ended(basis.status, f"local_basis: residuals must be at most tol={asked.tol:g}, got", basis),
        }
        return Result(facts, basis=basis)


class EffectiveRankAt(OneByOne):
    """How many directions count, from the basis and random probes."""

    name: ClassVar[str] = "effective_rank"

    def __init__(self, options: dict[str, Any], place: Place, mask: MaskOf | None = None) -> None:
        self._options, self._where, self._mask = options, place, mask
        self.place = {"step": self.name, "t": place[0], "layer": place[1]}

    def ready(self, work: Work) -> bool:
        """Once there is a basis."""
        return self._where in work.bases

    def one(self, model: Model, work: Work) -> Result:
        """Measure at the point of the basis."""
        t, layer = self._where
        basis = work.bases[self._where].to(model.device)
        point, factor = point_of(work, t), None
        if self._mask is not None:
            (inside,) = masks_for(self._mask, model, [work])
            factor = inside.to(point.sample)[None, None]
        lin = linearization_at(model, point, layer, mask=factor)
        found = effective_rank(lin, basis=basis, **self._options)
        names = ("energy", "participation", "stable", "entropy", "numerical")
        return Result({name: getattr(found, name).value for name in names})


class LinearityAt(OneByOne):
    """How far the predicted noise is linear along the directions of a basis."""

    name: ClassVar[str] = "linearity"

    def __init__(self, options: dict[str, Any], place: Place, mask: MaskOf | None = None) -> None:
        self._tolerance, self._where = options.get("tolerance", _LINEARITY_TOLERANCE), place
        self.place = {"step": self.name, "t": place[0], "layer": place[1]}

    def ready(self, work: Work) -> bool:
        """Once there is a basis."""
        return self._where in work.bases

    def one(self, model: Model, work: Work) -> Result:
        """Measure at the point of the basis."""
        point = point_of(work, self._where[0])
        v = work.bases[self._where].v.to(model.device)
        found = measure_linearity(model, point, v, point.noise, self._tolerance)
        return Result({"linear_up_to": [entry.radius for entry in found]})


MEASURES: dict[str, Callable[[dict[str, Any], Place, MaskOf | None], Task]] = {
    kind.name: kind for kind in (EffectiveRankAt, LinearityAt)
}


class EditWith:
    """An edit along directions of the item's own basis or of a saved one, of several items side by side."""

    together: ClassVar[bool] = True

    def __init__(self, number: int, entry: EditOf) -> None:
        self._number, self._entry, self._method = number, entry, entry.built()
        self._saved = None if entry.basis is None else LocalBasis.load(entry.basis)
        self.place = {"step": "edit", "number": number, "t": entry.t, "layer": entry.layer}

    def ready(self, work: Work) -> bool:
        """Once there is what directions are taken from."""
        entry = self._entry
        return work.at is not None and (self._saved is not None or (entry.t, entry.layer) in work.bases)

    def run(self, model: Model, works: Sequence[Work]) -> list[Result]:
        """Make the edits; the row of one on a basis that did not converge tells it."""
        entry = self._entry
        points = [point_of(work, entry.t) for work in works]
        bases = [work.bases[entry.t, entry.layer] if self._saved is None else self._saved for work in works]
        numbers = [i - 1 for i in entry.directions]
        rows = [(basis.u if self._method.in_features else basis.v)[numbers] for basis in bases]
        photos: list[Any] = [work.picture if entry.residual else None for work in works]
        options: dict[str, Any] = {"method": self._method, "compose": entry.compose, "photo": photos}
        if entry.mask is not None:
            options["mask"] = [entry.masked(inside) for inside in masks_for(entry.mask, model, works)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of bases on the way that did not converge; the row tells
            edits = edit(model, points, rows, entry.distance, **options)
        return [self._told(point, basis, made) for point, basis, made in zip(points, bases, edits, strict=True)]

    def _told(self, point: Point, basis: LocalBasis, made: Edit) -> Result:
        entry = self._entry
        unfinished = [s for s in (basis.status, made.status) if s is not None and not s.fine]
        facts = {
            "timestep": float(point.timestep),
            "method": entry.method,
            "directions": list(map(float, entry.directions)),
            "distance": list(entry.distance),
            "num_steps": made.num_steps,
            "linear_up_to": None if made.linearity is None else [found.radius for found in made.linearity],
            "path": None if made.along is None else made.along.path.flatten().tolist(),
            "leakage": None if made.leakage is None else made.leakage.flatten().tolist(),
            **ended(unfinished[0] if unfinished else None, "edit: every basis must converge, got one that did not"),
        }
        return Result(facts, pictures=list(zip(self._names(), made.images, strict=True)))

    def _names(self) -> list[str]:
        entry, begin = self._entry, f"edit{self._number}"
        if entry.compose:
            return [f"{begin}-composed"]
        return [f"{begin}-direction{i}_{d:+g}" for i in entry.directions for d in entry.distance]
