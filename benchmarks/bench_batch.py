"""What do runs cost beside what they compute, and what do batches gain? Then, with steps that take no time, a million.

    python benchmarks/bench_batch.py [overhead] [sizes] [memory] [many] [kills] [--items 16] [--rounds 5] [--kills 200]
    python benchmarks/bench_batch.py sizes --device cuda

A small network of random weights takes copies of a photo through inversion, a basis and an edit: by a run, and by the
same calls of the library without one, in alternation. Beside the time on the wall stands that of the processor, which
others on the machine disturb less. Memory is looked at over 10,000 seeds of 8 x 8 pixels through a basis and an edit.
The million has real tables, written without waiting for the disk; how long a start takes to find out what is left is
measured on it. Kills are those of tests/batch/killed.py, more of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import record
import torch
from diffusers import DDIMScheduler, UNet2DModel
from pyarrow import parquet

import latentjac
from latentjac import batch
from latentjac.batch import parts, run
from latentjac.batch.folder import part_name
from latentjac.batch.parts import Part, Result
from latentjac.batch.tasks import Work
from latentjac.batch.tried import tried_in
from latentjac.editing import Linear

FACE = Path(latentjac.__file__).parent / "assets" / "face.jpg"
T, K, TOL, STEPS, DISTANCE = 0.7, 2, 0.1, 6, 2.0
SIZES = (1, 2, 4, 8, 16)
INSTANT = 10_000
BUSY = "others used the processors meanwhile; ratios are medians over alternating rounds"


def small_model(device: str = "cpu", side: int = 32) -> latentjac.Model:
    """Of pictures so small that what an evaluation costs beside its arithmetic counts."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    widths = {"block_out_channels": (16, 32), "norm_num_groups": 8, "attention_head_dim": 8}
    network = UNet2DModel(sample_size=side, layers_per_block=1, **widths, **blocks)
    return latentjac.load(network.eval(), DDIMScheduler(clip_sample=False), device=device)


def spec_of(items: Any) -> dict[str, Any]:
    edit = {"method": "linear", "distance": DISTANCE, "num_steps": 1}
    bases = {"t": T, "k": K, "tol": TOL}
    return {"items": items, "invert": {"num_inference_steps": STEPS, "t": T}, "bases": bases, "edits": [edit]}


def bare(model: latentjac.Model, photos: Sequence[str], size: int) -> None:
    """What a run computes, without one."""
    for begin in range(0, len(photos), size):
        some = list(photos[begin : begin + size])
        point = latentjac.invert(model, some, STEPS, t=T).at(T)
        basis = latentjac.local_basis(model, point, K, tol=TOL)
        rows = basis.v.reshape(len(some), K, *point.sample.shape[1:])[:, :1]
        latentjac.edit(model, point.split(), rows, DISTANCE, method=Linear(num_steps=1, layer="mid"))


