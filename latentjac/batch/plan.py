"""What a run will do and how large it will be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentjac.batch.edit_spec import EditOf
from latentjac.batch.fitting import Sizes
from latentjac.batch.items import Items
from latentjac.batch.mask_spec import MaskOf
from latentjac.batch.shards import Shard
from latentjac.batch.slider_spec import SliderOf
from latentjac.batch.spec import Spec
from latentjac.batch.tasks import tasks_of
from latentjac.models import Model
from latentjac.public import warn

_PART_OF_PIXELS = 0.5  # of three bytes a pixel, what a PNG of a photo takes, about
_ROW_BYTES, _BASIS_BYTES = 300, 2500  # of a row of a table; of the facts and bounds of a basis


@dataclass(frozen=True)
class Plan:
    """What is to be done. Bytes are estimates.

    Attributes:
        items: Items of the shard.
        left: Those that are not done yet; all that follows is of these.
        shard: Which part of all items.
        steps: What is done for each, in order.
        rows: Rows of tables.
        bases: Bases that are kept.
        pictures: Picture files.
        table_bytes: Size of the tables.
        basis_bytes: Size of the bases.
        picture_bytes: Size of the pictures.
        free_bytes: What is free where the folder is or will be.
    """

    items: int
    left: int
    shard: Shard
    steps: tuple[str, ...]
    rows: int
    bases: int
    pictures: int
    table_bytes: int
    basis_bytes: int
    picture_bytes: int
    free_bytes: int

    @property
    def total_bytes(self) -> int:
        """Size of all that will be written."""
        return self.table_bytes + self.basis_bytes + self.picture_bytes

    def __str__(self) -> str:
        lines = [
            f"items of shard {self.shard}: {self.items}, of which {self.left} are left",
            "steps of each:",
            *(f"  {step}" for step in self.steps),
            f"to be written: about {_size(self.total_bytes)}; free there: {_size(self.free_bytes)}",
            f"  tables    {self.rows} rows, {_size(self.table_bytes)}",
            f"  bases     {self.bases}, {_size(self.basis_bytes)}",
            f"  pictures  {self.pictures}, {_size(self.picture_bytes)}",
        ]
        if self.total_bytes > self.free_bytes:
            lines.append("  this is more than is free")
        return "\n".join(lines)


def plan_of(
    spec: Spec, items: Items, model: Model, sizes: Sizes, shard: Shard, mine: int, left: int, folder: Path
) -> Plan:
    """The plan of a shard, of which some items are left."""
    tasks = tasks_of(spec)
    bases, basis_bytes = 0, 0
    if spec.bases is not None:
        bases = len(spec.bases.t) * len(spec.bases.layer)
        values = sum(sizes.sample + sizes.features[layer] for layer in spec.bases.layer) * len(spec.bases.t)
        basis_bytes = values * spec.bases.k * model.dtype.itemsize + bases * _BASIS_BYTES
    pictures = sum(1 if edit.compose else len(edit.directions) * len(edit.distance) for edit in spec.edits)
    pictures += sum(len(slider.values) for slider in spec.sliders)
    seeds = sum(photo is None for photo in items.table.column("photo").to_pylist())
    drawn = left * pictures + round(left * seeds / len(items))
    height, width = model.codec.size
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return Plan(
        items=mine,
        left=left,
        shard=shard,
        steps=tuple(_step(task.place, _mask_of(spec, task.place)) for task in tasks),
        rows=left * len(tasks),
        bases=left * bases,
        pictures=drawn,
        table_bytes=left * len(tasks) * _ROW_BYTES,
        basis_bytes=left * basis_bytes,
        picture_bytes=round(drawn * height * width * 3 * _PART_OF_PIXELS),
        free_bytes=shutil.disk_usage(there).free,
    )


def warn_of_room(plan: Plan) -> None:
    """Warn where more is to be written than is free."""
    if plan.total_bytes > plan.free_bytes:
        needed, free = _size(plan.total_bytes), _size(plan.free_bytes)
        warn(
            f"run: the folder's disk must have room for about {needed}, got {free} that are free; where it is full "
            "the run ends, and goes on when it is started again"
        )


def _mask_of(spec: Spec, place: dict[str, Any]) -> MaskOf | None:
    """The mask of a step."""
    if "number" in place:
        entries: Sequence[EditOf | SliderOf] = spec.sliders if "slider" in place else spec.edits
        return entries[place["number"] - 1].mask
    return None if spec.bases is None or place["step"] == "start" else spec.bases.mask


def _step(place: dict[str, Any], mask: MaskOf | None) -> str:
    """A step in words."""
    if place["step"] == "start":
        return "invert, or sample where there is no photo"
    number = f" {place['number']}" if "number" in place else ""
    masked = "" if mask is None else f", mask {mask}"
    if "slider" in place:
        return f"{place['step']}{number}, {place['slider']}, at t = {place['t']:g}{masked}"
    return f"{place['step']}{number} at t = {place['t']}, layer {place['layer']}{masked}"


def _size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
