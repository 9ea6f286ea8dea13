"""Memory of the passes: who may overwrite what, and how much was in use at once."""

from __future__ import annotations

from collections import Counter

import torch

Tensor = torch.Tensor


class Arena:
    """Bookkeeping of one program's passes.

    Attributes:
        peak_bytes: Most bytes that tangents of one pass held at once.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0

    def values(self) -> Values:
        """Values of a new pass."""
        return Values(self)


class Values:
    """Tangents or cotangents by slot, with a count of the slots that share memory.

    Views make it a question of run time which slots share memory: reshaping may or may not copy.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._tensors: dict[int, Tensor] = {}
        self._sharing: Counter[int] = Counter()
        self._sizes: dict[int, int] = {}
        self._held = 0

    def put(self, slot: int, value: Tensor, borrowed: bool = False) -> None:
        """Set a slot; a borrowed value belongs to the caller and is never overwritten."""
        self._tensors[slot] = value
        storage = value.untyped_storage()
        key = storage.data_ptr()
        self._sharing[key] += 2 if borrowed else 1
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._held += self._sizes[key]
            self._arena.peak_bytes = max(self._arena.peak_bytes, self._held)

    def get(self, slot: int) -> Tensor | None:
        """Value of a slot, None where there is none."""
        return self._tensors.get(slot)

    def owned(self, slot: int) -> bool:
        """Whether a slot's memory is its own: no other slot's, not the caller's, no entry twice."""
        value = self._tensors.get(slot)
        if value is None or self._sharing[value.untyped_storage().data_ptr()] != 1:
            return False
        return all(stride or size == 1 for stride, size in zip(value.stride(), value.shape, strict=True))

    def drop(self, slot: int) -> None:
        """Forget a slot."""
        value = self._tensors.pop(slot, None)
        if value is None:
            return
        key = value.untyped_storage().data_ptr()
        self._sharing[key] -= 1
        if not self._sharing[key]:
            del self._sharing[key]
            self._held -= self._sizes.pop(key)

    def add(self, slot: int, value: Tensor) -> None:
        """Add to a slot, in place where that is safe."""
        before = self._tensors.get(slot)
        if before is None:
            self.put(slot, value)
        elif self.owned(slot):
            before.add_(value)
        else:
            total = before + value
            self.drop(slot)
            self.put(slot, total)
