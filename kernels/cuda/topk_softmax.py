"""Launch of ``topk_softmax.cu``."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from . import nvrtc

_WARP = 32
_TOKENS = 4  # of a block, one for each warp


def topk_softmax(logits_TE: Tensor, chosen: int, *, renormalise: bool) -> tuple[Tensor, Tensor]:
    """Return the largest ``chosen`` logits of each token in falling order: int32 ids and float32 gates, both (T, K)."""
    logits_TE = logits_TE.float().contiguous()
    tokens, experts = logits_TE.shape
    ids_TK = torch.empty(tokens, chosen, dtype=torch.int32, device=logits_TE.device)
    gates_TK = torch.empty(tokens, chosen, dtype=torch.float32, device=logits_TE.device)
    if tokens:
        nvrtc.launch(
            *("topk_softmax", "topk_softmax", logits_TE, np.int64(tokens)),
            *(np.int32(number) for number in (experts, chosen, renormalise)),
            *(ids_TK, gates_TK),
            device=logits_TE.device,
            grid=-(-tokens // _TOKENS),
            threads=_TOKENS * _WARP,
        )
    return ids_TK, gates_TK
