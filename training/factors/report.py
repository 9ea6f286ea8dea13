"""Tables, figure and sheet of the study of docs/factors.md."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from factors.collecting import CONTINUOUS, Example
from factors.meaning import NAMES, largest
from factors.statistics import SCRAMBLED
from latentjac.models import to_pil
from latentjac.report import Row, contact_sheet
from latentjac.report.extras import picture_of

# What is measured at every timestep.
ALL_TIMESTEPS = ("local basis, mid", "rotated basis, mid")


def text(number: dict[str, float]) -> str:
    """A mean and its interval."""
    return f"{number['mean']:.2f} [{number['low']:.2f}, {number['high']:.2f}]"


def arm_row(arm: dict[str, Any]) -> dict[str, Any]:
    """One arm as a row of a table."""
    return {
        "directions": arm["arm"],
        "distance": f"{arm['amount']:.2g}",
        "effect": f"{arm['effect']:.3f}",
        "one_factor": text(arm["one_factor"]),
        "all_factors": text(arm["explained"]),
        "means_something": text(arm["means_something"]),
        "same_both_ways": text(arm["same_both_ways"]),
        "factors_named": text(arm["distinct"]),
        "same_on_other_avatars": f"{arm['agreement']:.2f}",
    }


def reader_row(arm: dict[str, Any]) -> dict[str, Any]:
    """What the reader says of one arm as a row of a table."""
    return {
        "directions": arm["arm"],
        "purity": text(arm["read_purity"]),
        "by_entropy": text(arm["read_entropy_purity"]),
        "size": text(arm["read_size"]),
        "above_the_floor": text(arm["read_above_floor"]),
        "names_the_same_factor": text(arm["read_same_name"]),
        "antisymmetry_of_pictures": text(arm["antisymmetry"]),
    }


def difference_row(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """One paired difference as a row of a table."""
    return {"directions": name, "difference": text(found["student"]), "by_bootstrap": text(found["bootstrap"])}


def main_row(found: dict[str, Any]) -> dict[str, Any]:
    """The main number, and what it says."""
    low, high = found["student"]["low"], found["student"]["high"]
    says = "the interval holds 0: no difference found"
    if low > 0:
        says = "the basis is better than its rotation"
    elif high < 0:
        says = "the rotation is better than the basis"
    return {"basis less its rotation": text(found["student"]), "by bootstrap": text(found["bootstrap"]), "says": says}


def known_row(name: str, known: dict[str, Any]) -> dict[str, Any]:
    """One positive control as a row of a table."""
    return {
        "control": name,
        "effect": f"{known['effect']:.3f}",
        "one_factor": text(known["one_factor"]),
        "all_factors": text(known["explained"]),
        "named_rightly": text(known["named"]),
        "reader's_purity": text(known["read_purity"]),
        "reader_names_rightly": text(known["read_named"]),
    }


def rows_of(results: dict[str, Any], main_t: float) -> dict[str, list[dict[str, Any]]]:
    """All tables, by name."""
    arms = results["arms"]
    main = [a for a in arms if a["t"] == main_t and a["equal"] == "effect"]
    paths = [a for a in arms if a["equal"] == "effect" and a["arm"] in ALL_TIMESTEPS]
    return {
        "rows": [arm_row(a) for a in main],
        "main": [main_row(results["main_number"])],
        "reader": [reader_row(a) for a in main],
        "equal_distance": [arm_row(a) for a in arms if a["t"] == main_t and a["equal"] == "amount"],
        "timesteps": [{"t": f"{a['t']:g}", **arm_row(a)} for a in sorted(paths, key=lambda a: (a["arm"], -a["t"]))],
        "differences": [
            difference_row(f"{d['arm']}, t = {d['t']:g}, equal {'effect' if d['equal'] == 'effect' else 'distance'}", d)
            for d in results["differences"]
        ],
        "spans": [
            {
                "span of": s["arm"],
                "best factor's part": text(s["best_in_span"]),
                "factors above half": text(s["factors_in_span"]),
            }
            for s in results["spans"]
            if s["t"] == main_t
        ],
        "above_random": [difference_row(d["arm"], d) for d in results["above_random"]],
        "positive_controls": [known_row(name, k) for name, k in results["known"].items()],
        "nulls": [{key: f"{value:.2f}" for key, value in results["nulls_of_read_purity"].items()}],
    }


def figure(results: dict[str, Any], main_t: float) -> Image.Image:
    """Which factors the edits of every arm are explained by, and how well by one alone, with intervals."""
    from matplotlib.figure import Figure

    arms = [a for a in results["arms"] if a["t"] == main_t and a["equal"] == "effect"]
    plot = Figure(figsize=(11, 0.42 * len(arms) + 1.9), dpi=120, layout="constrained")
    left, right = plot.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
    shares = torch.tensor([[a["factor_first"][name] for name in NAMES] for a in arms])
    image = left.imshow(shares.numpy(), cmap="Blues", vmin=0, aspect="auto")
    left.set_xticks(range(len(NAMES)), [name.replace("_", " ") for name in NAMES], rotation=55, ha="right")
    left.set_yticks(range(len(arms)), [a["arm"] for a in arms])
    left.set_title("how often each factor explains an edit best", fontsize=10)
    plot.colorbar(image, ax=left, fraction=0.04, pad=0.01)
    for i, a in enumerate(arms):
        part = a["one_factor"]
        ends = [[part["mean"] - part["low"]], [part["high"] - part["mean"]]]
        control = any(a["arm"].startswith(word) for word in ("rotated", "scrambled", "random"))
        right.errorbar(part["mean"], i, xerr=ends, fmt="o", color="#8a8f98" if control else "#2458a6", capsize=3)
    ceiling = results["known"]["factor, inverted"]["one_factor"]["mean"]
    right.axvline(ceiling, color="#a6452e", linestyle=":", linewidth=1)
    right.set_xlabel("dotted: changes of one known factor")
    right.set_xlim(0, 1)
    right.set_title(f"one factor's part, {arms[0]['samples']} avatars", fontsize=10)
    right.grid(axis="x", alpha=0.3)
    return picture_of(plot)


def sheet_of(examples: list[Example], most: int = 2) -> Image.Image:
    """The first directions of every arm at the first avatar, both ways, with the factor that explains each best."""
    rows = []
    shown: dict[str, int] = {}
    for example in examples:
        shown[example.arm] = shown.get(example.arm, 0) + 1
        if shown[example.arm] > most or (example.arm.startswith("scrambled") and example.arm != SCRAMBLED):
            continue
        shares = torch.stack(example.shares)
        notes = [
            f"{name or 'none'} {share:.2f}".replace("_", " ")
            for name, share in zip(largest(shares), shares.amax(1).tolist(), strict=True)
        ]
        known = example.arm.startswith("factor")
        number = CONTINUOUS[example.direction].replace("_", " ") if known else str(example.direction + 1)
        rows.append(Row(f"{example.arm}, {number}", f"{notes[0]}, {notes[1]}", to_pil(example.pictures)))
    heading = "The factor that explains each change best, and its part of it"
    return contact_sheet(rows, heading=heading, columns=("-", "unedited", "+"), cell=64)
