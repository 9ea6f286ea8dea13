"""Numbers of the study of docs/factors.md: means over avatars, intervals, and differences to controls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from factors.collecting import CONTINUOUS, Collected, Observation, Span
from factors.meaning import (
    NAMES,
    agreement,
    entropy_purity,
    floor_of,
    largest,
    mixture_purity,
    purity_of,
    shuffled,
)
from latentjac.geometry import sample_mean

# A direction means something if one factor alone makes at least half of the picture's change, the same both ways.
HALF = 0.5
# Of the scrambled edits those of one arm stand for all.
SCRAMBLED = "scrambled local basis, mid"
CONTROLS = {
    "local basis, mid": "rotated basis, mid",
    "local basis, x0": "rotated basis, x0",
    "paper": "rotated paper",
}


class Table:
    """Observations of one arm at one timestep with one thing held equal."""

    def __init__(self, observations: list[Observation]) -> None:
        self.observations = observations
        self.shares = torch.stack([o.shares for o in observations])
        self.moves = torch.stack([o.moves for o in observations])

    def by_sample(self, values: Iterable[float]) -> Tensor:
        """Mean of one value an edit over the edits of each sample ``[N]``."""
        found: dict[int, list[float]] = {}
        for o, value in zip(self.observations, values, strict=True):
            found.setdefault(o.sample, []).append(float(value))
        return torch.tensor([sum(v) / len(v) for _, v in sorted(found.items())], dtype=torch.float64)

    def one_factor(self) -> Tensor:
        """The study's measure: part of a picture's change that one factor makes, mean over each sample's edits."""
        return self.by_sample(self.shares.amax(1).tolist())

    def forward(self) -> tuple[Table, Tensor, Tensor]:
        """The edits along +v alone, and the shares of both ways in their order."""
        place = {(o.sample, o.direction, o.sign): i for i, o in enumerate(self.observations)}
        plus = Table([o for o in self.observations if o.sign > 0])
        return plus, plus.shares, self.shares[[place[o.sample, o.direction, -1] for o in plus.observations]]

    def names(self) -> list[list[str]]:
        """For each sample the factor of each direction, of both ways together."""
        plus, forward, backward = self.forward()
        found: dict[int, list[str]] = {}
        for o, name in zip(plus.observations, largest(forward + backward), strict=True):
            found.setdefault(o.sample, []).append(name)
        return [names for _, names in sorted(found.items())]


def floors(observations: list[Observation]) -> dict[float, Tensor]:
    """The reader's floor ``[16]`` at each timestep, from the scrambled edits there."""
    found: dict[float, list[Tensor]] = {}
    for o in observations:
        if o.arm.startswith("scrambled"):
            found.setdefault(o.t, []).append(o.moves)
    return {t: floor_of(torch.stack(moves)) for t, moves in found.items()}


def tables(observations: list[Observation]) -> dict[tuple[str, float, str], Table]:
    """Observations by arm, timestep and what was held equal."""
    found: dict[tuple[str, float, str], list[Observation]] = {}
    for o in observations:
        found.setdefault((o.arm, o.t, o.at), []).append(o)
    return {key: Table(rows) for key, rows in found.items()}


def interval(values: Tensor, method: str = "student") -> dict[str, float]:
    """Mean over samples and its interval of 95 %, rounded."""
    found = sample_mean(values, method)
    ends = {"mean": found.value, "low": found.low, "high": found.high}
    return {name: round(float(value), 4) for name, value in ends.items()}


