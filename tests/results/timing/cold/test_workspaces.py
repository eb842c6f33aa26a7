"""Blocks of memory that take turns: what a call allocates lies in none that was used lately, with few exceptions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from moebench.results.timing.cold.workspaces import _glibc

PROGRAM = """
import torch
from moebench.results.timing.memory import keep_freed_memory
from moebench.results.timing.cold.workspaces import Workspaces

keep_freed_memory()
holes = [torch.empty(3 << 20) for _ in range(6)]
del holes[::2]
missed = 0
for round in range(2):
    kept, blocks = [], []
    workspaces = Workspaces.of(3, {call_bytes})
    for sample in range(90):
        first, end = workspaces.open()
        blocks.append(first)
        made = [torch.empty(part, dtype=torch.uint8) for part in {parts}]
        if sample == 4:
            kept.append(torch.empty(100_000, dtype=torch.uint8))  # what a call leaves takes its place in one block only
        missed += not all(first <= one.data_ptr() < end for one in made)
        del made
        workspaces.close()
    assert len(set(blocks)) == 3 and blocks[3:] == blocks[:-3], blocks
    del workspaces
print("missed", missed)
"""


MOST_MISSED = 4
"""Of 180 calls. None was seen in 120 processes; where the heap has a piece elsewhere, a call finds one buffer warm."""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("call_bytes", "parts"),
    [(3_000_000, (1_000_000, 1_500_000, 400_000)), (70_000_000, (30_000_000, 20_000_000, 9_000_000, 200_000))],
    ids=["a piece", "several pieces"],
)
def test_what_a_call_allocates_lies_in_the_block_whose_turn_it_is(call_bytes: int, parts: tuple[int, ...]) -> None:
    """In a process of its own, with a heap of its own. Holes in it are not used, nor is what a call leaves."""
    code = PROGRAM.format(call_bytes=call_bytes, parts=parts)
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout.removeprefix("missed ")) <= MOST_MISSED


TORN = """
import torch
from moebench.results.timing.cold import workspaces
from moebench.results.timing.memory import keep_freed_memory

keep_freed_memory()
torch.empty(1)
glibc = workspaces._glibc()
blocks = workspaces.Workspaces.of(2, 3_000_000)
fit = []
for sample in range(8):
    first, end = blocks.open()
    large = glibc.malloc(5_900_000)
    fit.append(first <= large < end)
    glibc.free(large)
    below, small, above = glibc.malloc(2_000_000), [glibc.malloc(72) for _ in range(200)], glibc.malloc(2_000_000)
    for piece in (*reversed(small), below, above):
        glibc.free(piece)
    blocks.close()
print("whole", sum(fit[:2]), "stay whole", fit == 4 * fit[:2])
"""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_small_pieces_that_glibc_caches_do_not_tear_a_block_apart() -> None:
    """Free pieces in the middle of a block, the small ones last. Into one block a process may put what it keeps."""
    found = subprocess.run([sys.executable, "-c", TORN], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout in ("whole 2 stay whole True\n", "whole 1 stay whole True\n")


FRAGMENTED = """
import torch
from moebench.results.timing.cold import workspaces
from moebench.results.timing.memory import keep_freed_memory

class Counting:
    asked = 0

    def __getattr__(self, name):
        if name == "mallinfo2":
            Counting.asked += 1
        return getattr(library, name)

keep_freed_memory()
library = workspaces._glibc()
small = [library.malloc(12_000) for _ in range(20_000)]
for piece in small[::2]:
    library.free(piece)
workspaces._glibc = Counting
blocks = workspaces.Workspaces.of(2, 3_000_000)
Counting.asked = 0
for sample in range(20):
    blocks.open()
    made = [torch.empty(part, dtype=torch.uint8) for part in (1_000_000, 40_000, 1_500_000)]
    del made
    blocks.close()
print("asked", Counting.asked)
"""


@pytest.mark.skipif(_glibc() is None, reason="the C library is not glibc")
def test_glibc_looks_at_every_free_piece_once_a_sample() -> None:
    """A long run leaves tens of thousands: to look at all of them for every piece that is held took up to 30 ms."""
    found = subprocess.run([sys.executable, "-c", FRAGMENTED], check=False, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "asked 20\n"


def test_none_where_freed_memory_goes_back_to_the_system() -> None:
    """Without `keep_freed_memory` a block is mapped and unmapped, and every call has fresh pages."""
    code = "from moebench.results.timing.cold.workspaces import Workspaces; print(Workspaces.of(2, 9_000_000))"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "None\n"
