"""Solutions: source that calls a kernel of moebench, which must be installed, with the configuration of a record.

The schema is that of flashinfer-ai/flashinfer-bench, commit 40e6ca7, `flashinfer_bench/data/solution.py`. A kernel is
compiled from many files, and its weights need no other layout, so a solution names the package as a dependency.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...kernels.catalog import KERNELS
from ...kernels.implementations._peer import Adapter
from ...kernels.problem import Problem

ENTRY: Final = "main.py"
AUTHOR: Final = "moebench"
FIELDS: Final = ("D", "F", "E", "gated", "activation", "dtype", "bias")
_SOURCE: Final = '''\
"""The kernel {kernel} of moebench, which must be installed, with the configuration that was measured."""

from functools import cache

from moebench.kernels.catalog import KERNELS
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing
from moebench.kernels.problem.tensors import Weights

KERNEL = {kernel!r}
LAYER = {layer}
CONFIG = {config}


@cache
def _build(tokens, chosen, device):
    problem = Problem(T=tokens, K=chosen, **LAYER)
    kernel = KERNELS.load(KERNEL)
    if reason := kernel.supports(problem, device):
        raise RuntimeError(reason)
    return kernel.build_for_any_routes(problem, CONFIG, device)


def run({inputs}):
    layer = _build(*topk_ids.shape, hidden_states.device)
    routing = Routing(ids_TK=topk_ids, gates_TK=topk_weights, experts=LAYER["E"])
    return layer(hidden_states, routing, Weights({weights}))
'''
_WEIGHTS: Final[Mapping[str, str]] = {
    "gemm1_weights": "w_up_EUD",
    "gemm2_weights": "w_down_EDF",
    "gemm1_bias": "b_up_EU",
    "gemm2_bias": "b_down_ED",
    "gemm1_scales": "s_up_EU",
    "gemm2_scales": "s_down_ED",
}


def author_of(kernel: str) -> str:
    """Return who wrote a kernel: the package of an adapter, else moebench."""
    found = KERNELS.load(kernel)
    return found.read_against.distribution if isinstance(found, Adapter) else AUTHOR


def solution_of(
    problem: Problem,
    kernel: str,
    config: Mapping[str, Any],
    definition: Mapping[str, Any],
    hardware: Sequence[str],
) -> dict[str, Any]:
    """Return the solution that runs a kernel with a configuration on a definition; ``hardware`` is where it ran."""
    inputs = list(definition["inputs"])
    layer = {name: getattr(problem, name) for name in FIELDS}
    source = _SOURCE.format(
        kernel=kernel,
        layer=repr(layer),
        config=repr(dict(sorted(config.items()))),
        inputs=", ".join(inputs),
        weights=", ".join(f"{_WEIGHTS[name]}={name}" for name in inputs if name in _WEIGHTS),
    )
    author = author_of(kernel)
    return {
        "name": f"moebench_{kernel}_{definition['name']}_{_digest(source)}",
        "definition": definition["name"],
        "author": author,
        "description": KERNELS.summary(kernel),
        "spec": {
            "language": "python",
            "target_hardware": list(hardware),
            "entry_point": f"{ENTRY}::run",
            "dependencies": list(dict.fromkeys(["moebench", author])),
            "destination_passing_style": False,
        },
        "sources": [{"path": ENTRY, "content": source}],
    }


def _digest(source: str) -> str:
    return hashlib.sha256(json.dumps(source).encode()).hexdigest()[:8]
