"""Parts of `scatter`: ways to gather rows, to combine them, and to order the products of tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..config import Config
from ..instruments.stage import stage
from ..problem import Problem
from ..problem.routing import Groups, Routing
from ..problem.tensors import TORCH_DTYPES
from .combine import gather_sum
from .dispatch import Places

Tile = tuple[int, slice]
"""An expert, and some of its rows in expert order."""

Rows = Callable[[slice], Tensor]
"""Memory, or values, for the rows of a tile: (rows, width)."""

Product = Callable[[int, slice], None]
"""One of the two products of an expert for one tile."""


@dataclass(frozen=True, kw_only=True)
class ScatterPlan:
    """A configuration of `scatter`.

    It has the rows of a tile, the order of products, the CPU threads (None: torch's own number), the dtype of the
    products, and the ways to gather and to combine rows.
    """

    tile: int
    order: str
    threads: int | None
    dtype: torch.dtype
    gather: str
    combine: str

    @staticmethod
    def of(problem: Problem, config: Config) -> ScatterPlan:
        return ScatterPlan(
            tile=int(config["tile"]),
            order=str(config["order"]),
            threads=int(config["threads"]) if "threads" in config else None,
            dtype=torch.float32 if config["compute"] == "float32" else TORCH_DTYPES[problem.dtype],
            gather=str(config["gather"]),
            combine=str(config["combine"]),
        )


def tiles(groups: Groups, rows: int) -> list[Tile]:
    """Return every tile of at most ``rows`` rows of one expert, in expert order."""
    return [
        (e, slice(first, min(first + rows, end)))
        for e, start, end in groups.slices()
        for first in range(start, end, rows)
    ]


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use at most ``count`` CPU threads inside the block, never more than its user lets it; None: as many."""
    before = torch.get_num_threads()
    if count is None or count >= before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def reused(buffer_BW: Tensor) -> Rows:
    """Put every tile into the same memory."""
    return lambda n: buffer_BW[: n.stop - n.start]


def kept(buffer_NW: Tensor) -> Rows:
    """Put every tile into its own part of the memory."""
    return lambda n: buffer_NW[n]


def gather_tile(x_TD: Tensor, token_N: Tensor, rows: int) -> Rows:
    """Copy rows of x tile by tile, when the tile is multiplied."""
    into = reused(x_TD.new_empty(rows, x_TD.shape[1]))

    def gathered(n: slice) -> Tensor:
        with stage("dispatch"):
            return torch.index_select(x_TD, 0, token_N[n], out=into(n))

    return gathered


def gather_all(x_TD: Tensor, token_N: Tensor, _rows: int) -> Rows:
    """Copy all rows of x at once."""
    with stage("dispatch"):
        return kept(x_TD.index_select(0, token_N))


GATHERS: Mapping[str, Callable[[Tensor, Tensor, int], Rows]] = {"tile": gather_tile, "all": gather_all}
"""How the rows (N, W) of tiles of at most ``rows`` come from tokens (T, W). A tile may be written to."""


def by_expert(tiles: Sequence[Tile], up: Product, down: Product) -> None:
    """Multiply tile by tile, both products of each, so that its hidden rows are still in cache."""
    for e, n in tiles:
        up(e, n)
        down(e, n)


def by_product(tiles: Sequence[Tile], up: Product, down: Product) -> None:
    """Multiply all first products, then all second ones, as a grouped product does."""
    for product in (up, down):
        for e, n in tiles:
            product(e, n)


ORDERS: Mapping[str, Callable[[Sequence[Tile], Product, Product], None]] = {"expert": by_expert, "product": by_product}


class Combine(Protocol):
    """The sum of rows into their tokens, each times its gate weight."""

    def out(self, n: slice) -> Tensor:
        """Return the memory into which the rows of a tile are to be written."""

    def put(self, n: slice) -> None:
        """Add the rows just written to `out(n)` to the sum."""

    def sum(self) -> Tensor:
        """Return the sum (T, D), once all tiles are written."""


class Add:
    """A sum in float32 to which every tile is added when it is written."""

    def __init__(self, x_TD: Tensor, routing: Routing, groups: Groups, gates_TK: Tensor, rows: int) -> None:
        self._token_N = groups.token_N
        self._gates_N1 = gates_TK.flatten()[groups.route_N, None]
        self._y_TD = torch.zeros(x_TD.shape, dtype=torch.float32, device=x_TD.device)
        self.out = reused(x_TD.new_empty(rows, x_TD.shape[1]))
        self._weighted = reused(self._y_TD.new_empty(rows, x_TD.shape[1]))

    def put(self, n: slice) -> None:
        with stage("combine"):
            weighted_nD = torch.mul(self.out(n), self._gates_N1[n], out=self._weighted(n))
            self._y_TD.index_add_(0, self._token_N[n], weighted_nD)

    def sum(self) -> Tensor:
        return self._y_TD


class Bag:
    """A sum at the end: all rows are kept until each token sums its own."""

    def __init__(self, x_TD: Tensor, routing: Routing, groups: Groups, gates_TK: Tensor, rows: int) -> None:
        count = groups.route_N.numel()
        row_N = torch.arange(count, device=x_TD.device)
        self._slot_TK = Places.of(routing, route_n=groups.route_N, row_n=row_N, rows=count).slot_TK
        self._gates_TK = gates_TK
        self._y_ND = x_TD.new_empty(count, x_TD.shape[1])
        self.out = kept(self._y_ND)

    def put(self, n: slice) -> None:
        """Do nothing: the rows stay where they were written."""

    def sum(self) -> Tensor:
        with stage("combine"):
            return gather_sum(self._y_ND, self._slot_TK, self._gates_TK)


COMBINES: Mapping[str, Callable[[Tensor, Routing, Groups, Tensor, int], Combine]] = {"add": Add, "bag": Bag}


class Operand:
    """The matrices of all experts in the dtype of the products, converted one expert at a time."""

    def __init__(self, weights_EMN: Tensor, dtype: torch.dtype) -> None:
        self._weights_EMN = weights_EMN
        self._same = weights_EMN.dtype == dtype
        self._expert = -1
        self._converted_MN = weights_EMN.new_empty((0,) if self._same else weights_EMN.shape[1:], dtype=dtype)

    def __getitem__(self, e: int) -> Tensor:
        if self._same:
            return self._weights_EMN[e]
        if e != self._expert:
            self._converted_MN.copy_(self._weights_EMN[e])
            self._expert = e
        return self._converted_MN
