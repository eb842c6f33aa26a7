"""Cost model of `scatter` on a CPU, step by step, for the rows that each expert has in a routing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ..problem import ELEMENT_BYTES, Problem
from ..torch_ops.scatter_tiles import ScatterPlan
from .cpu import Operations, fresh_bytes
from .torch_steps import MM_CALLS, PLACES, PLAIN, SCALED, SORT, SUMMED, TorchSteps

L2_BYTES = 1 << 20  # of a core, on servers of 2022 and later


@dataclass(frozen=True, kw_only=True)
class ScatterCall:
    """A forward, or a training step, in one configuration on given counts, with ``threads`` of ``cores`` at work.

    Rows are held in float32 or in the problem's dtype. What is made for one tile stays in cache.
    """

    problem: Problem
    plan: ScatterPlan
    counts: Sequence[int]
    cores: int

    def steps(self) -> list[Operations]:
        """Return the steps in the order of their first call; those of one tile alternate, which changes no sum."""
        problem, by_product = self.problem, self.plan.order == "product"
        hidden = [self._hidden()] if by_product or self._tile_bytes > L2_BYTES * self._torch.threads else []
        forward = [
            self._torch.routes("group", SORT),
            *self._conversions(),
            self._gather("gather"),
            self._product("up", problem.D, problem.U),
            self._activation(),
            *hidden,
            self._product("down", problem.F, problem.D),
            *self._combine(),
        ]
        return [*forward, *self._backward()] if self._torch.training else forward

    @cached_property
    def _torch(self) -> TorchSteps:
        return TorchSteps(
            problem=self.problem,
            counts=self.counts,
            cores=self.cores,
            threads=self.plan.threads or self.cores,
            dtype=str(self.plan.dtype).removeprefix("torch."),
        )

    @property
    def _stored(self) -> int:
        return ELEMENT_BYTES[self.problem.dtype]

    @property
    def _element(self) -> int:
        return self.plan.dtype.itemsize

    @property
    def _rows(self) -> int:
        return self._torch.rows

    @cached_property
    def _tiles(self) -> int:
        return sum(-(-count // self.plan.tile) for count in self.counts)

    def _conversions(self) -> list[Operations]:
        if self._element == self._stored:
            return []
        problem, both = self.problem, self._stored + self._element
        touched = sum(count > 0 for count in self.counts)
        weights = touched * problem.D * (problem.U + problem.F)
        tokens = problem.T * problem.D
        return [
            self._torch.pointwise("convert tokens", 1, elements=tokens, bytes=tokens * both),
            self._torch.pointwise("convert weights", 2 * touched, elements=weights, bytes=weights * both),
        ]

    def _gather(self, name: str) -> Operations:
        if self.plan.gather == "all":
            return self._torch.gather(name, self._rows, self.problem.D)
        elements = self._rows * self.problem.D  # a view of the tokens, then their copy
        return self._torch.pointwise(name, 2 * self._tiles, elements=elements, bytes=2 * elements * self._element)

    def _product(self, name: str, inner: int, outer: int) -> Operations:
        return self._torch.operations(
            name,
            MM_CALLS * self._tiles,
            flops=2 * self._rows * inner * outer,
            bytes=self._torch.mm_passes * self._tiles * inner * outer * self._element,
        )

    def _activation(self) -> Operations:
        elements = self._rows * self.problem.F
        calls, worth = (2, 1.0) if self.problem.gated else (1, PLAIN)
        return self._torch.pointwise(
            "activation", calls * self._tiles, elements=calls * elements, gated=worth * elements
        )

    @property
    def _tile_bytes(self) -> int:
        """Bytes of the hidden rows of the largest tile."""
        return min(self.plan.tile, max(self.counts, default=0)) * self.problem.U * self._element

    def _hidden(self) -> Operations:
        """Return the traffic of hidden rows that leave the cache before they are read again.

        They do so product by product, and in tiles that are larger than the caches of the cores at work.
        """
        size = self._rows * self.problem.U * self._element
        fresh = fresh_bytes(size if self.plan.order == "product" else self._tile_bytes)
        return self._torch.operations("hidden rows", 0, bytes=2 * size, fresh=fresh)

    def _combine(self) -> list[Operations]:
        return self._bag() if self.plan.combine == "bag" else self._add()

    def _add(self) -> list[Operations]:
        elements = self._rows * self.problem.D
        return [
            self._torch.pointwise("weight", 2 * self._tiles, elements=2 * elements, gated=SCALED * elements),
            # One row after the other, on one thread: a token of float32 is read and written.
            self._torch.operations(
                "add",
                2 * self._tiles,
                threads=1,
                bytes=elements * 8,
                fresh=fresh_bytes(self.problem.T * self.problem.D * 4),
            ),
            self._round(4),
        ]

    def _bag(self) -> list[Operations]:
        size = self._rows * self.problem.D * self._element
        return [
            self._torch.routes("places", PLACES),
            self._torch.operations("store rows", 0, bytes=size, fresh=fresh_bytes(size)),
            self._torch.bag(),
            self._round(self._element),
        ]

    def _round(self, element: int) -> Operations:
        """Return the conversion of sums to the dtype of the result."""
        elements = self.problem.T * self.problem.D
        moved = elements * (element + self._stored) if element != self._stored else 0
        return self._torch.pointwise("round", 1, elements=elements, bytes=moved)

    def _backward(self) -> list[Operations]:
        problem, rows = self.problem, self._rows
        saved = rows * problem.U * self._stored
        gradients = problem.E * problem.D * (problem.U + problem.F) * self._stored
        return [
            # The pre-activations are written, and read again.
            self._torch.operations("saved rows", 2 * self._tiles, bytes=3 * saved, fresh=fresh_bytes(saved)),
            self._gather("gather backward"),
            self._gather("gather again"),
            self._gradients("down backward", problem.F, problem.D),
            self._torch.pointwise(
                "activation backward",
                14 * self._tiles,
                elements=14 * rows * problem.F,
                gated=(3 + SUMMED) * rows * problem.F + 2 * SCALED * rows * problem.D,
            ),
            self._gradients("up backward", problem.D, problem.U),
            # They start as zeros, and the sum of an expert is copied to its place.
            self._torch.operations("gradients", 2, bytes=3 * gradients, fresh=fresh_bytes(gradients)),
            *self._combine(),
        ]

    def _gradients(self, name: str, inner: int, outer: int) -> Operations:
        """Return the two products of a backward; that of the weights adds each tile to a sum."""
        matrices = self._tiles * inner * outer * self._element
        return self._torch.operations(
            name,
            2 * MM_CALLS * self._tiles,
            flops=4 * self._rows * inner * outer,
            bytes=(self._torch.mm_passes + 2) * matrices,
        )
