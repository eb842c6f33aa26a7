"""The interface of a block: a layer around the experts, or one that is made of their products in another way.

A block is one small class in one file of ``kernels/blocks/``, with typed parameters. It says which problem the kernels
are built for, what else it computes around them, and what is true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ...common.plugins import Catalog
from .parametrised import Parametrised, read_plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .problem import Problem
    from .routing import Routing
    from .tensors import Weights

Experts = Callable[["Tensor", "Routing", "Weights"], "Tensor"]
"""A kernel's layer of the core problem: x (T, D), routes and weights in, y (T, D) out."""

TrueExperts = Callable[["Tensor", "Tensor"], "Tensor"]
"""The experts in float64, on the routes that were drawn: x (T, D) and gates (T, K) of the core problem in, y out."""

RoutedLinear = Callable[["Tensor", "Routing", "Tensor"], "Tensor"]
"""One product for every route: x (T, I), routes (T, K) and weights (E, O, I) in, rows (T, K, O) out.

Row k of token t is x_t times the matrix of its k-th expert, transposed; zeros where there is no route. It is not summed
over k and not weighted, and it is differentiable in x and the weights.
"""


@dataclass(frozen=True)
class Block(Parametrised, ABC):
    """A layer with experts in it. Its name is the name of its file; the file's ``block`` is its class.

    Its parameters are dataclass fields that have defaults, as those of a router. It has tensors of its own besides the
    weights of the experts, always matrices, under names that begin with ``layer_`` (`Weights.own`).

    ``by_token`` says that a token's result depends on that token and its routes alone.
    """

    by_token: ClassVar[bool] = True

    @staticmethod
    def parse(spec: str) -> Block:
        """Read a text such as ``soft_moe`` or ``shared:width=512,sigmoid=true``.

        Raises:
            ValueError: naming the text, what is wrong with it, and what it may be.
        """
        return read_plugin(BLOCKS, str(spec))

    def refuses(self, problem: Problem) -> str | None:
        """Return None, or why it cannot be a block of this problem, naming the constraint, the value and the remedy."""
        return None

    def widths(self, problem: Problem) -> dict[str, int]:
        """Return its parameters that are widths, by name; one that is 0 as what the problem makes of it."""
        return {}

    def scaled(self, problem: Problem, D: int) -> Block:
        """Return the block of the problem whose widths are those of this one times D / `Problem.D`."""
        given = {name: width for name, width in self.widths(problem).items() if getattr(self, name)}
        return replace(self, **{name: max(1, width * D // problem.D) for name, width in given.items()})

    def core(self, problem: Problem) -> Problem:
        """Return the problem of the experts alone, for which kernels are built."""
        return problem.replace(block="")

    def shapes(self, problem: Problem) -> dict[str, tuple[int, int]]:
        """Return the shapes of its own tensors, by name. Their rows are drawn with about unit norm."""
        return {}

    @abstractmethod
    def own_flops(self, problem: Problem) -> int:
        """Return the FLOPs of what it computes itself in one forward."""

    def flops(self, problem: Problem, rows: float) -> int:
        """Return the FLOPs of one call with ``rows`` routed rows, three times as many in a training step."""
        steps = 3 if problem.mode == "train" else 1
        return self.core(problem).flops(rows) + steps * self.own_flops(problem)

    @abstractmethod
    def own_elements(self, problem: Problem) -> int:
        """Return about how many elements of its own tensors exist at a time, besides weights, inputs and outputs."""


class ExpertBlock(Block):
    """A block around the experts, whose output it uses once."""

    @abstractmethod
    def forward(self, problem: Problem, experts: Experts, x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
        """Compute y (T, D) around a kernel's layer, differentiable in everything."""

    @abstractmethod
    def truth(self, problem: Problem, experts: TrueExperts, tensors: Mapping[str, Tensor]) -> Tensor:
        """Compute y (T, D) in float64, as plainly as possible, of ``x``, ``gates`` and its own tensors by name."""


class ProjectionBlock(Block):
    """A block of two products for every route, one into the width of an expert and one out of it.

    Its experts have no activation between them: ``w_up`` (E, F, D) and ``w_down`` (E, D, F) are used apart.
    """

    @abstractmethod
    def forward(
        self, problem: Problem, linear: RoutedLinear, x_TD: Tensor, routing: Routing, weights: Weights
    ) -> Tensor:
        """Compute y (T, D) with a kernel's products, differentiable in everything."""

    @abstractmethod
    def truth(self, problem: Problem, ids_TK: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        """Compute y (T, D) in float64, as plainly as possible, of the routes and all tensors by name."""


class DrawsRoutes(Block):
    """A block whose routes are not those of the problem's tokens: it draws them itself."""

    @abstractmethod
    def routes(self, problem: Problem, *, seed: int, device: torch.device) -> Routing:
        """Draw the routes of the core problem."""


BLOCKS: Catalog[type[Block]] = Catalog("block", f"{__package__.rpartition('.')[0]}.blocks", "block")
