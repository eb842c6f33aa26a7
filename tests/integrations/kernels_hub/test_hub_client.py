"""Client of the kernels hub: it loads the folder from a disk and gives its layer to a model. `nox -s hub` has it."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeExperts

from moebench.integrations.kernels_hub.hub_folder import write_hub_folder

try:
    distribution("kernels")
except PackageNotFoundError:
    pytest.skip("the package kernels is not installed", allow_module_level=True)


def test_a_model_computes_the_same_with_the_layer_of_the_folder(tmp_path: Path) -> None:
    kernels: Any = importlib.import_module("kernels")  # a folder of the repository has this name too
    folder = tmp_path / "hub"
    write_hub_folder(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    experts: dict[str, Any] = {"moe_intermediate_size": 32, "num_experts": 8, "num_experts_per_tok": 2}
    model: Any = Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=64, intermediate_size=64, **sizes, **experts))
    tokens = torch.randint(0, 64, (2, 9))
    wanted = model(tokens).logits
    wanted.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()

    kernels.replace_kernel_forward_from_hub(Qwen3MoeExperts, "MoebenchExperts")
    layer = kernels.LocalLayerRepository(repo_path=folder, layer_name="MoebenchExperts")
    with kernels.use_kernel_mapping({"MoebenchExperts": {"cpu": layer}}, inherit_mapping=False):
        model = kernels.kernelize(model, mode=kernels.Mode.TRAINING, use_fallback=False)
    forward = model.model.layers[0].mlp.experts.forward
    assert forward.__func__.__qualname__ == "MoebenchExperts.forward"
    found = model(tokens).logits
    found.square().mean().backward()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-7)
