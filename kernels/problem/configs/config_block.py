"""The block around the experts of a model by the fields of its ``config.json``: shared experts and a latent width.

Families are values of ``model_type``: those of transformers 5, whose modules were read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[str, Any]

# The first spelling that is present and not null counts.
SHARED_COUNTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
SHARED_WIDTHS = (
    *("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size"),
    *("shared_experts_intermediate_size", "share_expert_dim"),
)
"""The hidden width of all shared experts together, unless `WIDTH_OF_EACH` has the family."""
ALWAYS_ONE = {"deepseek_v4", "hunyuan_v1_moe", "llama4_text"}
"""Families whose code adds one shared expert of an expert's width, whatever the file says."""
WIDTH_OF_EACH = {"dots3_note_text"}
SIGMOID = {"qwen2_moe", "qwen3_5_moe_text", "qwen3_next", "qwen3_omni_moe_talker_text", "qwen4_exp_text"}
DENSE_BESIDE = {"gemma4_text", "diffusion_gemma_text"}
"""Families whose layers have the dense MLP of ``intermediate_size`` too, beside the experts."""
# The shares of inkling's shared experts come from its router.
OTHERWISE = {"inkling_text"}
AVERAGED = "shared_expert_combination_strategy"


def block_of(fields: Fields, family: str, *, hidden: int, latent: int) -> str:
    """Return the text of the block around experts of a hidden width, "" where nothing stands around them.

    ``latent`` is the width that experts work in where it is not the model's, else 0.

    Raises:
        ValueError: naming the field, its value and the remedy.
    """
    shared = _shared_width(fields, family, hidden)
    if latent:
        return f"latent:width={latent},shared={shared}"
    if not shared:
        return ""
    width = 0 if shared == hidden else shared  # 0 is that of an expert
    return f"shared:width={width},sigmoid={str(family in SIGMOID).lower()}"


def block_notes(family: str) -> Iterator[str]:
    """Yield what differs between a model's block and its text."""
    if family in DENSE_BESIDE:
        yield "without the norms of experts and of the dense layer beside them"
    if family == "hy_v4":
        yield "its shared expert has the limit of its experts here, none in the model"


def block_reads(block: str) -> set[str]:
    """Return the fields that a block has of the file."""
    return {*SHARED_COUNTS, *SHARED_WIDTHS, AVERAGED} if "shared" in block else set()


def _shared_width(fields: Fields, family: str, hidden: int) -> int:
    """Return the hidden width of all shared experts together, 0 where there are none, or others than a block has."""
    if family in OTHERWISE or (family == "cohere2_moe" and fields.get(AVERAGED, "average") != "sum"):
        return 0
    if family in ALWAYS_ONE:
        return hidden
    if family in DENSE_BESIDE:
        return _number(fields, ("intermediate_size",)) or 0
    count, width = _number(fields, SHARED_COUNTS), _number(fields, SHARED_WIDTHS)
    if width is None or count == 0:
        return hidden * (count or 0)
    return width * (count or 0) if family in WIDTH_OF_EACH else width


def _number(fields: Fields, names: tuple[str, ...]) -> int | None:
    """Return the first number that there is, of a list with one for every layer the commonest; None without any."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, list) and value:
            value = Counter(map(str, value)).most_common(1)[0][0]
            value = int(value) if value.isdecimal() else fields[name]
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} = {value!r}: give an integer of at least 0")
            return value
    return None
