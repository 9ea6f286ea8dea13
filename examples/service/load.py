"""Many clients at once against a service on this machine, for a bounded number of requests.

    python load.py http://127.0.0.1:8000 --clients 8 --rounds 4

Each client has a photo of its own, and every answer has to be one of this photo: a client asks again for what it got
before, and gets the same bits, and no other client gets them. Prints JSON: requests by kind with the median and the
95th percentile of their seconds, refusals, answers that were wrong, and with ``--pid`` of the service the MiB that it
holds after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

MOST = 2000  # requests of all clients together
PATIENCE = 600  # seconds for an answer, of a service that may wait for a busy machine


class Client:
    """One photo, its bases and its slider."""

    def __init__(self, http: httpx.AsyncClient, number: int, report: Report) -> None:
        self._http, self._report = http, report
        self.first: tuple[list[float], list[bytes]] | None = None
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((96, 96)).save(file, format="PNG")
        self.photo = file.getvalue()

    async def run(self, rounds: int, deadline: float) -> None:
        """Upload, a basis and edits, so many times, or until no further one may begin."""
        for _ in range(rounds):
            if time.perf_counter() >= deadline:
                return
            photo = (await self._post("photo", "/photos", content=self.photo)).json()["photo"]
            lines = (await self._post("basis", f"/photos/{photo}/basis", json={"t": 0.6, "k": 2})).text.splitlines()
            *progress, found = map(json.loads, lines)
            steps = [step["progress"]["done"] for step in progress if step["progress"]["what"] == "inversion"]
            self._report.wrong += "basis" not in found or steps != sorted(steps) or not steps
            path = f"/bases/{found['basis']}/edit"
            stands = [{"direction": 0, "distance": distance} for distance in (-1.5, 1.5)]
            pictures = [(await self._post("edit", path, json=stand)).content for stand in stands]
            self.first = self.first or (found["s"], pictures)
            self._report.wrong += (found["s"], pictures) != self.first
            self._report.look()

    async def _post(self, kind: str, path: str, **content: Any) -> httpx.Response:
        """An answer; where the service is busy, once it no longer is."""
        while True:
            began = time.perf_counter()
            answer = await self._http.post(path, **content)
            if answer.status_code != 503:
                answer.raise_for_status()
                self._report.seconds[kind].append(time.perf_counter() - began)
                return answer
            self._report.busy += 1
            await asyncio.sleep(0.2)


class Report:
    """What happened."""

    def __init__(self, pid: int | None = None) -> None:
        self.memory: list[float] = []
        self._pid = pid
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.busy = self.wrong = 0

    def look(self) -> None:
        """Note how much memory the service holds, on Linux."""
        if self._pid is not None:
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            self.memory.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        kinds = {
            kind: {"requests": len(times), "median": float(np.median(times)), "p95": float(np.quantile(times, 0.95))}
            for kind, times in self.seconds.items()
        }
        return {"kinds": kinds, "busy": self.busy, "wrong": self.wrong, "mib": self.memory}


async def load(url: str, clients: int, rounds: int, seconds: float, pid: int | None = None) -> Report:
    """Run so many clients; no round begins after so many seconds."""
    if clients * rounds * 4 > MOST:
        raise ValueError(f"load: clients * rounds must be at most {MOST // 4}, got {clients * rounds}")
    report = Report(pid)
    deadline = time.perf_counter() + seconds
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as http:
        all_clients = [Client(http, number, report) for number in range(clients)]
        await asyncio.gather(*(client.run(rounds, deadline) for client in all_clients))
    answers = [tuple(client.first[0]) for client in all_clients if client.first]
    report.wrong += len(answers) - len({*answers})
    return report


def main() -> None:
    """Read the command line and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pid", type=int)
    given = parser.parse_args()
    report = asyncio.run(load(given.url, given.clients, given.rounds, given.seconds, given.pid))
    sys.stdout.write(json.dumps(report.to_dict(), indent=1) + "\n")


if __name__ == "__main__":
    main()
