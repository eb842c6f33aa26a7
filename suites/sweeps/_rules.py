"""Rules for the competitors that several suites share, each with the reason for what it leaves out."""

from __future__ import annotations

import dataclasses

from ..competitors import CompetitorRule

DROPPING = CompetitorRule(groups=("dropping",))
BETWEEN_RANKS = CompetitorRule(groups=("between ranks",))

# Without a capacity one expert may take every token, C = T.
OWN_DROPLESS = CompetitorRule(
    groups=("dropless",),
    leave_out={
        "gshard_einsum": "without a capacity its one-hot tensors have T·E·T elements",
        "triton_padded": "without a capacity it pads every expert to T rows; `padded` shows what that costs",
    },
)
COPIES = {"transformers_batched_mm": "it copies an expert's weights for every route, which only decoding can bear"}
_WITH_PEERS = dataclasses.replace(OWN_DROPLESS, groups=("dropless", "peers"))
DROPLESS = _WITH_PEERS.leaving_out(COPIES)

WAITS = dict.fromkeys(
    ("loop", "padded", "block_sparse", "scatter", "transformers_eager"),
    "it waits for the host at every expert, and the minutes of a session are for what could win",
)
# For a minute or two on a GPU. Of torch's grouped product the baseline is the form of transformers, which never waits.
REDUCED_DROPLESS = DROPLESS.leaving_out(WAITS)
DECODING = _WITH_PEERS.leaving_out(WAITS)

# The baseline on a GPU wherever a capacity drops: it is also dropless, and its calls go into a CUDA graph.
GPU_BASELINE = "triton_scatter"