def clocked(case: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the wall and of the processor."""
    wall, own = time.perf_counter(), time.process_time()
    case()
    return time.perf_counter() - wall, time.process_time() - own


def in_turn(cases: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Times of every case in every round, after one to warm up."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, case in cases.items():
            times = clocked(case)
            if number:
                found[name].append(times)
    return found


def ratio(times: dict[str, list[tuple[float, float]]], above: str, below: str, clock: int) -> float:
    """Median over rounds of the ratio of two cases of the same round."""
    pairs = zip(times[above], times[below], strict=True)
    return statistics.median(a[clock] / b[clock] for a, b in pairs)


def first_item(model: latentjac.Model, photos: Sequence[str], folder: Path) -> Callable[[], None]:
    """A run until its first item is finished."""

    class Reached(BaseException):
        pass

    def reached(*arguments: object) -> None:
        raise Reached

    def start() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        add, Part.add = Part.add, reached  # type: ignore[method-assign]
        try:
            batch.Run(spec_of(list(photos)), folder, model=model, batch_size=1, shard="1/1").run()
        except Reached:
            pass
        finally:
            Part.add = add  # type: ignore[method-assign]

    return start


def overhead(model: latentjac.Model, photos: Sequence[str], root: Path, rounds: int) -> list[dict[str, Any]]:
    """The engine against the same calls without it, and its start against one photo."""
    folder, full = root / "run", root / "full"
    size = 4

    def whole(photos: Sequence[str], folder: Path) -> None:
        batch.Run(spec_of(list(photos)), folder, model=model, batch_size=size, shard="1/1").run()

    def fresh() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        whole(photos, folder)

    whole(photos, full)
    cases = {
        "bare": lambda: bare(model, photos, size),
        "run": fresh,
        "nothing left": lambda: whole(photos, full),
        "one photo": lambda: bare(model, photos[:1], 1),
        "first item": first_item(model, photos, root / "first"),
    }
    times = in_turn(cases, rounds)
    rows = []
    for clock, name in enumerate(("wall", "processor")):
        each = [
            (r[clock] - n[clock]) / b[clock] + n[clock] / (b[clock] / len(photos) * 1000)
            for r, n, b in zip(times["run"], times["nothing left"], times["bare"], strict=True)
        ]
        rows.append({
            "items": len(photos),
            "rounds": rounds,
            "clock": name,
            "run_over_bare": ratio(times, "run", "bare", clock),
            "of_1000_such_over_bare": statistics.median(each),
            "first_item_over_one_photo": ratio(times, "first item", "one photo", clock),
            "seconds_an_item": statistics.median(t[clock] for t in times["bare"]) / len(photos),
        })  # fmt: skip
    return rows


def batch_sizes(
    model: latentjac.Model, photos: Sequence[str], rounds: int, sizes: Sequence[int] = SIZES
) -> list[dict[str, Any]]:
    """Items a second in batches against one at a time."""
    times = in_turn({str(size): lambda size=size: bare(model, photos, size) for size in sizes}, rounds)
    return [
        {
            "batch_size": size,
            "throughput_to_one_at_a_time": ratio(times, "1", str(size), 0),
            "by_the_processor": ratio(times, "1", str(size), 1),
            "seconds_an_item": statistics.median(t[0] for t in times[str(size)]) / len(photos),
        }
        for size in sizes
    ]


class Nothing:
    """A step that takes no time."""

    together = True

    def __init__(self, **place: Any) -> None:
        self.place = place

    def ready(self, work: Work) -> bool:
        return True

    def run(self, model: latentjac.Model, works: Sequence[Work]) -> list[Result]:
        return [Result({"psnr": 30.0, "singular_values": [2.0, 1.0]}) for _ in works]


def table_of(count: int, root: Path) -> Any:
    """A table of so many seeds, also as a file."""
    items = pyarrow.table({"id": [f"item-{i:07d}" for i in range(count)], "seed": range(count)})
    parquet.write_table(items, root / f"{count}.parquet")
    return items


def resident() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_over(made: batch.Run) -> list[float]:
    """Memory of this process after each tenth of a run."""
    seen, added, add = [], [0], Part.add

    def watched(part: Part, *arguments: Any) -> None:
        add(part, *arguments)
        added[0] += 1
        if added[0] % (len(made.items) // 10) == 0:
            seen.append(resident())

    Part.add = watched  # type: ignore[method-assign]
    try:
        made.run()
    finally:
        Part.add = add  # type: ignore[method-assign]
    return seen


def memory(root: Path, count: int) -> list[dict[str, Any]]:
    """Memory over many small items that are really computed."""
    table_of(count, root)
    bases = {"t": T, "k": K, "tol": TOL}
    edit = {"method": "linear", "distance": DISTANCE, "num_steps": 1}
    spec = {
        "items": str(root / f"{count}.parquet"),
        "sample": {"num_inference_steps": 2},
        "bases": bases,
        "edits": [edit],
    }
    begun = time.perf_counter()
    seen = memory_over(batch.Run(spec, root / "memory", model=small_model(side=8), shard="1/1"))
    return [
        {
            "items": count,
            "seconds": round(time.perf_counter() - begun, 1),
            **{f"MB_after_{10 * tenth}_%": round(seen[tenth - 1], 1) for tenth in (1, 2, 5, 10)},
        }
    ]


def instant_run(model: latentjac.Model, count: int, root: Path) -> batch.Run:
    items = root / f"{count}.parquet"
    spec = {"items": str(items), "sample": {"num_inference_steps": 2}}
    return batch.Run(spec, root / f"instant-{count}", model=model, batch_size=64, shard="1/1")


def fill(again: batch.Run, done: batch.Run) -> None:
    """Write the tables of a run as copies of the first one of another, with ids, seeds and digests of their own."""
    folder = done.folder
    kept = parts.read_part(folder, folder.parts()[0], folder.read_manifest()["fingerprint"])
    steps = len(kept) // parts.MOST_ITEMS
    again.folder.path.mkdir()
    shutil.copy(folder.path / "run.json", again.folder.path)
    again.folder.make_inside()
    facts = [(item.id, item.seed, item.digest) for item in again.items for _ in range(steps)]
    for number, begin in enumerate(range(0, len(facts), len(kept))):
        name = part_name(again.shard, number)
        columns = [*zip(*facts[begin : begin + len(kept)], strict=True), [name] * len(facts[begin : begin + len(kept)])]
        table = kept.slice(0, len(columns[0]))
        for column, values in zip(("id", "seed", "item", "part"), columns, strict=True):
            at = table.column_names.index(column)
            table = table.set_column(at, column, pyarrow.array(values, table.schema.field(column).type))
        parquet.write_table(table, again.folder.table(name))


def many(model: latentjac.Model, million: int, root: Path) -> list[dict[str, Any]]:
    """Memory over 10,000 items whose steps take no time, and starts behind them and behind a million."""
    run.tasks_of = lambda spec: [Nothing(step="start"), Nothing(step="basis", t=T, layer="mid"), Nothing(step="edit")]
    table_of(INSTANT, root)
    seen = memory_over(instant_run(model, INSTANT, root))
    small = instant_run(model, INSTANT, root)
    table_of(million, root)
    large = instant_run(model, million, root)
    fill(large, small)
    rows = []
    for done, count in ((small, INSTANT), (large, million)):
        fingerprint = done.folder.read_manifest()["fingerprint"]
        scan = clocked(lambda done=done, fingerprint=fingerprint: done._left(tried_in(done.folder, fingerprint)))
        start = clocked(lambda done=done: done.run())
        tables = list((done.folder.path / "table").iterdir())
        rows.append({
            "items": count,
            "tables": len(tables),
            "tables_MB": round(sum(file.stat().st_size for file in tables) / 1e6, 1),
            "scan_s_of_the_processor": scan[1],
            "scan_s": scan[0],
            "start_and_page_s_of_the_processor": start[1],
        })  # fmt: skip
    growth = f"{seen[0]:.0f} to {seen[-1]:.0f}"
    return [{**row, "memory_MB_of_a_run": text} for row, text in zip(rows, (growth, "not run"), strict=True)]


def kills(count: int, root: Path) -> list[dict[str, Any]]:
    """Kills of real processes at every write and at random; the program fails where anything is lost, twice or half."""
    program = Path(__file__).resolve().parents[1] / "tests" / "batch" / "killed.py"
    command = [sys.executable, str(program), str(root), "1", str(count), "1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    ways = ("at every write", "at random")
    return [{"killed": how, **found} for how, found in zip(ways, json.loads(done.stdout), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["overhead", "sizes", "memory", "many", "kills"])
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long", type=int, default=0, help="overhead also in one round of so many items")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--small", type=int, default=10_000, help="items of memory")
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of sizes")
    parser.add_argument("--quick", action="store_true", help="sizes 1 and 2 once, no file")
    args = parser.parse_args()
    if args.device == "cuda" and args.what != ["sizes"]:
        parser.error("--device cuda is for sizes alone")
    if args.quick:
        args.items, args.rounds = 2, 1

    warnings.simplefilter("ignore")  # of inversions and bases of random weights
    model, root = small_model(args.device), Path(tempfile.mkdtemp())
    many_photos = [str(root / f"{i:03d}.jpg") for i in range(max(args.items, args.long))]
    for path in many_photos:
        shutil.copy(FACE, path)
    photos = many_photos[: args.items]
    made = {
        "overhead": lambda: [
            *overhead(model, photos, root / "short", args.rounds),
            *(overhead(model, many_photos[: args.long], root / "long", 1) if args.long else ()),
        ],
        "sizes": lambda: batch_sizes(model, photos, args.rounds, SIZES[:2] if args.quick else SIZES),
        "memory": lambda: memory(root, args.small),
        "many": lambda: many(model, args.million, root),
        "kills": lambda: kills(args.kills, root),
    }
    try:
        for name in args.what:
            rows = made[name]()
            print(record.table(rows))
            if not args.quick:
                file = f"batch_{name}{'_cuda' if args.device == 'cuda' else ''}"
                record.write(file, rows, args.device, note=BUSY)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
