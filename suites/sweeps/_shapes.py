"""Lists of kernels that several suites share."""

from __future__ import annotations

DROPPING = ("padded", "gshard_einsum")
DROPLESS = ("loop", "padded", "block_sparse", "scatter", "grouped", "transformers_eager", "transformers_grouped_mm")

# The baseline on a GPU wherever a capacity drops: it is also dropless, and its calls go into a CUDA graph.
GPU_BASELINE = "triton_scatter"
GPU_DROPPING = ("triton_padded", "triton_scatter")
# Without those that wait for the host at every expert. Of torch's grouped product the baseline is the form of
# transformers, which waits for nothing. Peers that are not installed are refused with the reason.
GPU_DROPLESS = (
    "grouped",
    "triton_scatter",
    "triton_block_sparse",
    "transformers_grouped_mm",
    "scattermoe",
    "megablocks",
    "sonicmoe",
    "vllm_fused_moe",
    "triton_kernels_moe",
)
EVERY_DROPPING = (*DROPPING, *GPU_DROPPING)
EVERY_DROPLESS = tuple(dict.fromkeys((*DROPLESS, *GPU_DROPLESS)))

# Between ranks. The single-rank implementation that multiplies is part of their configuration.
DISPATCHERS = ("alltoall", "alltoall_dedup", "hierarchical", "allgather")
