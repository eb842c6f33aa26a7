"""Files of tiles for vLLM's LoRA kernels, which lie in the same folder as those of its experts.

vLLM looks for them in ``VLLM_TUNED_CONFIG_FOLDER`` by the name of the device, with _ for spaces and hyphens, and the
operation: ``NVIDIA_H200_SHRINK.json``, ``NVIDIA_H200_EXPAND_TRUE.json``. The content is nested: most adapters, slices,
rows, the width summed over, columns and, for an MoE layer, the width of an expert lead to the tiles, and at every level
but the slices the nearest number is taken. Read in vLLM 0.33.0: vllm/lora/ops/triton_ops/utils.py (load_lora_op_config,
get_lora_op_configs) and README_TUNING.md beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .serving_file import Finding, Severity
from .tile_reader import Pairs, Unreadable, read_pairs

_NAME = re.compile(
    r"(?P<device>.+?)_(?P<operation>FUSED_MOE_LORA_W(?:13|2)_(?:SHRINK|EXPAND)|SHRINK|EXPAND(?:_TRUE|_FALSE)?)\.json"
)
LEVELS = ("max_loras", "num_slices", "m", "k", "n")
EXPERT_LEVEL = "moe_intermediate_size"


def is_lora_name(name: str) -> bool:
    """Return whether a file name is one of tiles for vLLM's LoRA kernels."""
    return _NAME.fullmatch(name) is not None


def check_lora(path: Path, file: str) -> Iterator[Finding]:
    """Yield that a file is one of tiles for LoRA kernels, and what keeps vLLM from reading it.

    ``file`` is what findings call it. The tiles themselves are not checked.
    """

    def finding(severity: Severity, kind: str, sentence: str, remedy: str) -> Finding:
        return Finding(severity=severity, kind=kind, file=file, sentence=sentence, remedy=remedy)

    named = _NAME.fullmatch(path.name)
    if named is None:
        return
    device, operation = named["device"], named["operation"]
    if operation == "EXPAND":
        yield finding(
            Severity.error,
            "name",
            "is not the name that vLLM looks for",
            f"rename it to {device}_EXPAND_TRUE.json for an expansion that adds to its output, else to _EXPAND_FALSE",
        )
    if "-" in device:
        yield finding(
            Severity.error,
            "name",
            "is not the name that vLLM looks for, which has _ for hyphens too",
            f"rename it to {device.replace('-', '_')}_{operation}.json",
        )
    levels = (*LEVELS, EXPERT_LEVEL) if operation.startswith("FUSED") else LEVELS
    try:
        wrong = _misshapen(read_pairs(path), levels)
    except Unreadable as problem:
        yield finding(Severity.error, "unreadable", str(problem), problem.remedy)
        return
    if wrong:
        yield finding(Severity.error, "tiles", wrong, f"nest it as {' → '.join(levels)} → tiles")
    else:
        yield finding(
            Severity.note,
            "name",
            "holds tiles of vLLM's LoRA kernels",
            "how they are nested was checked, the tiles were not",
        )


def _misshapen(body: Pairs, levels: tuple[str, ...]) -> str | None:
    """Return what is wrong with how tiles are nested, or None; the first fault is enough."""
    if not levels:
        inner = next((word for word, value in body if isinstance(value, Pairs)), None)
        if not body or inner is not None:
            return (
                "has no tiles below its last level" if not body else f"is nested deeper than vLLM looks, at {inner!r}"
            )
        return None
    for key, value in body:
        if not (key.isascii() and key.isdecimal()):
            return f"has the key {key[:40]!r} for {levels[0]}, of which vLLM makes an int"
        if not isinstance(value, Pairs) or not value:
            return f"has no object below {levels[0]} = {key[:40]}"
        if found := _misshapen(value, levels[1:]):
            return found
    return None
