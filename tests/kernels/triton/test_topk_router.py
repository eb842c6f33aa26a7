"""Without a GPU the fused router is the plain one."""

from __future__ import annotations

import pytest
import torch

from moebench.kernels.problem.draw_routes import routed
from moebench.kernels.triton.topk_router import topk_softmax


@pytest.mark.parametrize("renormalise", [False, True])
def test_cpu_takes_the_plain_router(renormalise: bool) -> None:
    logits_TE = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    routing = topk_softmax(logits_TE, 3, renormalise=renormalise)
    expected = routed("softmax_topk_renorm" if renormalise else "softmax_topk", logits_TE, 3)
    assert torch.equal(routing.ids_TK, expected.ids_TK)
    assert torch.equal(routing.gates_TK, expected.gates_TK)


@pytest.mark.parametrize("renormalise", [False, True])
def test_nothing_is_asked_of_the_device(renormalise: bool) -> None:
    routing = topk_softmax(torch.empty(5, 7, device="meta"), 3, renormalise=renormalise)
    assert routing.ids_TK.shape == routing.gates_TK.shape == (5, 3)


@pytest.mark.parametrize("chosen", [0, 8])
def test_more_experts_than_there_are_is_refused(chosen: int) -> None:
    with pytest.raises(ValueError, match=f"chosen = {chosen} of 7 experts"):
        topk_softmax(torch.zeros(5, 7), chosen, renormalise=False)
