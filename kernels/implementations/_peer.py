"""What the adapters to other projects share: why one cannot run here, and weights as the other project keeps them."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ...common.packages import Unusable, is_installed, use
from ..config import Config
from ..kernel import Cost, Kernel
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing

HALVES = ("float16", "bfloat16")
Loaded = TypeVar("Loaded")
Takes = Mapping[str, tuple[object, ...]]


class Peer(Kernel):
    """A project that is not ours: its package is looked for, and imported only where it is and a device for it too.

    ``modules`` are what `build` imports, ``remedy`` says how to get them. ``takes`` names the fields of a problem that
    it does not take in full, each with the values that it takes; D and F must be multiples of ``step``. A dropless
    peer reads every route: none may be missing.
    """

    family = "peer"
    adds_biases = True
    reads_every_route = True
    modules: ClassVar[tuple[str, ...]]
    remedy: ClassVar[str]
    takes: ClassVar[Takes]
    step: ClassVar[int] = 1
    capability: ClassVar[tuple[int, int]] = (8, 0)

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return self.missing(device) or self.refuses(problem)

    def missing(self, device: torch.device) -> str | None:
        """What this machine lacks to run it, with the remedy, or None."""
        for package in dict.fromkeys(module.partition(".")[0] for module in self.modules):
            if not is_installed(package):
                return f"{package} is not installed; {self.remedy}"
        if device.type != "cuda":
            return f"{self.name} needs a CUDA device, not {device.type}; run it on a machine with one"
        found = torch.cuda.get_device_capability(device)
        if found < self.capability:
            return f"{self.name} needs compute capability {_version(self.capability)}, the device has {_version(found)}"
        return _broken(self.modules, self.remedy)

    def refuses(self, problem: Problem) -> str | None:
        """What of the problem it cannot take, or None."""
        for field, values in self.takes.items():
            if getattr(problem, field) not in values:
                taken = " or ".join(str(value) for value in values)
                return f"{self.name} takes {field} {taken}, the problem has {field} = {getattr(problem, field)}"
        for field, width in (("D", problem.D), ("F", problem.F)):
            if width % self.step:
                return f"{self.name} takes widths in multiples of {self.step}, {field} = {width}"
        if not problem.T:
            return f"{self.name} launches nothing without tokens, the problem has T = {problem.T}"
        return super().refuses(problem)

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        """All N rows; what a peer pads them to is its own affair, and what it keeps its weights in is not counted."""
        workspace = problem.N * self.row_width(problem) * ELEMENT_BYTES[problem.dtype]
        return Cost(executed_rows=problem.N, workspace_bytes=workspace)

    @abstractmethod
    def row_width(self, problem: Problem) -> int:
        """Elements that one routed row takes at the peak of a call."""


class Once(Generic[Loaded]):
    """``load`` of a weight, done once for each state of it: what a user of the peer does when the model is loaded.

    A weight written to is loaded anew; one that is gone takes what was made of it along. Gradients do not pass.
    """

    def __init__(self, load: Callable[[Tensor], Loaded]) -> None:
        self._load = load
        self._kept: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __call__(self, weight: Tensor) -> Loaded:
        version = weight._version  # noqa: SLF001  # torch's only count of writes
        if weight not in self._kept or self._kept[weight][0] != version:
            with torch.no_grad():
                self._kept[weight] = version, self._load(weight.detach())
        loaded: Loaded = self._kept[weight][1]
        return loaded


def peer_module(name: str, remedy: str = "install it anew") -> Any:
    """A peer's module.

    Raises:
        Unusable: when it cannot be imported.
    """
    return use(name, partial(importlib.import_module, name), remedy=remedy)


@cache  # an import that fails starts from the beginning each time
def _broken(modules: tuple[str, ...], remedy: str) -> str | None:
    for name in modules:
        try:
            peer_module(name, remedy)
        except Unusable as error:
            return str(error)
    return None


def _version(capability: tuple[int, int]) -> str:
    return ".".join(str(part) for part in capability)
