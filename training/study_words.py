"""Does a direction made of words change the factor that the words name, and nothing else?

At noisy samples of avatars whose factors are known, directions from one caption to its opposite are followed to equal
changes of the picture: by the transposed Jacobian and by the difference of predictions, for factors of a small part of
the face also inside a mask. Beside them stand the singular vectors, the sparse directions and
a random turn of a local basis of x0. What an edit changes is measured against drawings of single factors
(factors/matching.py); docs/sliders.md says what came of it.

The number stated before the study was run: the part of the named factor in edits along words (transposed) less that in
edits along the best of five sparse directions for that factor, t = 0.7, mean over factors.

    OMP_NUM_THREADS=1 python training/study_words.py --model avatars-flow && python benchmarks/readme_tables.py
    OMP_NUM_THREADS=1 python training/study_words.py --samples 2 --ts 0.7 --tables OUT   # minutes, to see that it runs
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from avatars import FACTORS
from factors.collecting import Collected, Collector, Observation, Plan, Site
from factors.directions import ROTATED, SINGULAR, SPARSE, TOLERANCE, Bank, span_arms
from factors.matching import Singles
from factors.meaning import NAMES
from factors.reader import FactorReader
from factors.statistics import Table, difference, interval, shown, tables
from torch import Tensor
from torch.nn.functional import max_pool2d

import latentjac
from latentjac.editing import Mask, word_direction
from latentjac.report import write_json

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from record import machine  # noqa: E402

READER = ROOT / "latentjac/models/builtin/avatars/reader.safetensors"
# Where to and where from, two terms a factor; the first is the one of higher values.
WORDS = {
    "background": ("a blue background", "a peach background"),
    "shirt": ("a teal shirt", "a red shirt"),
    "skin": ("dark skin", "pale skin"),
    "face": ("a broad face", "a narrow face"),
    "turn": ("a turn to the right", "a turn to the left"),
    "tilt": ("a lean to the right", "a lean to the left"),
    "hair_style": ("long hair", "a buzz cut"),
    "hair_color": ("blond hair", "black hair"),
    "beard": ("a beard", "no beard"),
    "brows": ("stern brows", "worried brows"),
    "eye_size": ("large eyes", "small eyes"),
    "eye_open": ("open eyes", "sleepy eyes"),
    "eye_color": ("blue eyes", "brown eyes"),
    "glasses": ("glasses", "no glasses"),
    "mouth_curve": ("a smile", "a sad mouth"),
    "mouth_open": ("an open mouth", "a closed mouth"),
}
# Those that no local basis of t = 0.6 moves.
SMALL = ("brows", "eye_size", "eye_open", "eye_color", "glasses", "mouth_curve", "mouth_open")
TRANSPOSED, DIFFERENCE = "words, transposed", "words, difference"
MASKED = {"words, transposed, masked": "transposed", "words, difference, masked": "difference"}
NAMED = {TRANSPOSED: NAMES, DIFFERENCE: NAMES, **dict.fromkeys(MASKED, SMALL)}
MAIN_T, SEED, LEAST = 0.7, 29, 0.1


def area_of(factor: str, singles: Singles, size: Sequence[int], side: int) -> Tensor:
    """Where a factor changes an avatar at all, and a pixel around it, bool at sample size ``[H, W]``."""
    own = singles.differences[singles.factors == NAMES.index(factor)].view(-1, 3, side, side)
    strength = own.square().sum(1).amax(0)
    parts = max_pool2d(strength[None, None], side // size[0])[0, 0]
    inside = parts > LEAST * parts.max()
    return max_pool2d(inside[None, None].float(), 3, 1, 1)[0, 0] > 0


class WordCollector(Collector):
    """Words beside the bases of one span."""

    def _bank(self, point: latentjac.Point) -> Bank | None:
        return None

    def _visit(self, site: Site, bank: Bank | None) -> None:
        basis = latentjac.local_basis(self.model, site.point, self.plan.k, "x0", tol=TOLERANCE)
        arms = span_arms(basis, site.generator)
        for arm, names in NAMED.items():
            arms[arm] = torch.stack([self._word(site, name, arm) for name in names])
        self._edit_equally(site, arms)

    def _word(self, site: Site, factor: str, arm: str) -> Tensor:
        to, away = (f"a person with {words}" for words in WORDS[factor])
        kind, mask = MASKED.get(arm, "difference" if arm == DIFFERENCE else "transposed"), None
        if arm in MASKED:
            mask = Mask(area_of(factor, site.singles, self.model.sample_shape[1:], self.model.codec.size[0]), tol=0.1)
        return word_direction(self.model, site.point, to, away, kind=kind, mask=mask)


def named_parts(found: Table, factors: Sequence[str]) -> Tensor:
    """Part of the named factor in edits along its own words, mean of both ways, ``[avatars, factors]``."""
    parts = torch.zeros(max(o.sample for o in found.observations) + 1, len(factors), dtype=torch.float64)
    for o in found.observations:
        parts[o.sample, o.direction] += float(o.shares[NAMES.index(factors[o.direction])]) / 2
    return parts


def best_parts(found: Table, factors: Sequence[str]) -> Tensor:
    """The same of that direction of a basis that is best for each factor, chosen by the result itself."""
    k = max(o.direction for o in found.observations) + 1
    parts = torch.zeros(max(o.sample for o in found.observations) + 1, k, len(NAMES), dtype=torch.float64)
    for o in found.observations:
        parts[o.sample, o.direction] += o.shares.double() / 2
    return parts.amax(1)[:, [NAMES.index(name) for name in factors]]


def parts_of(at: dict[str, Table], arm: str, factors: Sequence[str]) -> Tensor:
    """Parts of factors ``[avatars, factors]`` in edits along words, or along the best of a basis."""
    if arm in NAMED:
        return named_parts(at[arm], NAMED[arm])[:, [NAMED[arm].index(name) for name in factors]]
    return best_parts(at[arm], factors)


def right_ways(observations: Sequence[Observation], factors: Sequence[str]) -> list[float]:
    """Whether the reader sees a factor move as the words say, for each way of each factor that has a sign."""
    moves = ((o, NAMES.index(factors[o.direction])) for o in observations)
    return [float(float(o.moves[i]) * o.sign > 0) for o, i in moves if not FACTORS[i].choices]


def results(found: Collected, ts: Sequence[float]) -> dict[str, Any]:
    """Tables: arms over t, the number stated before, and every factor."""
    at: dict[float, dict[str, Table]] = {t: {} for t in ts}
    for (arm, t, _), table in tables(found.observations).items():
        at[t][arm] = table
    return {
        "rows": [row_of(t, arm, at[t]) for t in ts for arm in at[t]],
        "differences": [less_best(t, control, at[t]) for t in ts for control in (SPARSE, SINGULAR)],
        "turned": [less_turned(t, control, at[t]) for t in ts for control in (SINGULAR, ROTATED)],
        "factors": by_factor(at),
        "one_factor_by_avatar": {
            f"{t:g}": {arm: [round(value, 4) for value in found.one_factor().tolist()] for arm, found in at[t].items()}
            for t in ts
        },
    }


def row_of(t: float, arm: str, at: dict[str, Table]) -> dict[str, Any]:
    """Numbers of one kind of direction at one t."""
    factors = NAMED.get(arm, NAMES)
    ways = right_ways(at[arm].observations, factors) if arm in NAMED else []
    return {
        "t": t,
        "directions": arm,
        "one_factor": shown(interval(at[arm].one_factor())),
        "named_factor_or_best": "" if factors == SMALL else shown(interval(parts_of(at, arm, NAMES).mean(1))),
        "of_small_factors": shown(interval(parts_of(at, arm, SMALL).mean(1))),
        "right_way": f"{sum(ways) / len(ways):.0%}" if ways else "",
    }


def less_best(t: float, control: str, at: dict[str, Table]) -> dict[str, Any]:
    """Part of the named factor along words less that of the best direction of a basis, at the same avatars."""
    paired = (parts_of(at, TRANSPOSED, NAMES) - parts_of(at, control, NAMES)).mean(1)
    return {
        "t": t,
        "words less the best of five": control,
        "named_factor": shown(interval(paired)),
        "by_bootstrap": shown(interval(paired, "bootstrap")),
    }


def less_turned(t: float, control: str, at: dict[str, Table]) -> dict[str, Any]:
    """One factor's part of the sparse directions less that of the same span turned otherwise, at the same avatars."""
    pair = difference(at[SPARSE], at[control])
    better = int((at[SPARSE].one_factor() > at[control].one_factor()).sum())
    return {
        "t": t,
        "sparse directions less": control,
        "one_factor": shown(pair["student"]),
        "better at": f"{better} of {len(at[SPARSE].names())} avatars",
    }


