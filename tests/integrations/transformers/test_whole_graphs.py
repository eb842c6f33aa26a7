"""A whole model under torch.compile is one graph, with the experts as operators in it."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_models
import torch

pytest.importorskip("transformers.integrations.moe")

import moebench.transformers  # noqa: F401  # registers the name


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "muse_spark", "longcat_flash", "dbrx", "step3p7"])
def test_a_model_is_compiled_whole_and_gives_the_same_gradients(family: str) -> None:
    model = tiny_models.tiny_model(family, experts_implementation="moebench")
    ids = torch.randint(2, 60, (2, 7), generator=torch.Generator().manual_seed(0))
    logits = model(input_ids=ids, use_cache=False).logits
    logits.square().mean().backward()
    expected = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}
    model.zero_grad()
    torch.compiler.reset()
    compiled: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = compiled(input_ids=ids, use_cache=False).logits
    found.square().mean().backward()
    torch.testing.assert_close(found, logits)
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-4, atol=1e-6)
