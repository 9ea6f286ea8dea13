"""The service of examples/service with the built-in model of faces, and more and more clients at once, on this machine.

    python benchmarks/bench_service.py

One process serves all rows, one after the other; examples/service/load.py asks, a bounded number of times, and checks
that every client gets the answers to its own photo, and the same bits when it asks again.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import record

SERVICE = record.RESULTS.parents[1] / "examples" / "service"
sys.path.insert(0, str(SERVICE))

import load  # noqa: E402

REQUESTS = 4  # of a client in a round: a photo, its basis, two edits


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Address and process of a service on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app:faces", "--factory", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=SERVICE)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while not _is_there(url):
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < end, "the service did not begin"
            time.sleep(0.2)
        yield url, process.pid
    finally:
        process.kill()
        process.wait()


def _is_there(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def processor_seconds(pid: int) -> float:
    """Of all threads of a process, so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def row(url: str, pid: int, clients: int, photos: int) -> dict[str, Any]:
    """So many clients at once, until so many photos have been answered."""
    before = processor_seconds(pid)
    report = asyncio.run(load.load(url, clients, photos // clients, 600, pid)).to_dict()
    used, kinds = processor_seconds(pid) - before, report["kinds"]
    seconds = {
        f"{kind}, {label} s": round(kinds[kind][label], 3) for kind in ("basis", "edit") for label in ("median", "p95")
    }
    return {
        "clients": clients,
        "requests": sum(kind["requests"] for kind in kinds.values()),
        "refused and asked again": report["busy"],
        **seconds,
        "processor s a photo": used * REQUESTS / sum(kind["requests"] for kind in kinds.values()),
        "MiB, first": report["mib"][0],
        "MiB, last": report["mib"][-1],
        "wrong answers": report["wrong"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 48])
    parser.add_argument("--photos", type=int, default=48, help="in each row, of all clients together")
    args = parser.parse_args()
    with serving() as (url, pid):
        asyncio.run(load.load(url, 1, 1, 60))  # the trace is made
        rows = []
        for clients in args.clients:
            rows.append(row(url, pid, clients, args.photos))
            assert not rows[-1]["wrong answers"], rows
            record.write("service", rows)
    print(record.table(rows))


if __name__ == "__main__":
    main()