def shown(value: dict[str, float], digits: int = 2) -> str:
    """A mean with its interval."""
    mean, low, high = (f"{value[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def median(values: Iterable[float]) -> float:
    """Median, rounded."""
    return round(float(torch.tensor(list(values)).median()), 4)


def summary(table: Table, floor: Tensor, target: float) -> dict[str, Any]:
    """All numbers of one arm; those with an interval are means over samples."""
    observations, (plus, forward, backward) = table.observations, table.forward()
    same = [a == b != "" for a, b in zip(largest(forward), largest(backward), strict=True)]
    strong = (torch.minimum(forward.amax(1), backward.amax(1)) >= HALF).tolist()
    names = table.names()
    heard = (table.moves.abs() > floor).any(1)
    return {
        "samples": len(names),
        "directions": max(len(row) for row in names),
        "amount": median(o.amount for o in observations),
        "effect": median(o.effect for o in observations),
        "reached": round(sum(abs(o.effect / target - 1) <= 0.25 for o in observations) / len(observations), 3),
        "one_factor": interval(table.one_factor()),
        "explained": interval(table.by_sample(o.explained for o in observations)),
        "means_something": interval(plus.by_sample(float(a and b) for a, b in zip(same, strong, strict=True))),
        "same_both_ways": interval(plus.by_sample(float(s) for s in same)),
        "antisymmetry": interval(plus.by_sample(o.antisymmetry for o in plus.observations)),
        "distinct": interval(torch.tensor([float(len({n for n in row if n})) for row in names])),
        "agreement": round(float(agreement(names).mean()), 4),
        "read_purity": interval(table.by_sample(purity_of(table.moves).tolist())),
        "read_entropy_purity": interval(table.by_sample(entropy_purity(table.moves).tolist())),
        "read_size": interval(table.by_sample(table.moves.norm(dim=1).tolist())),
        "read_above_floor": interval(table.by_sample(heard.float().tolist())),
        "read_same_name": interval(
            table.by_sample(float(a == b) for a, b in zip(largest(table.moves), largest(table.shares), strict=True))
        ),
        "factor_shares": _named(table.shares.mean(0)),
        "factor_first": _named(torch.nn.functional.one_hot(table.shares.argmax(1), len(NAMES)).float().mean(0)),
    }


def span_row(spans: list[Span]) -> dict[str, Any]:
    """What the best direction in the span of an arm could do: the best factor, and how many reach half."""
    parts = torch.stack([span.parts for span in sorted(spans, key=lambda span: span.sample)])
    return {
        "best_in_span": interval(parts.amax(1)),
        "factors_in_span": interval((parts >= HALF).double().sum(1)),
    }


def _named(values: Tensor) -> dict[str, float]:
    return {name: round(value, 4) for name, value in zip(NAMES, values.tolist(), strict=True)}


def difference(arm: Table, control: Table) -> dict[str, Any]:
    """The measure of an arm less that of its control at the same samples; by Student's t and by bootstrap."""
    paired = arm.one_factor() - control.one_factor()
    return {"student": interval(paired), "bootstrap": interval(paired, "bootstrap")}


def known(table: Table) -> dict[str, Any]:
    """How a positive control comes out, and how often the factor that was moved is the one that is named."""
    moved = [CONTINUOUS[o.direction] for o in table.observations]
    return {
        "samples": len({o.sample for o in table.observations}),
        "effect": median(o.effect for o in table.observations),
        "one_factor": interval(table.one_factor()),
        "explained": interval(table.by_sample(o.explained for o in table.observations)),
        "named": interval(table.by_sample(a == b for a, b in zip(largest(table.shares), moved, strict=True))),
        "read_purity": interval(table.by_sample(purity_of(table.moves).tolist())),
        "read_named": interval(table.by_sample(a == b for a, b in zip(largest(table.moves), moved, strict=True))),
    }


def nulls(table: Table, generator: torch.Generator) -> dict[str, float]:
    """What the reader's purity is without meaning: normal mixtures, and an arm's own changes dealt out anew."""
    drawn = torch.stack([purity_of(shuffled(table.moves, generator)).mean() for _ in range(200)])
    return {
        "mixture": round(mixture_purity(generator), 4),
        "shuffled": round(float(drawn.mean()), 4),
        "shuffled_low": round(float(drawn.quantile(0.025)), 4),
        "shuffled_high": round(float(drawn.quantile(0.975)), 4),
    }


def results(collected: Collected, main_t: float, target: float) -> dict[str, Any]:
    """Every number of the study."""
    observations = collected.observations
    found, floor = tables(observations), floors(observations)
    basis = found["local basis, mid", main_t, "effect"]
    arms = [key for key in found if key[2] != "natural" and (not key[0].startswith("scrambled") or key[0] == SCRAMBLED)]
    return {
        "main_number": difference(basis, found[CONTROLS["local basis, mid"], main_t, "effect"]),
        "differences": [
            {"arm": arm, "t": t, "equal": at, **difference(table, found[CONTROLS[arm], t, at])}
            for (arm, t, at), table in found.items()
            if arm in CONTROLS
        ],
        "above_random": [
            {"arm": key[0], **difference(found[key], found["random", main_t, "effect"])}
            for key in arms
            if key[1:] == (main_t, "effect") and key[0] != "random"
        ],
        "arms": [
            {"arm": key[0], "t": key[1], "equal": key[2], **summary(found[key], floor[key[1]], target)} for key in arms
        ],
        "spans": [
            {"arm": arm, "t": t, **span_row([s for s in collected.spans if (s.arm, s.t) == (arm, t)])}
            for arm, t, at in arms
            if at == "effect"
        ],
        "known": {key[0]: known(table) for key, table in found.items() if key[2] == "natural"},
        "nulls_of_read_purity": nulls(basis, torch.Generator().manual_seed(0)),
        "floors": {f"{t:g}": _named(values) for t, values in floor.items()},
    }
