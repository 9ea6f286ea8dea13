"""Items through the processes of a Ray cluster."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from latentjac.arguments import check_int, check_number, check_text, shown
from latentjac.batch.parts import MOST_ITEMS
from latentjac.batch.ray_worker import RETRIES, RayWorker
from latentjac.batch.spec import Spec
from latentjac.strict_json import readable

_ADDRESS = re.compile(r"auto|local|[-A-Za-z0-9.]+:[0-9]{1,5}", re.ASCII)
_MOST_WORKERS, _MOST_PROCESSORS, _MOST_GPUS, _MOST_RETRIES = 10_000, 1024, 64, 100
_BLOCKS_A_WORKER = 4  # so that no worker waits long for the others at the end
_LONGEST_ERROR = 1000
_PATIENCE = 10.0  # seconds until nobody answers at an address; Ray itself waits for minutes


def require_ray() -> None:
    """Raise an ImportError that names the remedy if Ray Data is missing."""
    if importlib.util.find_spec("ray") is None:
        raise ImportError("clusters need ray, which is not installed: pip install 'latentjac[ray]'")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what of it a run takes.

    Attributes:
        address: ``"auto"`` for the cluster that this machine belongs to, ``"local"`` for one of this machine alone that
            ends with the run, or ``host:port``.
        workers: Processes; None for as many as the cluster has room for.
        num_cpus: Processors of each, which are its threads.
        num_gpus: GPUs of each; None for one where the cluster has any.
        retries: How often a batch is tried again whose worker died.
    """

    address: str
    workers: int | None = None
    num_cpus: int = 1
    num_gpus: float | None = None
    retries: int = RETRIES

    def __post_init__(self) -> None:
        name = "run_on_ray"
        if not _ADDRESS.fullmatch(check_text(name, "address", self.address)):
            got = shown(self.address)
            raise ValueError(f"{name}: address must be 'auto', 'local' or host:port, got {got}")
        check_int(name, "workers", self.workers, 1, _MOST_WORKERS, optional=True)
        check_int(name, "num_cpus", self.num_cpus, 1, _MOST_PROCESSORS)
        check_number(name, "num_gpus", self.num_gpus, 0, _MOST_GPUS, least=True, most=True, optional=True)
        check_int(name, "retries", self.retries, 0, _MOST_RETRIES)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Be connected within, if this process is not yet.

        Raises:
            ConnectionError: If there is no cluster at the address.
        """
        import ray

        if ray.is_initialized():
            yield
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        own = {"include_dashboard": False} if self.address == "local" else {}
        try:
            if ":" in self.address:
                host, port = self.address.rsplit(":", 1)
                socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
            ray.init(self.address, logging_level=logging.WARNING, **own)
        except (OSError, OverflowError) as error:
            raise ConnectionError(
                f"run_on_ray: address must be that of a running Ray cluster, got {shown(self.address)}"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()

    def shares(self) -> tuple[int, float]:
        """How many workers there are to be, and how many GPUs each gets."""
        import ray

        there = ray.cluster_resources()
        gpus = (1.0 if there.get("GPU", 0) >= 1 else 0.0) if self.num_gpus is None else float(self.num_gpus)
        room = int(there.get("CPU", 0) // self.num_cpus)
        if gpus:
            room = min(room, int(there.get("GPU", 0) // gpus))
        return self.workers or max(1, room), gpus

    def block_size(self, items: int, least: int) -> int:
        """How many items a worker is given at once: whole parts, but several times as many blocks as workers."""
        workers, _ = self.shares()
        return max(min(least, MOST_ITEMS), min(MOST_ITEMS, -(-items // (_BLOCKS_A_WORKER * workers))))

    def rows(self, blocks: Sequence[Any], spec: Spec, folder: str, **options: Any) -> Iterator[Any]:
        """Tables of rows, as workers finish blocks of items.

        Args:
            blocks: Tables of items, all of the same length but for the last.
            spec: The spec.
            folder: That of the run.
            **options: Of :class:`RayWorker`.

        Raises:
            RuntimeError: If a worker failed, or died more often than it may.
        """
        import ray

        workers, gpus = self.shares()
        with _quiet():
            # Blocks stay as they are, so that each is a batch; other sources ask tasks for schemas that are known.
            done = ray.data.from_blocks(list(blocks)).map_batches(
                RayWorker,
                fn_constructor_kwargs={"spec": spec, "folder": folder, "retries": self.retries, **options},
                batch_size=len(blocks[0]),
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(workers, len(blocks))),
                num_cpus=self.num_cpus,
                num_gpus=gpus or None,
            )
            try:
                yield from done.iter_batches(batch_size=None, batch_format="pyarrow")
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"run_on_ray: a worker failed: {_told(error)}") from error


def _told(error: Exception) -> str:
    """What made a worker fail, in one line: what the innermost error was."""
    inner: BaseException = error
    while (deeper := getattr(inner, "cause", None) or inner.__cause__) is not None:
        inner = deeper
    text = " ".join(str(inner).split()) or type(inner).__name__
    return readable(text)[-_LONGEST_ERROR:]


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data draws no bars of its own."""
    import ray

    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        log.setLevel(before[1])
