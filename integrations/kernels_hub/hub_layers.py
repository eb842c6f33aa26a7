"""Layer for the Hugging Face kernels hub: the experts of transformers by our kernels.

It was written for kernels 0.17.2 (docs/source/kernel-requirements.md of huggingface/kernels at commit
8ac69fc542a4306eade0759ef7c45b4f2ae57df0): a layer has a forward and nothing else, and reads the state of the module
whose forward it takes over.
"""

from __future__ import annotations

from torch import Tensor, nn

from .hub_experts import run_experts


class MoebenchExperts(nn.Module):
    """Forward of the experts of transformers 5 whose activation is SiLU, gated, without biases."""

    has_backward: bool = True
    can_torch_compile: bool = False

    # Members of the module whose forward is taken over: (E, 2 F, D) with the gate's rows first, and (E, D, F).
    gate_up_proj: Tensor
    down_proj: Tensor

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return the weighted sums over each token's experts, like ``hidden_states`` (T, D).

        ``top_k_index`` and ``top_k_weights`` are (T, K); an id outside 0 … E − 1 is no route.

        Raises:
            ValueError: when the module computes something else.
        """
        return run_experts(self, self.gate_up_proj, self.down_proj, hidden_states, top_k_index, top_k_weights)
