"""Items through all steps, some at a time; what fails is found and noted, and the others go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from latentjac.batch.items import Item
from latentjac.batch.masks import read_own
from latentjac.batch.parts import Result
from latentjac.batch.work import ERROR, OK, SKIPPED, Task, Work
from latentjac.linearization.allocator import is_out_of_memory
from latentjac.models import Model
from latentjac.models.prepare import fit_image, read_image
from latentjac.stopping import StoppedError
from latentjac.strict_json import readable

_LONGEST_ERROR = 1000


@dataclass(frozen=True)
class Loaded:
    """An item whose photo was read.

    Attributes:
        work: The item, to be worked on.
        error: Why its photo could not be read; None if it could, or there is none.
    """

    work: Work
    error: str | None = None


@dataclass(frozen=True)
class Done:
    """An item that went through all steps.

    Attributes:
        item: The item.
        results: One a step.
    """

    item: Item
    results: list[Result]


def load_item(item: Item, size: tuple[int, int]) -> Loaded:
    """Read an item's photo and make it the model's size, as inversion would; needs no model and may run beside one.

    Its own masks are read, too.
    """
    picture, whole = None, None
    if item.photo is not None:
        try:
            read = read_image(item.photo if item.stored is None else item.stored.picture(), "photo")
            picture, whole = fit_image(read, size, cropped=False).image, read.image.size[::-1]
        except Exception as error:  # whatever a broken file leads a decoder to
            return Loaded(Work(item, None), _told(error))
    masks = {column: read_own(path, column, whole) for column, path in item.masks.items()}
    return Loaded(Work(item, picture, masks=masks))


def compute(model: Model, tasks: Sequence[Task], loaded: Sequence[Loaded], shrunk: Callable[[int], None]) -> list[Done]:
    """Items through all steps.

    Args:
        model: The model.
        tasks: The steps, in order.
        loaded: The items.
        shrunk: Called with a number of items that memory had no room for at once.

    Raises:
        RuntimeError: If the device failed.
    """
    found: list[list[Result]] = [[] for _ in loaded]
    for number, task in enumerate(tasks):
        ready = []
        for i, entry in enumerate(loaded):
            if entry.error is not None and number == 0:
                found[i].append(Result({**_begun(task, entry), "status": ERROR, "error": entry.error}))
            elif entry.error is None and task.ready(entry.work):
                ready.append(i)
            else:
                found[i].append(Result({**_begun(task, entry), "status": SKIPPED}))
        results = _attempted(model, task, [loaded[i] for i in ready], shrunk)
        for i, result in zip(ready, results, strict=True):
            found[i].append(result)
    return [Done(entry.work.item, results) for entry, results in zip(loaded, found, strict=True)]


def _begun(task: Task, entry: Loaded) -> dict[str, Any]:
    """Columns that tell a row; the first step is named after what it would have done."""
    place = dict(task.place)
    if place["step"] == "start":
        place["step"] = "sample" if entry.work.item.photo is None else "invert"
    return place


def _attempted(model: Model, task: Task, entries: Sequence[Loaded], shrunk: Callable[[int], None]) -> list[Result]:
    """A result for each; where some fail together, halves are tried, down to those that fail alone."""
    if len(entries) > 1 and not task.together:
        return [result for entry in entries for result in _attempted(model, task, [entry], shrunk)]
    if not entries:
        return []
    begun = time.perf_counter()
    results, failed = _results(model, task, entries)
    # Outside of any handler: what the failed attempt held is free again.
    if failed is None:
        seconds = (time.perf_counter() - begun) / len(entries)
        for entry, result in zip(entries, results, strict=True):
            result.row = {**_begun(task, entry), "status": OK, "seconds": seconds, **result.row}
        return results
    if len(entries) == 1:
        facts = {"status": ERROR, "error": failed.message, "seconds": time.perf_counter() - begun}
        return [Result({**_begun(task, entries[0]), **facts})]
    if failed.of_memory:
        shrunk(len(entries))
    middle = len(entries) // 2
    return [result for part in (entries[:middle], entries[middle:]) for result in _attempted(model, task, part, shrunk)]


@dataclass(frozen=True)
class _Failed:
    """Why an attempt failed, without what the error holds on to."""

    message: str
    of_memory: bool


def _results(model: Model, task: Task, entries: Sequence[Loaded]) -> tuple[list[Result], _Failed | None]:
    """Results of an attempt, or how it failed."""
    try:
        return task.run(model, [entry.work for entry in entries]), None
    except Exception as error:
        if is_of_device(error) or isinstance(error, StoppedError):
            raise
        return [], _Failed(_told(error), is_out_of_memory(error))


def _told(error: Exception) -> str:
    """An error in one line."""
    text, kind = " ".join(str(error).split()), type(error).__name__
    known = isinstance(error, (ValueError, TypeError, OSError))
    return readable(kind if not text else text if known else f"{kind}: {text}")[:_LONGEST_ERROR]


def is_of_device(error: Exception) -> bool:
    """Whether the device itself failed: no item can be computed any more, and none is to blame."""
    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, torch.AcceleratorError) or (isinstance(error, RuntimeError) and "CUDA error" in str(error))
