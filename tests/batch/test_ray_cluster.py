"""Runs on a Ray cluster of several nodes that the test starts; one worker is killed on the way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from batch.instant import write_spec
from cli.commands import run as command

from latentjac import batch
from latentjac.batch.ray_run import Cluster

if os.environ.get("LATENTJAC_REQUIRE_RAY") != "1":
    pytest.importorskip("ray")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow
ITEMS, STORE = 40, 80_000_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """That of a cluster of two nodes with a processor each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_enable_worker_prestart", "0")
        patch.setenv("RAY_worker_niceness", "0")
        from ray import cluster_utils

        node = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
            yield cluster.address
        finally:
            cluster.shutdown()


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of a run of seeds through a small network."""
    return write_spec(tmp_path_factory.mktemp("ray"), ITEMS)


def kill_a_worker(folder: Path, killed: list[int]) -> None:
    """Kill a worker once there is a part, and note how many parts there were."""
    import psutil

    for _ in range(3000):
        parts = list((folder / "table").glob("*.parquet"))
        workers = [p for p in psutil.Process().children(recursive=True) if _title(p).startswith("ray::MapWorker")]
        if parts and workers:
            workers[0].send_signal(signal.SIGKILL)
            killed.append(len(parts))
            return
        time.sleep(0.1)


def _title(process: Any) -> str:
    import psutil

    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def test_a_worker_is_killed_on_the_way(address: str, spec: Path, tmp_path: Path) -> None:
    folder, killed = tmp_path / "run", list[int]()
    killer = threading.Thread(target=kill_a_worker, args=(folder, killed))
    killer.start()
    done = command("run", spec, "--out", folder, "--ray", address, "--batch-size", "2", "--device", "cpu")
    killer.join()
    assert done.returncode == 0, done.stderr
    results = batch.open(folder)
    parts = list((folder / "table").iterdir())
    assert killed[0] < len(parts)
    assert len(list(folder.glob(".ray-*.lock"))) <= 1, "that of the killed worker"
    import pyarrow
    from pyarrow import parquet

    raw = pyarrow.concat_tables([parquet.read_table(part) for part in parts])
    keys = list(zip(raw.column("id").to_pylist(), raw.column("step").to_pylist(), strict=True))
    assert len(set(keys)) == len(keys) == 2 * ITEMS, "lost or twice"
    status = results.status()
    assert (status.items, status.done, status.with_errors, status.working) == (ITEMS, ITEMS, 0, ())
    for row in results.table().to_pylist():
        assert row["weight"] == row["seed"] / 2
    alone = batch.Run(spec, tmp_path / "alone", shard="1/1", device="cpu").run()
    for i in (0, 7, ITEMS - 1):
        one, other = (found.basis(f"item {i}").s for found in (results, alone))
        assert one.tolist() == pytest.approx(other.tolist(), rel=1e-3)
        assert len(results.images(f"item {i}")) == 1
    again = command("run", spec, "--out", folder, "--ray", address, "--device", "cpu")
    assert again.returncode == 0, again.stderr
    assert batch.open(folder).table().equals(results.table())


def test_other_programs_hand_over_their_own_items(address: str, spec: Path, tmp_path: Path) -> None:
    """As in docs/batch.md: RayWorker in a pipeline of Ray Data."""
    import ray

    ray.init(address, log_to_driver=False)
    try:
        rows = ray.data.from_items([{"id": f"own {i}", "seed": i} for i in range(6)]).map_batches(
            batch.RayWorker,
            fn_constructor_kwargs={"spec": str(spec), "folder": str(tmp_path / "run"), "device": "cpu"},
            batch_size=3,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=1),
            num_cpus=1,
        )
        found = rows.take_all()
    finally:
        ray.shutdown()
    assert sorted({row["id"] for row in found}) == [f"own {i}" for i in range(6)]
    assert batch.open(tmp_path / "run").status().done == 6


@pytest.mark.parametrize("nowhere", ["localhost:1", "localhost:99999"])
def test_no_cluster_at_an_address(nowhere: str) -> None:
    with (
        pytest.raises(ConnectionError, match=f"address must be that of a running Ray cluster, got '{nowhere}'"),
        Cluster(nowhere).connected(),
    ):
        pass
