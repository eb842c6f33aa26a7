"""Lists of kernels and of places that several suites share."""

from __future__ import annotations

DROPPING = ("padded", "gshard_einsum")
DROPLESS = ("loop", "padded", "block_sparse", "scatter", "grouped", "transformers_eager", "transformers_grouped_mm")
EVERY_ONE_RANK = ("gshard_einsum", *DROPLESS)
