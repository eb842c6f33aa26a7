"""Size of a model's routed experts: parameters in all and activated by a token, and memory at 16, 8 and 4 bits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ...kernels.problem import ELEMENT_BYTES, Problem
from ...kernels.problem.models import MODELS, Model
from ...results.record.advice import ExpertMemory, ExpertSize

MXFP4_BITS: Final = 4 + 8 / 32
"""Bits of a weight in MXFP4: an element of 4 bits, and a scale of 8 bits for each block of 32 elements.

Source: Open Compute Project, Microscaling Formats (MX) Specification 1.0, 2023, table 1.
"""


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """A format of weights: nominal bits, a name, and the bytes of the experts of one layer in it."""

    bits: int
    name: str
    layer_bytes: Callable[[Problem], int]


def _mxfp4(problem: Problem) -> int:
    weights = problem.E * problem.D * (problem.U + problem.F)
    biases = problem.E * (problem.U + problem.D) * ELEMENT_BYTES["bfloat16"] if problem.bias else 0
    return round(weights * MXFP4_BITS / 8) + biases


FORMATS: Final = (  # that of 8 bits is the one that kernels here take, with a float32 scale for each row
    WeightFormat(bits=16, name="bfloat16", layer_bytes=lambda one: one.replace(dtype="bfloat16").weight_bytes),
    WeightFormat(bits=8, name="float8_e4m3fn", layer_bytes=lambda one: one.replace(dtype="float8_e4m3fn").weight_bytes),
    WeightFormat(bits=4, name="MXFP4", layer_bytes=_mxfp4),
)


def family_of(name: str) -> str:
    """Return the family of a model: the first word of its name, such as Qwen3, DeepSeek or Mixtral.

    A ``config.json`` names its model type, such as qwen3_moe, which is of the same family.
    """
    first = re.split(r"[-_ ]", name)[0]
    known = (re.split(r"[-_ ]", one.name)[0] for one in MODELS)
    return next((word for word in known if word.casefold() == first.casefold()), first)


def expert_size(problem: Problem, model: Model | None, memory_bytes: int | None) -> ExpertSize:
    """Return the size of all routed experts of a model; of the one layer of a problem where there is no model.

    ``memory_bytes`` is the memory that they should fit, None where it is unknown.
    """
    # Without what a format or a block would refuse: sizes do not depend on it.
    layer = problem.core.replace(mode="forward", dtype="bfloat16", load="uniform")
    layers = 1 if model is None else model.layers
    products = 3 if layer.gated else 2
    parameters = layers * layer.E * layer.D * layer.F * products
    relatives = [one for one in MODELS if model is not None and family_of(one.name) == family_of(model.name)]
    return ExpertSize(
        layers=None if model is None else layers,
        total_parameters=parameters,
        activated_parameters=parameters // layer.E * layer.K,
        flops_per_token=2 * parameters // layer.E * layer.K,
        family=family_of(model.name) if model is not None and relatives else "",
        memory=[_memory(one, layer, layers, relatives, memory_bytes) for one in FORMATS],
    )


def expert_bytes(model: Model, weight_format: WeightFormat) -> int:
    """Return the bytes of all routed experts of a model in a format."""
    return model.layers * weight_format.layer_bytes(model.problem(T=1))


def _memory(
    weight_format: WeightFormat, layer: Problem, layers: int, relatives: list[Model], memory_bytes: int | None
) -> ExpertMemory:
    held = layers * weight_format.layer_bytes(layer)
    fitting = {one.name: size for one in relatives if (size := expert_bytes(one, weight_format)) <= (memory_bytes or 0)}
    largest = max(fitting, key=lambda name: fitting[name], default=None)
    return ExpertMemory(
        bits=weight_format.bits,
        number_format=weight_format.name,
        expert_bytes=held,
        activated_bytes=held // layer.E * layer.K,
        fits=None if memory_bytes is None else held <= memory_bytes,
        largest=largest,
        largest_bytes=None if largest is None else fitting[largest],
    )
