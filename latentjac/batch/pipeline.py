"""Items through all steps and into parts, some at a time; reading, computing and writing overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from latentjac.batch.compute import Loaded, compute, load_item
from latentjac.batch.folder import RunFolder
from latentjac.batch.items import Item
from latentjac.batch.parts import Part
from latentjac.batch.work import ERROR, Task
from latentjac.models import Model
from latentjac.public import warn

BATCH_SIZE = 4  # items that are computed together, by default
MOST_AT_ONCE = 256


class Pipeline:
    """What takes items through steps.

    Args:
        model: The model.
        tasks: The steps.
        folder: Where parts are written.
        fingerprint: Of the run.
        batch_size: Items that are computed together; memory that has no room for so many halves it.
        tarred: Whether pictures of a part go into one file.
    """

    def __init__(
        self, model: Model, tasks: Sequence[Task], folder: RunFolder, fingerprint: str, batch_size: int, tarred: bool
    ) -> None:
        self._model, self._tasks, self._folder, self._fingerprint = model, tasks, folder, fingerprint
        self._batch_size, self._tarred = batch_size, tarred

    def do(
        self,
        items: Iterator[Item],
        attempt: Callable[[Item], int],
        own: dict[str, Any],
        named: Callable[[Part], str],
        advanced: Callable[[int, int], None],
    ) -> None:
        """Take items through all steps and write them in parts; what is finished is written, whatever ends this.

        Args:
            items: The items.
            attempt: Which attempt an item is at, from 1.
            own: Arrow's types of own columns of the items, by name.
            named: The name of a part that is about to be written.
            advanced: Called with numbers of items: those that were just done, and all that failed so far.

        Raises:
            OSError: If a part cannot be written.
            RuntimeError: If the device failed.
        """
        failed = 0
        with ThreadPoolExecutor(1) as reader, _Writer(self._folder, self._fingerprint, named) as writer:
            part = Part(own, tarred=self._tarred)
            try:
                for loaded in self._loaded(items, reader):
                    for done in compute(self._model, self._tasks, loaded, self._halve):
                        part.add(_facts(done.item, attempt(done.item)), done.results)
                        failed += any(result.row["status"] == ERROR for result in done.results)
                        if part.full:
                            writer.write(part)
                            part = Part(own, tarred=self._tarred)
                    advanced(len(loaded), failed)
            finally:
                writer.write(part)

    def _loaded(self, items: Iterator[Item], reader: ThreadPoolExecutor) -> Iterator[list[Loaded]]:
        """Items with their photos, some at a time; the next ones are read while these are computed."""
        size = self._model.codec.size

        def begin() -> list[Future[Loaded]]:
            return [reader.submit(load_item, item, size) for item in islice(items, self._batch_size)]

        ahead = begin()
        while ahead:
            now, ahead = ahead, begin()
            yield [future.result() for future in now]

    def _halve(self, count: int) -> None:
        """Take fewer items at once from now on."""
        fewer = max(1, count // 2)
        if fewer < self._batch_size:
            self._batch_size = fewer
            warn(f"run: memory has no room for {count} items at once; going on with {fewer}")


class _Writer:
    """Writes parts beside the computation, one at a time.

    Leaving it waits for the last one. Where one cannot be written, the next raises, and nothing is written after.
    """

    def __init__(self, folder: RunFolder, fingerprint: str, named: Callable[[Part], str]) -> None:
        self._folder, self._fingerprint, self._named = folder, fingerprint, named
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def write(self, part: Part) -> None:
        """Begin to write a part, once the one before is written."""
        self._wait()
        if len(part):
            part.name = self._named(part)
            self._pending = self._pool.submit(part.write, self._folder, self._fingerprint)

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()  # it stays the pending one where this raises
            self._pending = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        while True:
            try:
                self._pool.shutdown(wait=True)
                break
            except (KeyboardInterrupt, SystemExit):  # once more; what is being written must end before the lock does
                continue
        if kind is None or not issubclass(kind, OSError):
            self._wait()


def _facts(item: Item, attempt: int) -> dict[str, Any]:
    """Columns that are the same in all rows of an item."""
    photo = None if item.photo is None else str(item.photo)
    known = {"id": item.id, "photo": photo, "prompt": item.prompt, "seed": item.seed, "class": item.label}
    return {**known, "item": item.digest, "attempt": attempt, **item.own}
