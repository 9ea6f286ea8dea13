"""How many probes a pass takes at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import torch

from latentjac.linearization.instruction import Instruction
from latentjac.linearization.trace import Meta

# A processor's matmuls are efficient from here on; smaller chunks only pay more often for reading weights.
_FEWEST = 4


# Some of torch's kernels on a GPU, such as those that resize images, count entries with 32 bits.
_MOST_ENTRIES = 2**31 - 1


def chunk_size(live: int, largest: int, device: torch.device, memory_limit: int | None, entries: int) -> int:
    """Probes at once, so that they fit the memory and, on a processor, its shared cache.

    Args:
        live: From :func:`live_bytes`.
        largest: From there too.
        entries: Of one probe's largest tangent.
        device: Where the passes run.
        memory_limit: Bytes; half of what is free by default.
    """
    limit = memory_limit if memory_limit is not None else _free_bytes(device) // 2
    fits = max(1, limit // max(1, live))
    if device.type != "cpu":
        return max(1, min(fits, _MOST_ENTRIES // entries))
    # What one instruction reads and writes stays in the shared cache, where the next one finds it.
    cached = max(_FEWEST, _cache_bytes() // max(1, 2 * largest))
    return min(fits, cached)


def live_bytes(passes: Sequence[Instruction], metas: dict[int, Meta]) -> tuple[int, int]:
    """Most bytes of one probe's tangents that a pass needs at once, and those of the largest of them."""
    last = {slot: i for i, instruction in enumerate(passes) for slot in instruction.inputs}
    live, most, largest = 0, 0, 0
    for i, instruction in enumerate(passes):
        live += sum(metas[slot].nbytes for slot in instruction.outs)
        most = max(most, live)
        largest = max(largest, *(metas[slot].nbytes for slot in (*instruction.outs, *instruction.inputs)))
        live -= sum(metas[slot].nbytes for slot in instruction.inputs if last[slot] == i)
    return most, largest


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    try:
        with open("/proc/meminfo") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**32


@cache
def _cache_bytes() -> int:
    """Size of the processor's last cache."""
    sizes = []
    for index in range(5):
        try:
            with open(f"/sys/devices/system/cpu/cpu0/cache/index{index}/size") as file:
                text = file.read().strip()
            sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]])
        except (OSError, KeyError, ValueError):
            continue
    return max(sizes, default=2**25)
