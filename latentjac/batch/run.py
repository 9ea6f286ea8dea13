"""A run: every item through every step, into a folder from which it goes on whenever it is started again."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from latentjac.arguments import check_bool, check_int, check_kind, check_text
from latentjac.batch.compute import Loaded, compute, load_item
from latentjac.batch.fingerprint import check_same, manifest_of
from latentjac.batch.fitting import check_fits
from latentjac.batch.folder import RunFolder, part_name, starting, working
from latentjac.batch.items import OWN, Item, Items, read_items
from latentjac.batch.parts import COLUMNS, Part, attempts_of, read_part
from latentjac.batch.plan import Plan, plan_of
from latentjac.batch.results import Results
from latentjac.batch.results import open as open_results
from latentjac.batch.shards import Shard
from latentjac.batch.spec import Spec, read_spec
from latentjac.batch.summary import write_page
from latentjac.batch.tasks import ERROR, tasks_of
from latentjac.models import Model, load
from latentjac.public import warn
from latentjac.stopping import Bar

BATCH_SIZE = 4
MOST_AT_ONCE = 256


class Run:
    """A spec, its items and a folder; nothing is computed before :meth:`run`.

        run = latentjac.batch.Run("spec.yaml", "run")
        print(run.plan())
        results = run.run(progress=True)

    Attributes:
        spec: What is done.
        items: For what.
        folder: Where to.
        shard: For which part of the items.

    Args:
        spec: A YAML file, or a mapping with the same keys.
        folder: New, empty, or that of a run with the same settings, which goes on.
        model: The model, instead of the one that the spec names.
        device: Where a named model computes; ``"auto"`` is a GPU where torch sees one, that of ``LOCAL_RANK`` under
            torchrun.
        batch_size: Items that are computed together, where the library takes several at once; at most 256. Memory that
            has no room for so many halves it.
        retry_failed: Do items again that have an error; what they gave before no longer counts.
        shard: Which part of the items, such as ``"2/8"``; by default as the variables of Slurm's job arrays and of
            torchrun say, and all items without these.

    Raises:
        ImportError: If pyarrow is missing, or PyYAML for a spec in a file.
        TypeError: If an argument or a value of the spec has a wrong type.
        ValueError: If a value is out of range, or the folder holds something else.
        FileNotFoundError: If the spec or its items are not there.
    """

    def __init__(
        self,
        spec: Any,
        folder: str | Path,
        *,
        model: Model | None = None,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        retry_failed: bool = False,
        shard: str | Shard | None = None,
    ) -> None:
        check_kind("Run", "folder", folder, (str, Path), "a str or Path")
        check_kind("Run", "model", model, Model, "a latentjac.Model", optional=True)
        self._device = check_text("Run", "device", device)
        self._batch_size = check_int("Run", "batch_size", batch_size, 1, MOST_AT_ONCE)
        self._retry_failed = check_bool("Run", "retry_failed", retry_failed)
        self.shard = _shard(shard)
        self.folder = RunFolder(Path(folder))
        self.folder.check_usable()
        self.spec: Spec = read_spec(spec)
        self.items: Items = read_items(self.spec.items, self.spec.root)
        taken = [name for name in self.items.table.column_names if name in COLUMNS and name not in OWN]
        if taken:
            raise ValueError(f"items: own columns must not be called as those of results, got {taken[0]!r}")
        if model is not None:
            self.model = model

    @cached_property
    def model(self) -> Model:
        """The model; loaded when it is first asked for."""
        device = self._device
        if device == "auto":
            count = torch.cuda.device_count() if torch.cuda.is_available() else 0
            rank = os.environ.get("LOCAL_RANK", "0")
            device = "cpu" if count == 0 else f"cuda:{int(rank) % count if rank.isdecimal() else 0}"
        dtype = None if self.spec.dtype is None else getattr(torch, self.spec.dtype)
        return load(self.spec.model, device=device, dtype=dtype)

    def plan(self) -> Plan:
        """What is to be done and how large it will be; nothing is written.

        Raises:
            ValueError: If the model cannot do it, or the folder is that of a run with other settings.
        """
        sizes = check_fits(self.model, self.spec, self.items)
        now = manifest_of(self.spec, self.model, len(self.items))
        there = self.folder.read_manifest()
        if there is not None:
            check_same(str(self.folder.path), there, now)
        tried = {} if there is None else self._tried(now["fingerprint"])
        left = len(self._left(tried))
        mine = sum(id in self.shard for id in self.items.table.column("id").to_pylist())
        return plan_of(self.spec, self.items, self.model, sizes, self.shard, mine, left, self.folder.path)

    def run(self, *, progress: bool = False) -> Results:
        """Do what is left to do, and write the page of the run.

        An item that cannot be computed has rows with its error, and the others go on. Whatever ends the run before,
        finished items are written first, and the next start goes on behind them.

        Args:
            progress: Show a progress bar.

        Returns:
            All results that are in the folder.

        Raises:
            KeyboardInterrupt: On Ctrl-C; finished items are written.
            OSError: If the disk is full or cannot be written; the part under way is not there then.
            ValueError: If the model cannot do it, the folder is that of a run with other settings, an item is not what
                it was, or somebody works on the same shard.
            RuntimeError: If the device failed.
        """
        progress = check_bool("run", "progress", progress)
        check_fits(self.model, self.spec, self.items)
        manifest = manifest_of(self.spec, self.model, len(self.items))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with working(self.folder, self.shard):
            self._settle(manifest)
            self.folder.make_inside()
            self.folder.remove_pieces(self.shard)
            tried = self._tried(manifest["fingerprint"])
            left = self._left(tried)
            bar = Bar(f"run, shard {self.shard}", len(left), "item", shown=progress)
            with bar:
                self._work(self.items.at(left), tried, manifest["fingerprint"], bar)
            results = open_results(self.folder.path)
            write_page(results)
        return results

    def _settle(self, manifest: dict[str, Any]) -> None:
        """Have the manifest there, the same as ours but for the number of items."""
        with starting(self.folder):
            there = self.folder.read_manifest()
            if there is not None:
                check_same(str(self.folder.path), there, manifest)
            if there is None or there.get("items") != manifest["items"]:
                self.folder.write_manifest(manifest)

    def _tried(self, fingerprint: str) -> dict[str, _Tried]:
        """Finished items by id, each as its last attempt ended."""
        found: dict[str, _Tried] = {}
        for part in self.folder.parts():
            table = read_part(self.folder, part, fingerprint, ("id", "item", "status", "attempt"))
            columns = [table.column(name).to_pylist() for name in ("id", "item", "status")]
            for id, digest, status, attempt in zip(*columns, attempts_of(table).to_pylist(), strict=True):
                last = found.get(id)
                if last is None or last.attempt < attempt:
                    found[id] = _Tried(digest, attempt, status == ERROR)
                elif last.attempt == attempt and status == ERROR and not last.failed:
                    found[id] = _Tried(digest, attempt, True)
        return found

    def _left(self, tried: dict[str, _Tried]) -> Sequence[int]:
        """Rows of items of the shard that are to be done, in order; raise where one that is done has changed."""
        left = array("q")
        if not tried:
            left.extend(i for i, id in enumerate(self.items.table.column("id").to_pylist()) if id in self.shard)
            return left
        for number, item in enumerate(self.items):
            last = tried.get(item.id)
            if last is not None and last.digest != item.digest:
                raise ValueError(
                    f"Run: items that are done must stay as they were, got {item.id!r} with another photo, prompt, "
                    "seed or class; give it a new id, or take a new folder"
                )
            if (last is None or (self._retry_failed and last.failed)) and item.id in self.shard:
                left.append(number)
        return left

    def _work(self, items: Iterator[Item], tried: dict[str, _Tried], fingerprint: str, bar: tqdm) -> None:
        """Take items through all steps and write them in parts; what is finished is written, whatever ends this."""
        number, tasks = self.folder.next_part(self.shard), tasks_of(self.spec)
        own = {f.name: f.type for f in self.items.table.schema if f.name not in OWN}
        failed, tarred = 0, self.spec.pictures == "tar"
        with ThreadPoolExecutor(1) as reader, _Writer(self.folder, fingerprint) as writer:
            part = Part(part_name(self.shard, number), own, tarred=tarred)
            try:
                for loaded in self._loaded(items, reader):
                    for done in compute(self.model, tasks, loaded, self._halve):
                        last = tried.get(done.item.id)
                        part.add(_facts(done.item, 1 if last is None else last.attempt + 1), done.results)
                        failed += any(result.row["status"] == ERROR for result in done.results)
                        if part.full:
                            writer.write(part)
                            number += 1
                            part = Part(part_name(self.shard, number), own, tarred=tarred)
                    bar.update(len(loaded))
                    if failed:
                        bar.set_postfix(errors=failed)
            finally:
                writer.write(part)

    def _loaded(self, items: Iterator[Item], reader: ThreadPoolExecutor) -> Iterator[list[Loaded]]:
        """Items with their photos, some at a time; the next ones are read while these are computed."""
        size = self.model.codec.size

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

    def __init__(self, folder: RunFolder, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def write(self, part: Part) -> None:
        """Begin to write a part, once the one before is written."""
        self._wait()
        if len(part):
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


class _Tried(NamedTuple):
    """An item that has rows.

    Attributes:
        digest: Of what it was computed from.
        attempt: Number of the last attempt, from 1.
        failed: Whether a step of that failed.
    """

    digest: str
    attempt: int
    failed: bool


def _facts(item: Item, attempt: int) -> dict[str, Any]:
    """Columns that are the same in all rows of an item."""
    photo = None if item.photo is None else str(item.photo)
    known = {"id": item.id, "photo": photo, "prompt": item.prompt, "seed": item.seed, "class": item.label}
    return {**known, "item": item.digest, "attempt": attempt, **item.own}


def _shard(given: str | Shard | None) -> Shard:
    if given is None:
        return Shard.from_environment()
    return given if isinstance(given, Shard) else Shard.parse(given)
