"""Weights as the kernels take them, read from an experts module at every call, without a copy that goes stale."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...kernels.module.hugging_face import ExpertsLayout
from ...kernels.problem.tensors import Weights


def read_weights(layout: ExpertsLayout, experts: nn.Module) -> Weights:
    """Return the weights of a module from its attributes as they are now.

    They share the memory of the module, matrices that lie transposed as views, except where gate and up rows take turns
    (gpt-oss): the up projection and its bias have to be `converted`.
    """
    stored = layout.read(experts)
    if not layout.in_turn:
        return layout.arrange(stored)
    sources = {name: tensor for name, tensor in stored.items() if name.endswith("up")}
    return layout.arrange({**stored, **converted(experts, sources, layout.gates_first)})


def converted(
    experts: nn.Module,
    sources: Mapping[str, Tensor],
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> Mapping[str, Tensor]:
    """Return what is made of some tensors of a module, always by the same differentiable function.

    A call that needs gradients makes a copy that is differentiable, which costs about what reading and writing the
    tensors once costs, forward and backward. A call that needs none takes the copy of the call before, which stays in
    memory beside the parameters, until one of them is another tensor, lies elsewhere or was written in place. Writing
    through ``.data`` leaves no trace: `forget` it then.

    Nothing is kept where tensors may change without a trace either: under torch.compile, of tensors made in inference
    mode, and in a process group, where FSDP gathers new values into the same parameter. Such calls make their own copy.
    """
    if torch.compiler.is_compiling():
        return convert(sources)
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in sources.values())
    if needs_gradient or _is_distributed() or any(tensor.is_inference() for tensor in sources.values()):
        forget(experts)
        return convert(sources)
    kept = _KEPT.get(experts)
    if kept is None or not kept.is_of(sources):
        forget(experts)  # before the next one is made: two may not fit
        with torch.inference_mode(mode=False), torch.no_grad():  # a later call may save it for a backward
            kept = _KEPT[experts] = _KeptCopy.of(sources, convert(sources))
    return kept.tensors


def forget(experts: nn.Module) -> None:
    """Free the copy that is kept for a module, if there is one."""
    _KEPT.pop(experts, None)


@dataclass(frozen=True)
class _KeptCopy:
    """Converted tensors, and what they were made of: each tensor, its memory, and how often it was written in place."""

    tensors: Mapping[str, Tensor]
    sources: Mapping[str, weakref.ref[Tensor]]
    states: Mapping[str, tuple[int, int]]

    @staticmethod
    def of(sources: Mapping[str, Tensor], converted: Mapping[str, Tensor]) -> _KeptCopy:
        return _KeptCopy(
            converted,
            {name: weakref.ref(tensor) for name, tensor in sources.items()},
            _states(sources),
        )

    def is_of(self, sources: Mapping[str, Tensor]) -> bool:
        """Return whether these tensors are those that the copy was made of, unchanged."""
        return self.states == _states(sources) and all(self.sources[name]() is sources[name] for name in sources)


_KEPT: WeakKeyDictionary[nn.Module, _KeptCopy] = WeakKeyDictionary()


def _states(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    return {name: (tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()}  # noqa: SLF001  # the only count


def _is_distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
