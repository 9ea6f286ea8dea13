"""Collects what the study of docs/factors.md rests on: every edit, what it changed, and its controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from avatars import FACTORS, Factors, draw
from torch import Tensor
from tqdm import tqdm

import latentjac
from factors.directions import (
    TOLERANCE,
    Bank,
    bank_at,
    basis_arms,
    moved_factor,
    other_arms,
    pair_directions,
    park2023_arms,
)
from factors.equal_effect import Edits, Move, at_effect, both_ways, guided_move, linear_move, rms
from factors.matching import Singles, best_in_span, match, single_changes
from factors.meaning import antisymmetry, read_changes, scrambled
from factors.reader import FactorReader
from factors.reader_training import HELD_OUT_SEED, drawings
from latentjac.diffusion import DDIM, Own

CONTINUOUS = [factor.name for factor in FACTORS if factor.kind == "continuous"]


@dataclass(frozen=True)
class Plan:
    """What is measured; chosen before any number was known, except for target and start, by how pictures look.

    Attributes:
        samples: Avatars; they are the unit of all intervals.
        k: Directions of each kind at each of them.
        num_inference_steps: Levels of inversion and DDIM.
        main_t: Where all kinds are compared.
        other_ts: Where the local basis is compared with its rotation alone.
        target: Equal effect: root mean square change of the picture, in [0, 1].
        start: Equal distance, in noise standard deviations.
        gain: The paper's factor of the noise difference.
        guidance_steps: The paper's number of steps.
        iterations: The paper's most iterations.
        pairs: Factors of each avatar that the positive control moves.
        part: Way of those, each way, as a part of the factor's range.
        bank: Avatars of the principal components.
        bank_bases: Local bases of the common directions.
        seed: Of avatars, rotations and random directions.
    """

    samples: int = 12
    k: int = 5
    num_inference_steps: int = 10
    main_t: float = 0.6
    other_ts: tuple[float, ...] = (0.8, 0.4)
    target: float = 0.06
    start: float = 3.0
    gain: float = 0.1
    guidance_steps: int = 16
    iterations: int = 50
    pairs: int = 2
    part: float = 0.25
    bank: int = 48
    bank_bases: int = 8
    seed: int = 0


QUICK = Plan(
    samples=2, k=2, num_inference_steps=5, other_ts=(), guidance_steps=2, iterations=12, pairs=1, bank=4, bank_bases=2
)


@dataclass(frozen=True)
class Observation:
    """One edited picture.

    Attributes:
        arm: Where the direction comes from, or the name of a control.
        t: Where it was edited, as a fraction of T.
        at: ``"effect"`` (equal change of pictures), ``"amount"`` (equal distance, or the paper's gain) or ``"natural"``
            (as far as the control's known change goes).
        sample: Which avatar.
        direction: Which direction of the arm; of a known change, which factor.
        sign: 1 or -1.
        amount: Distance or gain; NaN where there is none.
        effect: Root mean square change of the picture.
        explained: Part of the change that all factors explain together, see ``factor_matching``.
        antisymmetry: See ``factor_meaning.antisymmetry``; the same for both ways.
        shares: Part of the change that each factor explains alone ``[16]``.
        moves: Changes of the factors that the reader reads ``[16]``.
    """

    arm: str
    t: float
    at: str
    sample: int
    direction: int
    sign: int
    amount: float
    effect: float
    explained: float
    antisymmetry: float
    shares: Tensor = field(repr=False)
    moves: Tensor = field(repr=False)


@dataclass(frozen=True)
class Example:
    """Pictures of one direction, for the sheet: backward, unedited, forward ``[3, 3, S, S]``."""

    arm: str
    direction: int
    shares: tuple[Tensor, Tensor]
    pictures: Tensor


@dataclass(frozen=True)
class Span:
    """What the directions of one arm could do together at one avatar: ``factor_matching.best_in_span``, ``[16]``."""

    arm: str
    t: float
    sample: int
    parts: Tensor


@dataclass
class Collected:
    """Everything that was observed."""

    observations: list[Observation] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Site:
    """One avatar at one timestep."""

    point: latentjac.Point
    sample: int
    t: float
    factors: Factors
    reference: Tensor  # the picture that no edit makes of the point, [3, S, S]
    singles: Singles
    generator: torch.Generator


class Collector:
    """Edits avatars along the directions of all arms and reads what comes of it."""

    def __init__(self, model: latentjac.Model, reader: FactorReader, plan: Plan) -> None:
        self.model, self.reader, self.plan = model, reader, plan
        self.found = Collected()

    def collect(
        self, progress: bool = False, each: Callable[[Collected, tuple[float, ...]], None] | None = None
    ) -> Collected:
        """All observations of the plan.

        Args:
            progress: Show a progress bar.
            each: Called after every timestep, with what was observed and where so far.
        """
        plan = self.plan
        factors, pictures = drawings(plan.samples, HELD_OUT_SEED + 100 + 2 * plan.seed, self.model.codec.size[0])
        path = self._inverted(pictures)
        self.found.psnr = list(path.psnr)
        with tqdm(total=plan.samples * (1 + len(plan.other_ts)), unit="site", disable=not progress) as bar:
            ts = (plan.main_t, *plan.other_ts)
            for done, t in enumerate(ts, 1):
                point = path.at(t)
                bank = self._bank(point) if t == plan.main_t else None
                for site in self._sites(point, t, factors):
                    self._visit(site, bank)
                    bar.update()
                if each is not None:
                    each(self.found, ts[:done])
        return self.found

    def _inverted(self, pictures: Tensor) -> latentjac.Trajectory:
        steps = self.plan.num_inference_steps
        return latentjac.invert(self.model, list(pictures), steps, grid=Own(), solver=DDIM())

    def _sites(self, point: latentjac.Point, t: float, factors: Factors) -> Iterator[Site]:
        references = latentjac.sample(self.model, point, output_type="pt")
        for i, reference in enumerate(references):
            one = replace(point, sample=point.sample[i : i + 1])
            generator = torch.Generator().manual_seed(100_000 * self.plan.seed + 100 * i + round(10 * t))
            alone = {name: values[i : i + 1] for name, values in factors.items()}
            singles = single_changes(alone, self.model.codec.size[0])
            yield Site(one, i, t, alone, reference, singles, generator)

    def _bank(self, point: latentjac.Point) -> Bank:
        plan = self.plan
        return bank_at(self.model, point, plan.bank, plan.bank_bases, plan.k, HELD_OUT_SEED + 101 + 2 * plan.seed)

    def _visit(self, site: Site, bank: Bank | None) -> None:
        """All arms at one site; without a bank the local basis and its rotation alone."""
        plan, model = self.plan, self.model
        mid = latentjac.local_basis(model, site.point, plan.k, "mid", tol=TOLERANCE)
        arms = basis_arms(mid, site.generator)
        if bank is not None:
            arms |= other_arms(model, site.point, mid, bank, site.generator)
        self._edit(site, arms, linear_move(model, site.point), plan.start)
        if bank is not None:
            arms = park2023_arms(model, site.point, plan.iterations, site.generator)
            self._edit(site, arms, guided_move(model, site.point, plan.guidance_steps), plan.gain)
            self._known(site)

    def _edit(self, site: Site, arms: dict[str, Tensor], move: Move, start: float) -> None:
        """Edit along all arms at once, both ways, and record it beside scrambled versions of the same edits."""
        places, first, best = self._tried(site, arms, move, start)
        self._record(site, places, "amount", first)
        self._record(site, places, "effect", best)
        noise = (site.reference + scrambled(best.pictures - site.reference, site.generator)).clamp(0, 1)
        meaningless = Edits(noise, best.amounts, rms(noise, site.reference))
        meaningless_places = [(f"scrambled {arm}", i) for arm, i in places]
        self._record(site, meaningless_places, "effect", meaningless)
        for named, edits in ((places, best), (meaningless_places, meaningless)):
            self._span(site, named, edits)

    def _edit_equally(self, site: Site, arms: dict[str, Tensor]) -> None:
        """Edit along straight lines, both ways, to equal effects, and record that alone."""
        places, _, best = self._tried(site, arms, linear_move(self.model, site.point), self.plan.start)
        self._record(site, places, "effect", best)

    def _tried(
        self, site: Site, arms: dict[str, Tensor], move: Move, start: float
    ) -> tuple[list[tuple[str, int]], Edits, Edits]:
        """Arm and number of each direction, and edits both ways: by the first amount, and by amounts of one effect."""
        rows = torch.cat(list(arms.values()))
        first, best = at_effect(move, both_ways(rows), site.reference, start, self.plan.target)
        return [(arm, i) for arm, directions in arms.items() for i in range(len(directions))], first, best

    def _span(self, site: Site, places: list[tuple[str, int]], edits: Edits) -> None:
        """What the directions of each arm could do together, from their differences both ways."""
        forward, backward = edits.pictures.chunk(2)
        for arm in dict.fromkeys(arm for arm, _ in places):
            rows = [j for j, (name, _) in enumerate(places) if name == arm]
            parts = best_in_span(forward[rows] - backward[rows], site.singles)
            self.found.spans.append(Span(arm, site.t, site.sample, parts))

    def _record(self, site: Site, places: list[tuple[str, int]], at: str, edits: Edits) -> None:
        """Read edits, those along +v in front and those along -v behind, and keep what was read."""
        differences = edits.pictures - site.reference
        matched = match(differences, site.singles)
        moves = read_changes(self.reader, site.reference, edits.pictures)
        opposite = antisymmetry(*differences.chunk(2)).tolist()
        ways = len(places)
        for j in range(len(moves)):
            arm, direction = places[j % ways]
            observation = Observation(
                arm,
                site.t,
                at,
                site.sample,
                direction,
                1 if j < ways else -1,
                float(edits.amounts[j]),
                float(edits.effects[j]),
                float(matched.explained[j]),
                opposite[j % ways],
                matched.shares[j],
                moves[j],
            )
            self.found.observations.append(observation)
        if site.sample == 0 and site.t == self.plan.main_t and at != "amount":
            for j, (arm, direction) in enumerate(places):
                pictures = torch.stack([edits.pictures[j + ways], site.reference, edits.pictures[j]])
                shares = (matched.shares[j + ways], matched.shares[j])
                self.found.examples.append(Example(arm, direction, shares, pictures))

    def _known(self, site: Site) -> None:
        """Positive controls: known changes of one factor, drawn, and made by the model."""
        plan, size = self.plan, self.model.codec.size[0]
        every = [moved_factor(site.factors, name, sign * plan.part) for sign in (1, -1) for name in CONTINUOUS]
        drawn = replace(site, reference=draw(site.factors, size)[0])
        self._record_known(drawn, "factor, drawn", CONTINUOUS, torch.cat([draw(f, size) for f in every]))
        names = [CONTINUOUS[(site.sample * plan.pairs + j) % len(CONTINUOUS)] for j in range(plan.pairs)]
        rows = pair_directions(self.model, site.factors, names, plan.part, site.t, plan.num_inference_steps)
        point = replace(site.point, sample=site.point.sample + both_ways(rows))
        edited = latentjac.sample(self.model, point, output_type="pt")
        self._record_known(site, "factor, inverted", names, edited)

    def _record_known(self, site: Site, arm: str, names: list[str], pictures: Tensor) -> None:
        amounts = torch.full((len(pictures),), float("nan"))
        places = [(arm, CONTINUOUS.index(name)) for name in names]
        self._record(site, places, "natural", Edits(pictures, amounts, rms(pictures, site.reference)))
