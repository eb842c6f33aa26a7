"""What is known of a GPU by the name that it has in a file name."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Shared memory that one program may have, in bytes, and FLOP per byte where a 16-bit product stops waiting.

    The latter is dense FLOP/s over bytes/s of memory, None where it was not looked up.
    """

    shared_bytes: int
    flop_per_byte: float | None = None


# CUDA C++ Programming Guide, technical specifications by compute capability: 163 KiB for 8.0 and 8.7, 99 for 8.6, 8.9
# and 12.x, 227 for 9.0 and 10.x. AMD's instruction set guides: 64 KiB up to CDNA 3, 160 in CDNA 4. Older ones have no
# copies in flight, whose buffers are all that is counted here. Rates are those of the makers' data sheets.
_BY_WORD: tuple[tuple[str, Device], ...] = (
    ("A100", Device(163 << 10, 312e12 / 2.04e12)),
    ("A800|A30", Device(163 << 10)),
    ("H100|H800|GH200", Device(227 << 10, 989e12 / 3.35e12)),
    ("H200", Device(227 << 10, 989e12 / 4.8e12)),
    ("H20", Device(227 << 10, 148e12 / 4.0e12)),
    ("B100|B200|GB200|B300|GB300", Device(227 << 10, 2250e12 / 8e12)),
    ("L40S", Device(99 << 10, 362e12 / 0.864e12)),
    ("L40|L20|L4|L2|Ada|A10|A10G|A40|A6000|GB10", Device(99 << 10)),
    ("RTX_4090", Device(99 << 10, 165e12 / 1.008e12)),
    (r"RTX_[345]0\d\d|RTX_PRO_\d000", Device(99 << 10)),
    ("MI300X|MI300A|MI325X", Device(64 << 10, 1307e12 / 5.3e12)),
    ("MI100|MI210|MI250|MI250X|MI308X", Device(64 << 10)),
    ("MI350X|MI355X", Device(160 << 10)),
)


def device(name: str) -> Device | None:
    """The device of a name such as ``NVIDIA_H100_80GB_HBM3``; None when it is not known."""
    for words, known in _BY_WORD:
        if re.search(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", name):
            return known
    return None
