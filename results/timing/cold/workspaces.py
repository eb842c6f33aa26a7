"""Memory for what calls allocate on a CPU: blocks that take turns, so that no call gets what the last one has freed.

An allocator hands freed memory out again at once, still in a cache. So all free memory of glibc's heap is held here in
blocks, and one of them at a time is free: the one that was used the longest time ago.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Final

import torch

LARGEST: Final = 16 << 20  # bytes of a piece; glibc takes what is larger than 32 MiB from the system, always fresh
SMALLEST: Final = 32 << 10  # free memory in smaller pieces is too little to matter
SIZES: Final = tuple(LARGEST >> halvings for halvings in range((LARGEST // SMALLEST).bit_length()))
SLACK: Final = 2  # scratch memory inside of operators is not counted, and large tensors need room without gaps
PAGE: Final = 4096
HEADER: Final = 16  # bytes of glibc's own between two pieces of a whole number of pages
TRIES: Final = 64  # a block that holes in the heap tear apart is held and not used
ATTEMPTS: Final = 3  # the process may put an object that it keeps into a block
WALL: Final = 64
CACHED_BYTES: Final = 1032  # of the largest piece that glibc caches for a thread (tcache_max)
CACHED: Final = 7  # pieces of each size that it caches (tcache_count)
MOST_INSIDE: Final = 64  # such pieces of a block that are looked through


class _Heap(ctypes.Structure):
    """Answer of glibc's mallinfo2: of ``arena`` bytes ``fordblks`` are free, ``keepcost`` of these at the end."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


class Workspaces:
    """``count`` blocks of memory for calls that allocate ``call_bytes`` at their peak. The memory is its owner's.

    Only the thread that makes the calls may use it: other threads allocate elsewhere.
    """

    @staticmethod
    def of(count: int, call_bytes: int) -> Workspaces | None:
        """Return blocks that were seen to work, or None where the C library has another allocator or too little."""
        if (library := _glibc()) is None:
            return None
        made = Workspaces(library, count, call_bytes)
        works = any(all(made._works() for _ in range(count)) for _ in range(ATTEMPTS))
        return made if works else None

    def __init__(self, library: ctypes.CDLL, count: int, call_bytes: int) -> None:
        wanted = SLACK * call_bytes + SMALLEST
        pieces = -(-wanted // LARGEST)
        size = -(-wanted // pieces // PAGE) * PAGE
        self.block_bytes = pieces * size
        self._size = size
        self._library = library
        self._turn = 0
        self._blocks: list[list[int]] = []
        held: list[list[int]] = []
        self._finalizer = weakref.finalize(self, _free, library, self._blocks, held)
        _uncache(library, (0, 0))  # what takes the place of small pieces later lies before all blocks
        while len(self._blocks) <= count and len(held) < TRIES:
            block = [library.malloc(size) or 0 for _ in range(pieces)]
            whole = block[0] and all(after - before == size + HEADER for before, after in pairwise(block))
            (self._blocks if whole else held).append(block)
        self._complete = len(self._blocks) > count
        self._blocks.sort()
        self._spans = [(block[0], block[-1] + size) for block in self._blocks]
        for block in self._blocks[:count]:
            for piece in block:  # pages that were never written are nobody's
                torch.frombuffer((ctypes.c_uint8 * size).from_address(piece), dtype=torch.uint8)[::PAGE] = 1
        held.append(_take_free(library))
        for block in list(self._blocks):
            # Its beginning stays, a wall between it and the block before: two that were free together would be one.
            held.append([library.realloc(block.pop(0), WALL)])
            self.open()
            self.close()
        if self._complete:  # the last one was there for its wall, which keeps the others off the heap's end
            held.append(self._blocks.pop())
            self._turn = 0

    def open(self) -> tuple[int, int]:
        """Free the block whose turn it is; return its first address and that after its last."""
        block = self._blocks[self._turn]
        _free(self._library, [block])
        block.clear()
        return self._spans[self._turn]

    def close(self) -> None:
        """Hold what is free again; the turn passes to the next block."""
        span = self._spans[self._turn]
        whole = self._take_whole(span)
        self._blocks[self._turn] += whole + _take_free(self._library)
        if not whole:
            _uncache(self._library, span)
        self._turn = (self._turn + 1) % len(self._blocks)

    def _take_whole(self, span: tuple[int, int]) -> list[int]:
        """Take a block without leaving a rest, in which small objects would settle; return its pieces.

        There are none where something lies in it.
        """
        first, end = span
        taken: list[int] = []
        at = first + WALL + HEADER
        while at < end:
            piece = self._library.malloc(min(self._size, end - at))
            taken.append(piece or 0)
            if piece != at:
                _free(self._library, [taken])
                return []
            at += self._size + HEADER
        return taken

    def _works(self) -> bool:
        """Return whether a tensor gets its memory from the block whose turn it is; the turn passes."""
        if not self._complete:
            return False
        first, end = self.open()
        address = torch.empty(self.block_bytes // 4, dtype=torch.uint8).data_ptr()
        before = self._library.mallinfo2()
        self.close()
        after = self._library.mallinfo2()
        moved = (after.arena - after.keepcost) - (before.arena - before.keepcost)
        return first <= address < end and abs(moved) < self.block_bytes // 2  # small pieces may come from the end


def _take_free(library: ctypes.CDLL) -> list[int]:
    """Take all free memory but that at the heap's end; return its addresses.

    glibc is asked once how much there is: it looks at every free piece, and a long run leaves tens of thousands.
    """
    heap = library.mallinfo2()
    end = library.sbrk(0) - heap.keepcost
    left = heap.fordblks - heap.keepcost
    taken = []
    for size in SIZES:
        while left >= size:
            piece = library.malloc(size)
            if not piece or piece >= end:
                library.free(piece)
                break
            taken.append(piece)
            left -= size
    return taken


def _uncache(library: ctypes.CDLL, span: tuple[int, int]) -> None:
    """Let glibc cache small pieces of other memory in the place of those in a block, which tear it apart.

    A tensor's memory is aligned, and glibc keeps the few bytes before it for the thread's next small object.
    """
    first, end = span
    for size in range(24, CACHED_BYTES + 1, 16):
        inside: list[int] = []
        outside: list[int] = []
        while len(outside) < CACHED and len(inside) < MOST_INSIDE:
            piece = library.malloc(size) or 0
            (inside if first <= piece < end else outside).append(piece)
        _free(library, [outside, inside])  # the cache takes the first ones


def _free(library: ctypes.CDLL, *held: Sequence[Sequence[int]]) -> None:
    for blocks in held:
        for block in blocks:
            for piece in block:
                library.free(piece)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc, from 2.33 on; None elsewhere."""
    library = ctypes.CDLL(None)
    if not all(hasattr(library, name) for name in ("gnu_get_libc_version", "mallinfo2")):
        return None
    library.malloc.argtypes, library.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    library.realloc.argtypes, library.realloc.restype = (ctypes.c_void_p, ctypes.c_size_t), ctypes.c_void_p
    library.free.argtypes, library.free.restype = (ctypes.c_void_p,), None
    library.sbrk.argtypes, library.sbrk.restype = (ctypes.c_ssize_t,), ctypes.c_void_p
    library.mallinfo2.restype = _Heap
    return library
