"""A run: every item through every step, into a folder from which it goes on whenever it is started again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from latentjac.arguments import check_bool, check_int, check_kind, check_text
from latentjac.batch.compute import load_item
from latentjac.batch.fingerprint import check_same, manifest_of, settle
from latentjac.batch.fitting import check_fits, load_named
from latentjac.batch.folder import PAGE, RunFolder, part_name, starting, working
from latentjac.batch.item_tables import OWN
from latentjac.batch.items import Item, Items, read_items
from latentjac.batch.parts import COLUMNS
from latentjac.batch.pipeline import BATCH_SIZE, MOST_AT_ONCE, Pipeline
from latentjac.batch.plan import Plan, plan_of, warn_of_room
from latentjac.batch.ray_batches import blocks_of
from latentjac.batch.ray_run import Cluster, require_ray
from latentjac.batch.ray_worker import RETRIES
from latentjac.batch.results import Results
from latentjac.batch.results import open as open_results
from latentjac.batch.shards import RayShare, Shard
from latentjac.batch.spec import Spec, read_spec
from latentjac.batch.summary import write_page
from latentjac.batch.tasks import tasks_of
from latentjac.batch.tried import Tried, check_unchanged, tried_in
from latentjac.models import Model
from latentjac.stopping import Bar


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
        device: Where a named model computes; ``"auto"`` is a GPU where torch sees one: under torchrun and srun that of
            the number that the process has on its machine.
        batch_size: Items that are computed together, where the library takes several at once; at most 256. Memory that
            has no room for so many halves it.
        retry_failed: Do items again that have an error; what they gave before no longer counts.
        shard: Which part of the items, such as ``"2/8"``; by default as the variables of Slurm and of torchrun say, and
            all items without these.

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
        self.batch_size = check_int("Run", "batch_size", batch_size, 1, MOST_AT_ONCE)
        self._retry_failed = check_bool("Run", "retry_failed", retry_failed)
        self.shard = _shard(shard)
        self.folder = RunFolder(Path(folder))
        self.folder.check_usable()
        self.spec: Spec = read_spec(spec)
        self.items: Items = read_items(self.spec.items, self.spec.root)
        self.items.take_masks(self.spec.mask_columns)
        taken = [name for name in self.items.table.column_names if name in COLUMNS and name not in OWN]
        if taken:
            raise ValueError(f"items: own columns must not be called as those of results, got {taken[0]!r}")
        self._given = model is not None
        if model is not None:
            self.model = model

    @cached_property
    def model(self) -> Model:
        """The model; loaded when it is first asked for."""
        return load_named(self.spec, self._device)

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
        tried = {} if there is None else tried_in(self.folder, now["fingerprint"])
        left = len(self._left(tried))
        mine = sum(id in self.shard for id in self.items.table.column("id").to_pylist())
        return plan_of(self.spec, self.items, self.model, sizes, self.shard, mine, left, self.folder.path)

    def run(self, *, progress: bool = False) -> Results:
        """Do what is left to do, and write the page of the run: after the first part, and at the end.

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
        with self._begun(self.shard) as begun:
            numbers = count(self.folder.next_part(self.shard))
            bar = Bar(f"run, shard {self.shard}", len(begun.left), "item", shown=progress)
            seen = (self.folder.path / PAGE).exists()

            def advanced(items: int, failed: int) -> None:
                nonlocal seen
                bar.update(items)
                if failed:
                    bar.set_postfix(errors=failed)
                if not seen and self.folder.parts():  # the first part, to see whether the settings are good
                    self._ended()
                    seen = True

            tasks, tarred = tasks_of(self.spec), self.spec.pictures == "tar"
            pipeline = Pipeline(self.model, tasks, self.folder, begun.fingerprint, self.batch_size, tarred=tarred)
            with bar:
                pipeline.do(
                    self.items.at(begun.left),
                    begun.attempt,
                    self.items.own_types,
                    lambda part: part_name(self.shard, next(numbers)),
                    advanced,
                )
            return self._ended()

    def run_on_ray(
        self,
        address: str = "auto",
        *,
        workers: int | None = None,
        num_cpus: int = 1,
        num_gpus: float | None = None,
        retries: int = RETRIES,
        progress: bool = False,
    ) -> Results:
        """As :meth:`run`, computed by the processes of a Ray cluster, each of which is a :class:`RayWorker`.

        All machines must see the folder, the photos and the model under the same paths. A worker writes what it has
        finished; where one dies, another goes on behind it.

            results = latentjac.batch.Run("spec.yaml", "/shared/run").run_on_ray("auto", num_gpus=1)

        Args:
            address: ``"auto"`` for the cluster that this machine belongs to, ``"local"`` for one of this machine alone
                that ends with the run, or ``host:port``. A process that is connected already stays so.
            workers: Processes; by default as many as the cluster has room for.
            num_cpus: Processors of each, which are its threads.
            num_gpus: GPUs of each; by default one where the cluster has any.
            retries: How often a batch is tried again whose worker died, as it does where the device fails.
            progress: Show a progress bar.

        Returns:
            All results that are in the folder.

        Raises:
            ImportError: If ray is not installed.
            TypeError: If an argument has a wrong type.
            ValueError: If an argument is out of range, or as :meth:`run` does.
            ConnectionError: If there is no cluster at the address.
            RuntimeError: If a worker failed, or died more often than it may.
        """
        progress = check_bool("run_on_ray", "progress", progress)
        require_ray()
        cluster = Cluster(address, workers, num_cpus, num_gpus, retries)
        if self._given:
            raise ValueError("run_on_ray: model must be left to the spec, which workers load it by, got one")
        if self.shard.count > 1:
            raise ValueError(f"run_on_ray: shard must be 1/1, since Ray divides the items, got {self.shard}")
        with cluster.connected(), self._begun(RayShare()) as begun:
            size = cluster.block_size(len(begun.left), self.batch_size)
            blocks = list(blocks_of(self.items, begun.left, begun.attempt, size))
            device = "cpu" if self._device == "cpu" else "auto"  # a worker sees its own GPU alone
            options = {"device": device, "batch_size": self.batch_size, "items": len(self.items)}
            with Bar("run on Ray", len(begun.left), "item", shown=progress) as bar:
                if blocks:
                    for rows in cluster.rows(blocks, self.spec, str(self.folder.path.absolute()), **options):
                        bar.update(len(rows.column("id").unique()))
            return self._ended()

    @contextmanager
    def _begun(self, share: Shard | RayShare) -> Iterator[Begun]:
        """Hold a share of the run; within, its folder is in order, and what is left to do is known."""
        sizes = check_fits(self.model, self.spec, self.items)
        manifest = manifest_of(self.spec, self.model, len(self.items))
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with working(self.folder, share):
            settle(self.folder, manifest)
            self.folder.make_inside()
            with starting(self.folder):  # those of others are for one alone to remove
                self.folder.remove_pieces(share)
            tried = tried_in(self.folder, manifest["fingerprint"])
            left = self._left(tried)
            todo = len(left)
            warn_of_room(plan_of(self.spec, self.items, self.model, sizes, self.shard, todo, todo, self.folder.path))
            yield Begun(manifest["fingerprint"], tried, left)

    def _ended(self) -> Results:
        """Write the page of the run."""
        results = open_results(self.folder.path)
        write_page(results, self._photo)
        return results

    def _photo(self, id: str) -> Image.Image | None:
        """The photo of an item at the model's size; None where there is none that can be read."""
        import pyarrow.compute as compute

        row = compute.index(self.items.table.column("id"), id).as_py()
        return None if row < 0 else load_item(next(self.items.at([row])), self.model.codec.size).work.picture

    def _left(self, tried: dict[str, Tried]) -> Sequence[int]:
        """Rows of items of the shard that are to be done, in order; raise where one that is done has changed."""
        left = array("q")
        if not tried:
            left.extend(i for i, id in enumerate(self.items.table.column("id").to_pylist()) if id in self.shard)
            return left
        for number, item in enumerate(self.items):
            last = tried.get(item.id)
            if last is not None:
                check_unchanged(item, last.digest)
            if (last is None or (self._retry_failed and last.failed)) and item.id in self.shard:
                left.append(number)
        return left


@dataclass(frozen=True)
class Begun:
    """A run that is begun.

    Attributes:
        fingerprint: Of the run.
        tried: Finished items by id.
        left: Rows of items that are to be done.
    """

    fingerprint: str
    tried: dict[str, Tried]
    left: Sequence[int]

    def attempt(self, item: Item) -> int:
        """Which attempt an item that is to be done is at."""
        last = self.tried.get(item.id)
        return 1 if last is None else last.attempt + 1


def _shard(given: str | Shard | None) -> Shard:
    if given is None:
        return Shard.from_environment()
    return given if isinstance(given, Shard) else Shard.parse(given)
