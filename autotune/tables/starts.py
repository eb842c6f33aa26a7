"""Files of serving engines as configurations that a search starts from."""

from __future__ import annotations

from collections.abc import Mapping

from ...kernels.config import Config
from ...kernels.triton.vllm_tiles import KNOBS
from .export import SAME_TILES
from .serving_file import ServingFile, Tiles


def refusal(file: ServingFile) -> str | None:
    """Return None, or why the tiles of a file are no configurations of the kernel with the engines' tiles."""
    if file.name.down:
        return f"{SAME_TILES} has the same tiles for both projections, and these are of one"
    if file.name.dtype is not None:
        return f"{SAME_TILES} takes 16-bit floats, and these are for {file.name.dtype}"
    return None


def candidates(file: ServingFile) -> dict[int, dict[str, int]]:
    """Return configurations of ``vllm_fused_moe`` by tokens, without those that have more knobs than it is tuned in."""
    if refusal(file):
        return {}
    numbers = {M: tiles for M, tiles in file.configs.items() if not any(isinstance(n, str) for n in tiles.values())}
    known = {M: _knobs(tiles) for M, tiles in numbers.items()}
    return {M: knobs for M, knobs in known.items() if knobs.keys() == set(KNOBS)}


def beside(found: Mapping[int, Config], T: int) -> list[Config]:
    """Return the configurations for ``T`` tokens, or those for the next fewer and the next more."""
    fewer = max((M for M in found if M <= T), default=None)
    more = min((M for M in found if M >= T), default=None)
    return [found[M] for M in dict.fromkeys((fewer, more)) if M is not None]


def _knobs(tiles: Tiles) -> dict[str, int]:
    """Return tiles without a SPLIT_K of 1, which changes nothing."""
    return {word: int(number) for word, number in tiles.items() if (word, number) != ("SPLIT_K", 1)}
