"""The interface of vLLM's experts that the plug-in was written against, and what differs from it in another version."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

READ: Final = "0.33.0, commit 4ba787ec9"
"""The version of vLLM whose sources were read: experts/triton_moe.py, modular_kernel.py, activation.py, config.py and
oracle/unquantized.py of vllm/model_executor/layers/fused_moe."""

ROOT: Final = "vllm.model_executor.layers.fused_moe"
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "__init__": ("self", "moe_config", "quant_config"),
    "is_supported_config": ("cls", "moe_config", "weight_key", "activation_key", "activation_format"),
    "_supports_current_device": (),
    "_supports_no_act_and_mul": (),
    "_supports_quant_scheme": ("weight_key", "activation_key"),
    "_supports_activation": ("activation",),
    "_supports_parallel_config": ("moe_parallel_config",),
    "_supports_batch_invariance": (),
    "workspace_shapes": (
        "self",
        "M",
        "N",
        "K",
        "topk",
        "global_num_experts",
        "local_num_experts",
        "expert_tokens_meta",
        "activation",
    ),
    "apply": (
        "self",
        "output",
        "hidden_states",
        "w1",
        "w2",
        "topk_weights",
        "topk_ids",
        "activation",
        "global_num_experts",
        "expert_map",
        "a1q_scale",
        "a2_scale",
        "workspace13",
        "workspace2",
        "expert_tokens_meta",
        "apply_router_weight_on_input",
    ),
}
"""Methods of vLLM's Triton experts that the plug-in overrides or calls, with the names of their parameters."""

NUMBERS: Final = ("clamp_limit", "alpha", "beta", "activation_situ_beta", "activation_situ_linear_beta")
"""Numbers that change the mathematics of an activation. One that is not known here could change it unseen."""

READ_OF_LAYER: Final = (
    "num_local_experts",
    "experts_per_token",
    "hidden_dim",
    "activation",
    "moe_parallel_config",
    "in_dtype",
    "has_bias",
    "is_lora_enabled",
    "max_num_tokens",
)
READ_OF_RANKS: Final = ("use_all2all_kernels", "use_ag_rs_all2all_kernels", "enable_eplb")


@dataclass(frozen=True)
class VllmParts:
    """The parts of vLLM that the plug-in uses."""

    oracle: Any
    triton_backend: Any
    triton_experts: Any
    activation_config: Any
    layer_config: Any
    ranks_config: Any
    platform: Any

    @staticmethod
    def of_installed() -> VllmParts:
        """Return those of the installed vLLM.

        Raises:
            ImportError: where a module is missing.
            AttributeError: where a name is.
        """
        oracle = importlib.import_module(f"{ROOT}.oracle.unquantized")
        config = importlib.import_module(f"{ROOT}.config")
        return VllmParts(
            oracle=oracle,
            triton_backend=oracle.UnquantizedMoeBackend.TRITON,
            triton_experts=importlib.import_module(f"{ROOT}.experts.triton_moe").TritonExperts,
            activation_config=importlib.import_module(f"{ROOT}.activation").ApplyMoEActivationConfig,
            layer_config=config.FusedMoEConfig,
            ranks_config=config.FusedMoEParallelConfig,
            platform=importlib.import_module("vllm.platforms").current_platform,
        )


def differences(parts: VllmParts) -> Iterator[str]:
    """Yield what differs from the interface that was read, in words."""
    found = tuple(inspect.signature(parts.oracle.backend_to_kernel_cls).parameters)
    if found != ("backend",):
        yield f"backend_to_kernel_cls takes {', '.join(found)}, not backend"
    elif parts.triton_experts not in parts.oracle.backend_to_kernel_cls(parts.triton_backend):
        yield "TritonExperts is not among the experts of the backend TRITON"
    for name, wanted in PARAMETERS.items():
        method = getattr(parts.triton_experts, name, None)
        if method is None:
            yield f"TritonExperts has no {name}"
        elif (found := tuple(inspect.signature(method).parameters)) != wanted:
            changed = sorted({*found} ^ {*wanted}) or ["their order"]
            yield f"TritonExperts.{name} has other parameters ({', '.join(changed)})"
    if (numbers := tuple(field.name for field in fields(parts.activation_config))) != NUMBERS:
        yield f"activations have other numbers ({', '.join(sorted({*numbers} ^ {*NUMBERS}))})"
    for config, names in ((parts.layer_config, READ_OF_LAYER), (parts.ranks_config, READ_OF_RANKS)):
        known = {*dir(config), *(field.name for field in fields(config))}
        if missing := [name for name in names if name not in known]:
            yield f"{config.__name__} has no {', '.join(missing)}"
