"""Steps of an implementation in torch on a CPU: sorts, gathers, products and sums, from which kernels make theirs.

A pass is one time that bytes go through memory or the last-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..problem import ELEMENT_BYTES, Problem
from .cpu import Operations, fresh_bytes, pointwise_threads

# Fixed calls, and elements of a gated activation that a route is worth (a quarter of a nanosecond each): to count and
# sort routes by expert, to find the rows of the routes, to place them in padded buffers.
SORT = (12, 25)
PLACES = (8, 20)
QUEUE = (24, 100)
# What starting a product is worth in calls: 10 to 13 microseconds before its size is felt, and views of its operands;
# a grouped product makes no views in Python, and a batched one is a single call.
MM_CALLS = 5
GROUPED_CALLS = 3
# Times the weights of a product pass memory: read, written packed, read again. Rows of all heights between 16 and 256
# took as much more for every byte of their weight, in both dtypes. All cores read what each of them packed, so two more
# passes allow for cores without a common cache: where a message between them took 325 ns and not 53, products took 1.43
# times as long. A batched product passes its weights twice: 43 microseconds for 786 kB and 23 for 393 kB at 34.5 GB/s,
# whatever the rows and the cores, for each core has experts of its own. Of one row every product reads them once, and
# of two or three rows twice: 48 matrices of 4 MB took 0.8 to 0.9 and 1.8 to 2.5 times as long as to copy half of them.
MM_PASSES = 3
BETWEEN_CORES = 2
BATCHED_PASSES = 2
FEW_ROWS = {1: 1, 2: 2, 3: 2}
# What an element of other pointwise operations is worth in those of a gated activation: scaling a row into float32
# (232 ps against 380 in bfloat16, 183 against 290 in float32), and adding one to a sum of rows (120 to 150 ps, of
# which 60 are its bytes).
SCALED = 0.6
SUMMED = 0.3
# An activation that is not gated makes one operation of two.
PLAIN = 0.75
# Passes of an element that is gathered by an index in brackets, which torch does at half the speed of index_select.
INDEXED_PASSES = 4


def batched_passes(rows: int) -> int:
    """Return the passes of a matrix in a batched product, in which every expert has so many rows."""
    return FEW_ROWS.get(rows, BATCHED_PASSES)


@dataclass(frozen=True, kw_only=True)
class TorchSteps:
    """Steps for a problem whose experts have ``counts`` rows, with ``threads`` of ``cores`` at work in ``dtype``."""

    problem: Problem
    counts: Sequence[int]
    cores: int
    threads: int
    dtype: str

    @staticmethod
    def of(problem: Problem, counts: Sequence[int], cores: int) -> TorchSteps:
        """Return steps on all cores, in the dtype in which the problem's tokens are held."""
        return TorchSteps(problem=problem, counts=counts, cores=cores, threads=cores, dtype=problem.held)

    @property
    def element(self) -> int:
        """Bytes of an element."""
        return ELEMENT_BYTES[self.dtype]

    @property
    def rows(self) -> int:
        """Rows of all experts, without padding."""
        return sum(self.counts)

    @property
    def touched(self) -> int:
        """Experts that have rows."""
        return sum(count > 0 for count in self.counts)

    @cached_property
    def mm_passes(self) -> float:
        """Passes of a matrix through memory in a product for one expert, the mean of all experts that have rows."""
        passes = [FEW_ROWS.get(count, self.most_passes) for count in self.counts if count]
        return sum(passes) / max(1, len(passes))

    @property
    def most_passes(self) -> int:
        """Passes of a matrix in a product of many rows."""
        return MM_PASSES + (BETWEEN_CORES if self.threads > 1 else 0)

    @property
    def training(self) -> bool:
        return self.problem.mode == "train"

    def operations(self, name: str, calls: float = 1, *, threads: int | None = None, **amounts: float) -> Operations:
        """Return a step with these amounts of `Operations`."""
        return Operations(
            name=name,
            calls=calls,
            threads=threads or self.threads,
            cores=self.cores,
            dtype=self.dtype,
            held=self.problem.held,
            **amounts,
        )

    def pointwise(self, name: str, calls: float, *, elements: float, **amounts: float) -> Operations:
        """Return ``calls`` pointwise operations on ``elements`` in all."""
        return self.operations(
            name, calls, threads=pointwise_threads(self.threads, elements / max(calls, 1)), **amounts
        )

    def routes(self, name: str, *parts: tuple[int, int]) -> Operations:
        """Return the work on every route of some of `SORT`, `PLACES` and `QUEUE`."""
        calls, worth = (sum(part) for part in zip(*parts, strict=True))
        return self.pointwise(name, calls, elements=calls * self.problem.N, gated=worth * self.problem.N)

    def gather(self, name: str, rows: float, width: int) -> Operations:
        """Return one copy of rows, by index, to a new tensor."""
        size = rows * width * self.element
        return self.pointwise(name, 1, elements=rows * width, bytes=2 * size, fresh=fresh_bytes(size))

    def product(
        self, name: str, inner: int, outer: int, *, rows: float, weights: float, calls: float, passes: float
    ) -> Operations:
        """Return products of rows in a row, from one new tensor to another, with ``weights`` matrices."""
        matrices = weights * inner * outer * self.element
        return self.operations(
            name,
            calls,
            flops=2 * rows * inner * outer,
            bytes=passes * matrices + rows * (inner + outer) * self.element,
            fresh=fresh_bytes(rows * outer * self.element),
        )

    def product_backward(
        self, name: str, inner: int, outer: int, *, rows: float, weights: float, calls: float, passes: float
    ) -> Operations:
        """Return the two products of a backward: the gradient of the rows, and that of all matrices."""
        matrices = weights * inner * outer * self.element
        gradient = self.problem.E * inner * outer * self.element
        return self.operations(
            name,
            2 * calls,
            flops=4 * rows * inner * outer,
            bytes=passes * matrices + gradient + 2 * rows * (inner + outer) * self.element,
            fresh=fresh_bytes(rows * inner * self.element, gradient),
        )

    def activation(self, rows: float, *, calls: float = 2) -> Operations:
        """Return the activation on rows; unless it is called often on few, its operands pass memory."""
        elements = rows * self.problem.F
        halves = 2 if self.problem.gated else 1
        size = elements * self.element
        return self.pointwise(
            "activation",
            calls,
            elements=halves * elements,
            gated=elements * (1 if self.problem.gated else PLAIN),
            fresh=halves * fresh_bytes(size) if calls <= halves else 0,
        )

    def activation_backward(self, rows: float, *, calls: float = 6) -> Operations:
        """Return the gradient of the activation: about twice the work of itself, and tensors of its own."""
        size = rows * self.problem.F * self.element
        once = calls <= 6
        return self.pointwise(
            "activation backward",
            calls,
            elements=calls * rows * self.problem.F,
            gated=2 * rows * self.problem.F,
            fresh=fresh_bytes(size, size, size, 2 * size) if once else 0,
        )

    def bag(self, name: str = "sum") -> Operations:
        """Return the sum of each token's rows, read where they lie."""
        elements = self.rows * self.problem.D
        size = self.problem.T * self.problem.D * self.element
        return self.pointwise(
            name,
            SORT[0],
            elements=SORT[0] * elements,
            gated=SUMMED * elements,
            bytes=elements * self.element,
            fresh=fresh_bytes(size),
        )

    def combine_backward(self, rows: float) -> list[Operations]:
        """Return the backward of the sum: the gradient copied to all rows and scaled, the gates' by dot products."""
        elements = rows * self.problem.D
        return [
            self.gather("combine backward", rows, self.problem.D),
            self.pointwise(
                "gates", 8, elements=8 * elements, gated=SUMMED * elements, bytes=4 * elements * self.element
            ),
        ]

    def transposed_gradients(self) -> list[Operations]:
        """Return the copies of the weights' gradients that a batched product with transposed weights leaves transposed.

        Autograd copies such a gradient to the layout of its weight, at the speed of a copy by index.
        """
        if not self.training:
            return []
        problem = self.problem
        sizes = [problem.E * problem.D * width * self.element for width in (problem.U, problem.F)]
        return [self.operations("gradients", 2, bytes=INDEXED_PASSES * sum(sizes), fresh=fresh_bytes(*sizes))]

    def expert_mlp(self, order: Operations, *, rows: int, matrices: int, calls: int, passes: float) -> list[Operations]:
        """Return all steps of an implementation that copies rows into an ``order``, multiplies them and sums them.

        ``rows`` include padding. Each product reads ``matrices`` in so many ``passes`` and ``calls``; the backward is
        that of autograd.
        """
        problem = self.problem

        def step(make: Callable[..., Operations], name: str, inner: int, outer: int) -> Operations:
            return make(name, inner, outer, rows=rows, weights=matrices, calls=calls, passes=passes)

        forward = [
            order,
            self.gather("gather", rows, problem.D),
            step(self.product, "up", problem.D, problem.U),
            self.activation(rows),
            step(self.product, "down", problem.F, problem.D),
            self.bag(),
        ]
        if not self.training:
            return forward
        return [
            *forward,
            *self.combine_backward(rows),
            step(self.product_backward, "down backward", problem.F, problem.D),
            self.activation_backward(rows),
            step(self.product_backward, "up backward", problem.D, problem.U),
            self.bag("gather backward"),
        ]
