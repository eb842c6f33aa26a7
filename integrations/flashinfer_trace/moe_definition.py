"""Definitions: an MoE layer in the words of FlashInfer-Trace, with a reference in plain torch that anybody can run.

The schema is that of flashinfer-ai/flashinfer-bench, commit 40e6ca7, `flashinfer_bench/data/definition.py`, and the
words of its axes and inputs are those of its `docs/op-types/moe.mdx`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, get_args

from ...kernels.problem import Activation, Problem

OP_TYPE: Final = "moe"
IDS: Final = "topk_ids"
GATES: Final = "topk_weights"
TOKENS: Final = "num_tokens"
GATE_FACTORS: Final[Mapping[Activation, str]] = {
    "silu": "F.silu(gate)",
    "gelu": "F.gelu(gate)",
    "gelu_tanh": 'F.gelu(gate, approximate="tanh")',
    "relu": "F.relu(gate)",
    "relu2": "F.relu(gate).square()",
    "silu_clamp10": "F.silu(gate.clamp(max=10.0))",
    "swiglu_oai": "gate.clamp(max=7.0) * torch.sigmoid(1.702 * gate.clamp(max=7.0))",
    "situ": "4.0 * torch.tanh(gate / 4.0) * torch.sigmoid(gate)",
    "identity": "gate",
}
UP_FACTORS: Final[Mapping[Activation, str]] = {
    "silu_clamp10": "up.clamp(-10.0, 10.0)",
    "swiglu_oai": "(up.clamp(-7.0, 7.0) + 1.0)",
    "situ": "(25.0 * torch.tanh(up / 25.0))",
}
"""Formulas of `kernels.torch_ops.activations`, as source."""


def without_definition(problem: Problem) -> str | None:
    """Return None, or what of a problem no definition here can say."""
    if problem.mode == "train":
        return "a training step, and a definition is a forward pass"
    if problem.ranks > 1:
        return "a layer on several ranks, and a definition runs on one device"
    if problem.block:
        return f"a layer with the block {problem.block}, and definitions here are of experts alone"
    if problem.capacity_factor is not None:
        return "a layer that drops tokens above a capacity, and definitions here are dropless"
    return None


def definition_name(problem: Problem, chosen: int) -> str:
    """Return the name of a layer's definition, which has everything in it but the number of tokens."""
    words = ["moe", problem.activation, *(["glu"] if problem.gated else []), *(["bias"] if problem.bias else [])]
    sizes = f"e{problem.E}_k{chosen}_h{problem.D}_i{problem.F}"
    return f"{'_'.join(words)}_{problem.dtype}_{sizes}"


def described(name: str) -> tuple[Activation, bool] | None:
    """Return the activation and whether it is gated, of a name that `definition_name` made; None of another."""
    known = "|".join(sorted(get_args(Activation), key=len, reverse=True))
    found = re.match(rf"moe_({known})(_glu)?(_bias)?_(float|bfloat)\d", name)
    if found is None:
        return None
    (activation,) = (one for one in GATE_FACTORS if one == found[1])
    return activation, found[2] is not None


def definition_of(problem: Problem, chosen: int) -> dict[str, Any]:
    """Return the definition of a layer for any number of tokens, each with ``chosen`` routes, of which −1 is none."""
    held = problem.held
    tensors: dict[str, tuple[list[str], str, str]] = {
        "hidden_states": ([TOKENS, "hidden_size"], held, "Tokens."),
        IDS: ([TOKENS, "top_k"], "int32", "Experts of each token, -1 for no route."),
        GATES: ([TOKENS, "top_k"], "float32", "Gate weights of the experts of each token."),
        "gemm1_weights": (
            ["num_experts", "gemm1_out_size", "hidden_size"],
            problem.dtype,
            "First projection of each expert" + (": gate rows first, then up rows." if problem.gated else "."),
        ),
        "gemm2_weights": (
            ["num_experts", "hidden_size", "intermediate_size"],
            problem.dtype,
            "Second projection of each expert.",
        ),
    }
    if problem.quantised:
        tensors["gemm1_scales"] = (["num_experts", "gemm1_out_size"], "float32", "Scale of each row of gemm1_weights.")
        tensors["gemm2_scales"] = (["num_experts", "hidden_size"], "float32", "Scale of each row of gemm2_weights.")
    if problem.bias:
        tensors["gemm1_bias"] = (["num_experts", "gemm1_out_size"], held, "Bias of the first projection.")
        tensors["gemm2_bias"] = (["num_experts", "hidden_size"], held, "Bias of the second projection.")
    sizes = {
        "num_experts": problem.E,
        "top_k": chosen,
        "hidden_size": problem.D,
        "intermediate_size": problem.F,
        "gemm1_out_size": problem.U,
    }
    return {
        "name": definition_name(problem, chosen),
        "op_type": OP_TYPE,
        "description": f"Experts of a Mixture-of-Experts layer on given routes, {problem.activation}"
        f"{', gated' if problem.gated else ''}. Exported by moebench.",
        "axes": {TOKENS: {"type": "var", "description": "Tokens of the batch."}}
        | {name: {"type": "const", "value": size} for name, size in sizes.items()},
        "constraints": [f"gemm1_out_size == {'2 * ' if problem.gated else ''}intermediate_size"],
        "inputs": {
            name: {"shape": shape, "dtype": dtype, "description": words}
            for name, (shape, dtype, words) in tensors.items()
        },
        "outputs": {
            "output": {"shape": [TOKENS, "hidden_size"], "dtype": held, "description": "Sum over the experts."}
        },
        "reference": reference_code(problem, list(tensors)),
    }


def reference_code(problem: Problem, inputs: list[str]) -> str:
    """Return source with a function ``run``: a plain loop over experts that computes in float32."""
    scales = (" * gemm1_scales[expert]", " * gemm2_scales[expert]") if problem.quantised else ("", "")
    biases = (" + gemm1_bias[expert].float()", " + gemm2_bias[expert].float()") if problem.bias else ("", "")
    gate, up = GATE_FACTORS[problem.activation], UP_FACTORS.get(problem.activation, "up")
    activate = (
        ["gate, up = hidden.chunk(2, dim=-1)", f"hidden = {gate} * {up}"]
        if problem.gated
        else [f"hidden = {re.sub('gate', 'hidden', gate)}"]
    )
    in_loop = [
        f"token, choice = torch.where({IDS} == expert)",
        f"hidden = tokens[token] @ gemm1_weights[expert].float().T{scales[0]}{biases[0]}",
        *activate,
        f"result = hidden @ gemm2_weights[expert].float().T{scales[1]}{biases[1]}",
        f"output.index_add_(0, token, result * {GATES}[token, choice, None])",
    ]
    return "\n".join(
        [
            "import torch",
            "import torch.nn.functional as F",
            "",
            "",
            "@torch.no_grad()",
            f"def run({', '.join(inputs)}):",
            "    tokens = hidden_states.float()",
            "    output = torch.zeros_like(tokens)",
            "    for expert in range(gemm1_weights.shape[0]):",
            *(f"        {line}" for line in in_loop),
            f"    return output.to(torch.{problem.held})",
            "",
        ]
    )
