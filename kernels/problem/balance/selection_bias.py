"""Update of the selection biases that balance a router without a loss.

DeepSeek-AI 2024, "DeepSeek-V3 Technical Report", section 2.1.2, auxiliary-loss-free load balancing; Wang et al. 2024,
"Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", algorithm 1.
"""

from __future__ import annotations

from torch import Tensor


def updated_biases(bias_E: Tensor, counts_E: Tensor, *, rate: float = 1e-3) -> Tensor:
    """Return the biases after a step: b + rate · sign(mean of the counts − count), of the biases' dtype.

    ``counts_E`` are the routes that each expert got in the step, over all ranks. ``rate`` is the report's γ, which was
    0.001 for most of its training.
    """
    counts_E = counts_E.double()
    return bias_E + rate * (counts_E.mean() - counts_E).sign().to(bias_E.dtype)
