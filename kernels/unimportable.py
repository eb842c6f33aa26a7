"""What stands in the place of a kernel whose file cannot be imported: it costs its own records and nothing else."""

from __future__ import annotations

from typing import NoReturn

import torch

from .config import Config
from .kernel import Kernel
from .problem import Problem
from .problem.routing import Routing


class Unimportable(Kernel):
    """Refuses every problem for the ``reason`` that its file gave. Its family is not known."""

    family = "unknown"

    def __init__(self, name: str, reason: str) -> None:
        self._name = name
        self._reason = reason

    @property
    def name(self) -> str:
        return self._name

    def supports(self, problem: Problem, device: torch.device) -> str:
        return self._reason

    def build(self, problem: Problem, config: Config, device: torch.device) -> NoReturn:
        raise ImportError(self._reason)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> NoReturn:
        raise ImportError(self._reason)