def by_factor(at: dict[float, dict[str, Table]]) -> list[dict[str, Any]]:
    """For every factor the part that each kind of direction reaches at its best t, and that t."""
    rows = []
    for name in NAMES:
        row: dict[str, Any] = {"factor": name, "words": " / ".join(WORDS[name])}
        for arm in (TRANSPOSED, DIFFERENCE, *MASKED, SINGULAR, SPARSE):
            if name not in NAMED.get(arm, NAMES):
                row[arm] = ""
                continue
            parts = {t: parts_of(at[t], arm, [name])[:, 0] for t in at}
            best = max(parts, key=lambda t: float(parts[t].mean()))
            row[arm] = f"{shown(interval(parts[best]))} at {best:g}"
        rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Collect, compute, and write after every timestep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="avatars-text", help="a model of avatars with text (default avatars-text)")
    parser.add_argument("--samples", type=int, default=12, help="avatars (default 12; at least 2)")
    parser.add_argument(
        "--ts", type=float, nargs="+", default=[0.7, 0.9, 0.8, 0.6, 0.5], help="the first is the main one"
    )
    parser.add_argument("--tables", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    if args.samples < 2:
        parser.error(f"--samples: expected at least 2, got {args.samples}")
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    model = latentjac.load(args.model)
    plan = Plan(samples=args.samples, main_t=args.ts[0], other_ts=tuple(args.ts[1:]), seed=SEED)
    name = f"words_{Path(args.model).name.replace('-', '_')}"
    about = {"name": name, "machine": machine(), "avatars": plan.samples, "model_identity": model.identity()}
    args.tables.mkdir(parents=True, exist_ok=True)

    def write(found: Collected, ts: Sequence[float]) -> None:
        numbers = results(found, sorted(ts, reverse=True))
        write_json(args.tables / f"{name}.json", about | numbers)
        print(f"{len(found.observations)} edits in {time.perf_counter() - start:.0f} s", flush=True)
        for row in numbers["differences"]:
            print(row, flush=True)

    WordCollector(model, FactorReader.load(READER), plan).collect(progress=True, each=write)


if __name__ == "__main__":
    main()
