"""Cost model of a forward of `scatter` on a CPU, step by step, for the rows that each expert has in a routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..problem import ELEMENT_BYTES, Problem
from ..torch_ops.scatter_tiles import ScatterPlan
from .cpu import Operations, pointwise_threads

# Operations of the sort by expert, and of the slots that a bag needs: what they take for a thousand routes.
GROUP_CALLS = 12
PLACES_CALLS = 8
# Starting a product: it takes 10 to 13 microseconds before its size is felt, and views of weights and rows are made.
PRODUCT_CALLS = 5
# Times a weight passes memory for one product: read, written packed, read again. Rows of all heights between 16 and 256
# took 50 ps more for every byte of their weight, in both dtypes, when the copy rate of a core was 60 GB/s.
PACKED = 3
# What an element of a pointwise operation is worth in bytes of a copy. Half-precision ones are converted to float32 and
# back, which costs more than their fewer bytes save: silu and product took 450 ps an element against 306.
POINTWISE_BYTES = {2: 5.4, 4: 4.0}
# Of an element of a tile: silu reads and writes the gate, the product reads both halves and writes one.
GATED_PASSES = 5
PLAIN_PASSES = 2
# Rates of products in float32 and in the problem's own dtype over the faster of the two: 109 GFLOP/s a core in float32,
# 475 in bfloat16, which the processor has instructions for, and 24 in float16, which it has none for.
FLOAT32_SPEED = {"float32": 1.0, "bfloat16": 0.23, "float16": 1.0}
OWN_SPEED = {"float32": 1.0, "bfloat16": 1.0, "float16": 0.22}


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A forward in one configuration on given counts, with ``threads`` of ``cores`` at work.

    Rows are held in float32 or in the problem's dtype.
    """

    problem: Problem
    plan: ScatterPlan
    counts: Sequence[int]
    cores: int

    def steps(self) -> list[Operations]:
        """Return the steps in the order of their first call; those of one tile alternate, which changes no sum."""
        problem = self.problem
        converted = self._conversions() if self._element != self._stored else []
        return [
            self._operations("group", calls=GROUP_CALLS),
            *converted,
            self._gather(),
            self._product("up", problem.D, problem.U),
            self._activation(),
            *([self._hidden()] if self.plan.order == "product" else []),
            self._product("down", problem.F, problem.D),
            *(self._bag() if self.plan.combine == "bag" else self._add()),
        ]

    @property
    def _stored(self) -> int:
        return ELEMENT_BYTES[self.problem.dtype]

    @property
    def _element(self) -> int:
        return self.plan.dtype.itemsize

    @property
    def _rows(self) -> int:
        return sum(self.counts)

    @property
    def _tiles(self) -> int:
        return sum(-(-count // self.plan.tile) for count in self.counts)

    def _operations(
        self, name: str, *, calls: int, threads: int | None = None, flops: float = 0, moved: float = 0
    ) -> Operations:
        return Operations(
            name=name,
            calls=calls,
            threads=threads or self.plan.threads or self.cores,
            cores=self.cores,
            flops=flops,
            speed=(OWN_SPEED if self._element == self._stored else FLOAT32_SPEED)[self.problem.dtype],
            bytes=moved,
        )

    def _pointwise(self, name: str, *, calls: int, elements: float, moved: float) -> Operations:
        """Return ``calls`` pointwise operations on ``elements`` in all, as long as a copy of ``moved`` bytes."""
        threads = pointwise_threads(self.plan.threads or self.cores, elements / max(calls, 1))
        return self._operations(name, calls=calls, threads=threads, moved=moved)

    def _conversions(self) -> list[Operations]:
        problem, both = self.problem, self._stored + self._element
        touched = sum(count > 0 for count in self.counts)
        weights = touched * problem.D * (problem.U + problem.F)
        tokens = problem.T * problem.D
        return [
            self._pointwise("convert tokens", calls=1, elements=tokens, moved=tokens * both),
            self._pointwise("convert weights", calls=2 * touched, elements=weights, moved=weights * both),
        ]

    def _gather(self) -> Operations:
        elements = self._rows * self.problem.D
        calls = 1 if self.plan.gather == "all" else 2 * self._tiles  # a view of the tokens, then their copy
        return self._pointwise("gather", calls=calls, elements=elements, moved=2 * elements * self._element)

    def _product(self, name: str, inner: int, outer: int) -> Operations:
        return self._operations(
            name,
            calls=PRODUCT_CALLS * self._tiles,
            flops=2 * self._rows * inner * outer,
            moved=PACKED * self._tiles * inner * outer * self._element,
        )

    def _activation(self) -> Operations:
        elements = self._rows * self.problem.F
        passes, calls = (GATED_PASSES, 2) if self.problem.gated else (PLAIN_PASSES, 1)
        worth = elements * passes * POINTWISE_BYTES[self._element]
        return self._pointwise("activation", calls=calls * self._tiles, elements=calls * elements, moved=worth)

    def _hidden(self) -> Operations:
        """Return the traffic of hidden rows; product by product, they leave the cache before they are read again."""
        return self._operations("hidden rows", calls=0, moved=2 * self._rows * self.problem.U * self._element)

    def _add(self) -> list[Operations]:
        elements = self._rows * self.problem.D
        weighted = elements * (POINTWISE_BYTES[self._element] + 4)
        return [
            self._pointwise("weight", calls=2 * self._tiles, elements=2 * elements, moved=weighted),
            # One row after the other, on one thread: a token of float32 is read and written.
            self._operations("add", calls=2 * self._tiles, threads=1, moved=elements * 8),
            self._round(4),
        ]

    def _bag(self) -> list[Operations]:
        elements = self._rows * self.problem.D
        stored = self._operations("store rows", calls=PLACES_CALLS, moved=elements * self._element)
        worth = elements * POINTWISE_BYTES[self._element]
        return [
            stored,
            self._pointwise("sum", calls=GROUP_CALLS, elements=GROUP_CALLS * elements, moved=worth),
            self._round(self._element),
        ]

    def _round(self, element: int) -> Operations:
        """Return the conversion of sums to the dtype of the result."""
        elements = self.problem.T * self.problem.D
        moved = elements * (element + self._stored) if element != self._stored else 0
        return self._pointwise("round", calls=1, elements=elements, moved=moved)
