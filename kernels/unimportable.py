"""The replacement of a kernel whose file cannot be imported, so that only its own records are lost."""

from __future__ import annotations

from typing import NoReturn

import torch

from .config import Config
from .kernel import Kernel
from .problem import Problem
from .problem.routing import Routing


class Unimportable(Kernel):
    """A kernel that refuses every problem with the ``reason`` why its file failed. Its family is unknown."""

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
