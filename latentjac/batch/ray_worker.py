"""Items that Ray Data hands to a process, through the steps of a run and into its folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from latentjac.arguments import check_int, check_kind, check_text, shown
from latentjac.batch.compute import is_of_device
from latentjac.batch.fingerprint import manifest_of, settle
from latentjac.batch.fitting import check_fits, load_named
from latentjac.batch.folder import RunFolder, ray_part_name, working
from latentjac.batch.items import Item, Items
from latentjac.batch.parts import Part, joined_tables, read_part
from latentjac.batch.pipeline import BATCH_SIZE, MOST_AT_ONCE, Pipeline
from latentjac.batch.ray_batches import empty_rows, items_in
from latentjac.batch.shards import RayShare
from latentjac.batch.spec import Spec, read_spec
from latentjac.batch.stored import pictures_of
from latentjac.batch.tasks import tasks_of
from latentjac.batch.tried import check_unchanged, tried_in
from latentjac.report.extras import require_pyarrow

RETRIES = 3


class RayWorker:
    """What ``ray.data.Dataset.map_batches`` takes to do the steps of a run; an actor loads the model once.

    ::

        rows = dataset.map_batches(
            latentjac.batch.RayWorker,
            fn_constructor_kwargs={"spec": "/shared/spec.yaml", "folder": "/shared/run"},
            batch_size=64, batch_format="pyarrow", compute=ray.data.ActorPoolStrategy(size=4),
            num_gpus=1,
        )

    A batch has columns ``id``, and ``photo`` (a file that every machine can read) or ``seed``, ``prompt`` and ``class``
    as a table of items has; ``image`` may stand for ``photo`` and hold pictures, as arrays or as the bytes of a file.
    Other columns are carried through. What comes back has a row for each item and step, as
    :meth:`latentjac.batch.Results.table` has.

    Everything is written to the folder, in parts, as a run does; :func:`latentjac.batch.open` reads it. Items that are
    done there are not computed again: their rows are read. So whatever a killed worker had finished is not lost, and
    nothing is there twice. Where the device fails, the process ends, and Ray gives the batch to another one.

    Args:
        spec: A YAML file, or a mapping with the same keys; ``items`` may be left out, and is not read.
        folder: New, empty, or that of a run with the same settings, on a file system that all machines share. Paths
            must be absolute: workers have current folders of their own.
        device: Where the model computes; ``"auto"`` is a GPU where Ray gave the worker one.
        batch_size: Items that are computed together; at most 256.
        retries: How often a batch is tried again whose worker died; then an error ends the job.
        items: Number of all items, if known; for :attr:`latentjac.batch.RunStatus.items`.

    Raises:
        ImportError: If pyarrow is missing, or PyYAML for a spec in a file.
        TypeError: If an argument or a value of the spec has a wrong type.
        ValueError: If a value is out of range, the folder holds something else, or a run without Ray works there.
    """

    def __init__(
        self,
        spec: Any,
        folder: str | Path,
        *,
        device: str = "auto",
        batch_size: int = BATCH_SIZE,
        retries: int = RETRIES,
        items: int = 0,
    ) -> None:
        require_pyarrow()
        check_kind("RayWorker", "folder", folder, (str, Path), "a str or Path")
        for name, path in (("folder", folder), ("spec", spec)):
            if isinstance(path, (str, Path)) and not Path(path).is_absolute():
                raise ValueError(f"RayWorker: {name} must be an absolute path, got {shown(str(path))}")
        device = check_text("RayWorker", "device", device)
        batch_size = check_int("RayWorker", "batch_size", batch_size, 1, MOST_AT_ONCE)
        self._retries = check_int("RayWorker", "retries", retries, 0)
        count = check_int("RayWorker", "items", items, 0)
        self._folder = RunFolder(Path(folder))
        self._folder.check_usable()
        self._spec: Spec = read_spec(spec, items_given=True)
        self._model = load_named(self._spec, device)
        manifest = manifest_of(self._spec, self._model, count)
        self._fingerprint: str = manifest["fingerprint"]
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._held = ExitStack()  # for as long as the process lives
        self._held.enter_context(working(self._folder, RayShare(), joining=True))
        settle(self._folder, manifest)
        self._folder.make_inside()
        self._tried = {id: (t.part, t.digest, t.attempt) for id, t in tried_in(self._folder, self._fingerprint).items()}
        self._pictures = pictures_of(self._spec.items, self._spec.root)
        self._fits = False
        self._pipeline = Pipeline(
            self._model,
            tasks_of(self._spec),
            self._folder,
            self._fingerprint,
            batch_size,
            tarred=self._spec.pictures == "tar",
        )

    def close(self) -> None:
        """Let others work on the folder; the end of the process does the same."""
        self._held.close()

    def __call__(self, batch: Any) -> Any:
        """Do the steps for a batch, but for what is done, and write it; give back the rows of all its items.

        Args:
            batch: A mapping of columns, or a table of pyarrow.

        Returns:
            A table of pyarrow.

        Raises:
            TypeError: If it is neither.
            ValueError: If an item has neither photo nor seed, or is not what it was, or the model cannot do it.
            OSError: If a part cannot be written.
            RuntimeError: If the batch ended its worker too often, or if the device failed and the process is none of
                Ray's.
        """
        items, attempts = items_in(batch, self._pictures, self._spec.mask_columns)
        if items is None:
            return empty_rows()
        if not self._fits:
            check_fits(self._model, self._spec, items)
            self._fits = True
        left = [number for number, item in enumerate(items) if self._is_left(item, attempts[item.id])]
        digests = {item.id: item.digest for item in items.at(left)}
        written: dict[str, tuple[str, str, int]] = {}

        def named(part: Part) -> str:
            name = ray_part_name(part.attempts)
            written.update({id: (name, digests[id], attempt) for id, attempt in part.attempts})
            return name

        if left:
            with self._counted(ray_part_name([(item.id, attempts[item.id]) for item in items.at(left)])):
                self._pipeline.do(
                    items.at(left), lambda item: attempts[item.id], items.own_types, named, lambda done, failed: None
                )
        self._tried |= written
        return self._rows(items)

    @contextmanager
    def _counted(self, batch: str) -> Iterator[None]:
        """Work on a batch unless it ended too many processes; end this one where the device fails."""
        mark = self._folder.mark(batch)
        begun = int(mark.read_bytes() or b"0") if mark.exists() else 0
        if begun > self._retries:
            mark.unlink(missing_ok=True)
            raise RuntimeError(
                f"RayWorker: a batch must not end its worker more than {self._retries} times, got {begun}"
            )
        mark.write_bytes(b"%d" % (begun + 1))
        try:
            yield
        except RuntimeError as error:
            if is_of_device(error) and _in_actor():
                print(f"RayWorker: the device failed, and this process ends: {error}", file=sys.stderr, flush=True)
                os._exit(1)  # nothing in it can use the device any more
            raise
        finally:
            mark.unlink(missing_ok=True)  # not where the process was killed

    def _is_left(self, item: Item, attempt: int) -> bool:
        _, digest, last = self._tried.get(item.id, ("", item.digest, 0))
        check_unchanged(item, digest)
        return last < attempt

    def _rows(self, items: Items) -> Any:
        """The rows of items, all of which are done."""
        import pyarrow
        import pyarrow.compute as compute

        ids: dict[str, list[str]] = {}
        for item in items:
            ids.setdefault(self._tried[item.id][0], []).append(item.id)
        found = []
        for part, some in ids.items():
            table = read_part(self._folder, part, self._fingerprint)
            found.append(table.filter(compute.is_in(table.column("id"), pyarrow.array(some, "string"))))
        return joined_tables(found)


def _in_actor() -> bool:
    """Whether Ray can start this process again."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
