"""A kernel with a block around it: it competes on problems with that block as any kernel does on experts alone."""

from __future__ import annotations

import torch
from torch import Tensor

from .catalog import KERNELS
from .config import Config
from .kernel import Cost, Kernel, Layer
from .problem import ELEMENT_BYTES, Problem
from .problem.block import Block, ExpertBlock, ProjectionBlock
from .problem.routing import Routing
from .problem.tensors import Weights
from .unimportable import Unimportable


def competing(kernel_name: str, problem: Problem) -> Kernel:
    """Return the kernel of that name, with the block of the problem around it where there is one.

    Raises:
        UnknownName: when no kernel has that name.
    """
    kernel, block = KERNELS.load(kernel_name), problem.around
    return kernel if block is None or isinstance(kernel, Unimportable) else BlockKernel(kernel, block)


class BlockKernel(Kernel):
    """A kernel that is built for the core problem of a block, and the block around its layer."""

    def __init__(self, kernel: Kernel, block: Block) -> None:
        self._kernel = kernel
        self._block = block
        self.family = kernel.family

    @property
    def name(self) -> str:
        return self._kernel.name

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        if self._kernel.is_reference:
            return f"measures something else than a layer, the problem has block = {problem.block}"
        if self._kernel.between_ranks:
            return f"shares experts between ranks, block = {problem.block} has all on one"
        core = problem.core
        if isinstance(self._block, ProjectionBlock) and not self._kernel.multiplies_routes:
            return f"has no product that is not summed over the experts of a token, block = {problem.block} needs one"
        return self._kernel.supports(core, device)

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return self._kernel.space(problem.core, device)

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        return self._kernel.fault(problem.core, config, device)

    def unproven(self, config: Config) -> bool:
        return self._kernel.unproven(config)

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        block = self._block
        if isinstance(block, ExpertBlock):
            experts = self._kernel.build(problem.core, config, device)

            def around(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
                return block.forward(problem, experts, x_TD, routing, weights)

            return around
        if not isinstance(block, ProjectionBlock):
            raise TypeError(f"{type(block).__name__} is neither an ExpertBlock nor a ProjectionBlock")
        linear = self._kernel.routed_linear(problem.core, config, device)

        def projected(x_TD: Tensor, routing: Routing, weights: Weights) -> Tensor:
            return block.forward(problem, linear, x_TD, routing, weights)

        return projected

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        experts = self._kernel.cost(problem.core, config, routing)
        own_bytes = self._block.own_elements(problem) * ELEMENT_BYTES[problem.dtype]
        return Cost(
            executed_rows=experts.executed_rows,
            workspace_bytes=experts.workspace_bytes + own_bytes,
            extra_flops=experts.extra_flops,
        )

    def refuses(self, problem: Problem) -> str | None:
        return self._kernel.refuses(problem.core)
