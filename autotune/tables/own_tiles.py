"""Tiles that a serving engine takes by itself, and files in which they stand beside tuned ones.

A file cannot leave a batch to the engine: every batch takes the tiles of the nearest batch size in it. Pinning writes
the engine's own tiles where they were kept, and keys at the ends of each range, so that the look-up by the nearest key
gives every batch what is meant for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from .serving_file import ServingFile, Tiles

FAR = 2  # a batch that many times smaller or larger than any measured one was not tuned


@dataclass(frozen=True)
class OwnTiles:
    """The tiles that an engine takes for a layer without a file: ``tiles`` by batch size M.

    ``turns`` are the M at which they become others, in order. ``source`` says where they were read.
    """

    source: str
    tiles: Callable[[int], Tiles]
    turns: tuple[int, ...]


def shipped(file: ServingFile, source: str) -> OwnTiles:
    """Return the tiles that an engine takes by itself where it ships a file for the layer."""
    turns = {
        turn for low, high in pairwise(sorted(file.configs)) for turn in ((low + high + 1) // 2, (low + high) // 2 + 1)
    }
    return OwnTiles(source, lambda M: file.configs[file.nearest(M)], tuple(sorted(turns)))


def pinned(chosen: Mapping[int, Tiles], kept: Collection[int], own: OwnTiles) -> dict[int, Tiles]:
    """Return tiles by batch size: the ``chosen`` ones, and the engine's own for the batches of ``kept``.

    A batch belongs to the nearest batch size that was measured, the smaller of two. Those far below the smallest and
    far above the largest were not tuned, and keep the engine's own.
    """
    measured = sorted({*chosen, *kept})
    near = (-(-measured[0] // FAR), FAR * measured[-1] + 1)
    halfway = ((low + high) // 2 + 1 for low, high in pairwise(measured))
    starts = sorted({1, *halfway, *own.turns, *near})

    def meant(M: int) -> Tiles:
        nearest = _nearest(measured, M)
        far = measured[0] > FAR * M or FAR * measured[-1] < M
        return own.tiles(M) if far or nearest in kept else chosen[nearest]

    keys = {*starts, *(start - 1 for start in starts[1:]), *measured}
    return _without_needless({M: meant(M) for M in sorted(keys)}, measured)


def _without_needless(tiles: Mapping[int, Tiles], wanted: Collection[int]) -> dict[int, Tiles]:
    """Leave out batch sizes inside a range of equal tiles, but not the wanted ones."""
    keys = list(tiles)
    around = zip([None, *keys], keys, [*keys[1:], None], strict=False)
    return {
        M: tiles[M]
        for before, M, after in around
        if M in wanted or before is None or after is None or not tiles[before] == tiles[M] == tiles[after]
    }


def _nearest(known: Iterable[int], M: int) -> int:
    return min(known, key=lambda one: abs(one - M))
