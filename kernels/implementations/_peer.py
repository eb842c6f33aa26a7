"""Parts that adapters to other projects share: their refusals, and weights in the layout of the other project."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ...common.packages import Release, Unusable, is_installed, use
from ..config import Config
from ..kernel import Cost, Kernel
from ..problem import ELEMENT_BYTES, Problem
from ..problem.routing import Routing

HALVES = ("float16", "bfloat16")
Loaded = TypeVar("Loaded")
Takes = Mapping[str, tuple[object, ...]]


class Adapter(Kernel):
    """An adapter to another project; ``read_against`` is the release whose interface it was written from.

    The interface of any other release may differ: a test fails where the installed one does.
    """

    family = "peer"
    reads_every_route = True
    read_against: ClassVar[Release]


class Peer(Adapter):
    """An adapter whose package is imported only where it is installed and its device is present.

    `build` imports ``modules``; ``remedy`` says how to install them. ``takes`` names the fields of a problem of which
    it takes only some values, with these values; D and F must be multiples of ``step``; ``capability`` is the least
    compute capability. It reads every route: none may be missing.
    """

    adds_biases = True
    devices = ("cuda",)
    modules: ClassVar[tuple[str, ...]]
    remedy: ClassVar[str]
    takes: ClassVar[Takes]
    step: ClassVar[int] = 1
    capability: ClassVar[tuple[int, int]] = (8, 0)

    def supports(self, problem: Problem, device: torch.device) -> str | None:
        return self.missing(device) or self.refuses(problem)

    def missing(self, device: torch.device) -> str | None:
        """Return None, or what this machine lacks to run it, with the remedy."""
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
        """Count all N rows; padding inside the peer and its own copies of weights are not known and not counted."""
        workspace = problem.N * self.row_width(problem) * ELEMENT_BYTES[problem.dtype]
        return Cost(executed_rows=problem.N, workspace_bytes=workspace)

    @abstractmethod
    def row_width(self, problem: Problem) -> int:
        """Return the elements that one routed row takes at the peak of a call."""


class Once(Generic[Loaded]):
    """A conversion of weights that is done once, as a user of the peer does it when a model is loaded.

    ``load`` converts a weight. A weight that was written to is converted again; when a weight is freed, its converted
    form is freed too. Gradients do not pass.
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
    """Import a module of a peer.

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
