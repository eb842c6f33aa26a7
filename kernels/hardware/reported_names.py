"""Names of devices as drivers report them, with _ for spaces, and the nearest one for a word that is none of them.

Serving engines look for their files of tuned tiles under the name that the driver reports, so that a file for another
word is never read. The table has the GPUs that people serve on. Sources: the list of products of NVIDIA's open kernel
modules (README.md of NVIDIA/open-gpu-kernel-modules, commit 015742d), the files of tuned tiles that vLLM 0.33.0 and
SGLang 0.5.23 ship, and vLLM's names of AMD's device numbers (vllm/platforms/rocm.py of 0.33.0).
"""

from __future__ import annotations

import difflib
import re

from .gpus import GPUS

REPORTED = (
    "NVIDIA_A100-SXM4-40GB",
    "NVIDIA_A100-SXM4-80GB",
    "NVIDIA_A100-SXM-64GB",
    "NVIDIA_A100_80GB_PCIe",
    "NVIDIA_A100-PCIE-40GB",
    "NVIDIA_A100-PG509-200",
    "NVIDIA_A800-SXM4-40GB",
    "NVIDIA_A800-SXM4-80GB",
    "NVIDIA_A800_80GB_PCIe",
    "NVIDIA_A800_80GB_PCIe_LC",
    "NVIDIA_A800_40GB_Active",
    "NVIDIA_A2",
    "NVIDIA_A10",
    "NVIDIA_A10G",
    "NVIDIA_A16",
    "NVIDIA_A30",
    "NVIDIA_A40",
    "NVIDIA_H100",
    "NVIDIA_H100_80GB_HBM3",
    "NVIDIA_H100_PCIe",
    "NVIDIA_H100_NVL",
    "NVIDIA_H200",
    "NVIDIA_H200_NVL",
    "NVIDIA_H800",
    "NVIDIA_H800_PCIe",
    "NVIDIA_H800_NVL",
    "NVIDIA_H20",
    "NVIDIA_H20-3e",
    "NVIDIA_GH200_120GB",
    "NVIDIA_GH200_480GB",
    "NVIDIA_GH200_144G_HBM3e",
    "NVIDIA_B200",
    "NVIDIA_GB200",
    "NVIDIA_B300_SXM6_AC",
    "NVIDIA_GB300",
    "NVIDIA_GB10",
    "NVIDIA_L2",
    "NVIDIA_L4",
    "NVIDIA_L20",
    "NVIDIA_L20Y",
    "NVIDIA_L40",
    "NVIDIA_L40S",
    "AMD_Instinct_MI300A",
    "AMD_Instinct_MI300X",
    "AMD_Instinct_MI300X_HF",
    "AMD_Instinct_MI308X",
    "AMD_Instinct_MI325X",
    "AMD_Instinct_MI325_OAM",
    "AMD_Instinct_MI350X",
    "AMD_Instinct_MI350_OAM",
    "AMD_Instinct_MI355X",
    "AMD_Instinct_MI355_OAM",
)
"""The names of GPUs that people serve models on."""
USUALLY = {"NVIDIA_A100": "NVIDIA_A100-SXM4-80GB", "NVIDIA_H100": "NVIDIA_H100_80GB_HBM3"}
"""Words without a variant, and the name of the product that most people mean. One rare H100 has the short name."""

_PARTITIONS = re.compile(r"(_MIG_\d+g\.\d+gb.*|-\d+[ABCQ])$")  # of a GPU, as MIG and virtual machines have them
_SERIES = re.compile(r"NVIDIA_(GeForce_)?RTX_|(AMD_)?Radeon_")  # with more variants than a table could keep
_NEAR = 0.8  # share of letters in common from which a word is taken for a slip


def is_reported(word: str) -> bool:
    """Return whether a driver may report the word: it is in the table, a partition of one, or of an open series."""
    whole = _PARTITIONS.sub("", word)
    return whole in REPORTED or _SERIES.match(whole) is not None or whole.startswith(tuple(_AMD))


def likely_meant(word: str) -> str | None:
    """Return the reported name that a word most likely stands for; None where it may be a device that is not known.

    A word with the model of a known GPU stands for the nearest name of that model. Any other one has to differ by a
    slip in the parts without digits: those with digits tell devices apart.
    """
    model = _model(word)
    same = [name for name in REPORTED if model is not None and _model(name) == model]
    alike = [name for name in REPORTED if _numbered(name) == _numbered(word)]
    found = _nearest(word, same, 0.0) if same else _nearest(word, alike, _NEAR)
    return USUALLY.get(word) or (found and USUALLY.get(found, found))


def _nearest(word: str, names: list[str], cutoff: float) -> str | None:
    plain = {_plain(name): name for name in names}
    found = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def _model(word: str) -> str | None:
    """Return the part of a word by which the table of GPUs knows it, such as H100."""
    for entry in GPUS:
        found = re.search(rf"(?<![A-Za-z0-9])(?:{entry.names})(?![A-Za-z0-9])", word)
        if found:
            return found[0]
    return None


def _numbered(word: str) -> list[str]:
    return [part for part in _plain(word).split("_") if re.search(r"\d", part)]


def _plain(word: str) -> str:
    return word.casefold().replace("-", "_")


_AMD = [f"{name}_" for name in REPORTED if name.startswith("AMD_")]  # a virtual function ends in _VF
