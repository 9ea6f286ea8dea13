"""Runs that are killed, at every write or at random, and started again; a program, since it forks.

    python killed.py FOLDER STRIDE KILLS SEED

It ends with status 0 where nothing was lost, twice or half after any kill, and prints for both ways how many there
were, in how many runs. Of the writes, every so-manieth one is a kill's. At random, each start is of one process, or of
two with a shard each.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from batch.instant import check_whole, instant_tasks, items_of, small_model, start

from latentjac.batch import open as open_run
from latentjac.batch import parts, run
from latentjac.models import Model

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree")


def die_at(write: int, folder: Path) -> None:
    """Have this process killed before its so-manieth change of a folder; where that is a sync, of half the file."""
    seen = 0
    sync = os.fsync

    def count() -> bool:
        nonlocal seen
        seen += 1
        return seen == write

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in _CHANGES) and str(folder) in str(arguments[0]) and count():
            os.kill(os.getpid(), signal.SIGKILL)

    def half(descriptor: int) -> None:
        if count():
            size = os.fstat(descriptor).st_size
            if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.ftruncate(descriptor, size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = half
    sys.addaudithook(watch)


def started(items: Path, folder: Path, model: Model, write: int | None = None, shard: str = "1/1") -> int:
    """A run in a process of its own; gives back its number."""
    child = os.fork()
    if child == 0:
        if write is not None:
            die_at(write, folder)
        try:
            start(items, folder, model, batch_size=2, shard=shard).run()
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # at once, before anybody can kill what has failed
        os._exit(0)
    return child


def ended(child: int) -> bool:
    """Whether a run came to its end; it was killed otherwise."""
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"a run ended with status {status}"
    return status == 0


def check(folder: Path, count: int, *, complete: bool) -> None:
    if (folder / "run.json").exists():
        check_whole(open_run(folder), count, complete=complete)


def at_writes(root: Path, model: Model, count: int, stride: int) -> dict[str, int]:
    """Kill a run at its first write, another some writes later, and so on; each is started again afterwards."""
    items, write, killed, runs = items_of(root, count), 1 - stride, 0, 0
    while True:
        write, runs = write + stride, runs + 1
        folder = root / "run"
        shutil.rmtree(folder, ignore_errors=True)
        if ended(started(items, folder, model, write)):
            return {"kills": killed, "runs": runs}
        check(folder, count, complete=False)
        # The second start dies, too, early: what removes pieces must survive that.
        killed += 1 + (not ended(started(items, folder, model, 1 + runs % 7)))
        start(items, folder, model).run()
        check(folder, count, complete=True)


def at_random(root: Path, model: Model, count: int, kills: int, seed: int) -> dict[str, int]:
    """Kill processes after random times until there were so many kills; one or two work at once."""
    items, draw, folder = items_of(root, count), random.Random(seed), root / "run"
    killed, runs = 0, 1
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()
    start(items, folder, model).run()
    longest = 1.2 * (time.monotonic() - begun)
    shutil.rmtree(folder)
    while killed < kills:
        processes = draw.choice((1, 2))
        children = [started(items, folder, model, shard=f"{i + 1}/{processes}") for i in range(processes)]
        before = 0.0
        for moment, child in sorted((draw.uniform(0, longest), child) for child in children):
            time.sleep(moment - before)
            before = moment
            os.kill(child, signal.SIGKILL)
        whole = [ended(child) for child in children]
        check(folder, count, complete=all(whole))
        killed += whole.count(False)
        if all(whole):
            shutil.rmtree(folder)
            runs += 1
    start(items, folder, model).run()
    check(folder, count, complete=True)
    return {"kills": killed, "runs": runs}


def main() -> None:
    root, stride, kills, seed = Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:])
    parts.MOST_ITEMS = 2
    run.tasks_of = instant_tasks
    model = small_model()
    print(json.dumps([at_writes(root, model, 3, stride), at_random(root, model, 12, kills, seed)]))


if __name__ == "__main__":
    main()
