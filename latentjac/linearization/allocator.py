"""Memory: blocks that the processor's allocator keeps between the instructions of a pass, and running out of it."""

from __future__ import annotations

from functools import cache

import torch

# glibc takes blocks from its own pool, instead of mapping fresh pages, up to the size of the largest mapped block that
# was ever freed, but never above 32 MiB; and it keeps twice that size of free pool before it returns any.
_LARGEST_POOLED = 32 * 2**20


@cache
def keep_memory() -> None:
    """Free one block of the largest pooled size, from which glibc learns to keep such blocks.

    Without it every pass returns its memory and faults it in again, page by page: a tenth of a pass of a small network.
    It changes no setting that the process may have made itself, and does nothing with other allocators.
    """
    torch.empty(_LARGEST_POOLED - 2**16, dtype=torch.uint8)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device: fewer things at once may fit."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # Of a processor there is no class of its own.
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )
