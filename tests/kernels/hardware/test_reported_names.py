"""Words for devices: those that drivers report are known, and for others the nearest is found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.hardware.gpus import gpu_named
from moebench.kernels.hardware.reported_names import REPORTED, USUALLY, is_reported, likely_meant


@pytest.mark.parametrize(
    "word",
    [
        "NVIDIA_H100_80GB_HBM3",
        "NVIDIA_H20-3e",
        "NVIDIA_A100-SXM4-80GB_MIG_3g.40gb",
        "NVIDIA_L40S-48C",
        "NVIDIA_GeForce_RTX_4090_D",
        "NVIDIA_RTX_PRO_6000_Blackwell_Max-Q_Workstation_Edition",
        "AMD_Instinct_MI300X_VF",
        "Radeon_8060S_Graphics",
    ],
)
def test_what_a_driver_reports_is_known(word: str) -> None:
    assert is_reported(word)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("NVIDIA_A100", "NVIDIA_A100-SXM4-80GB"),
        ("NVIDIA_A100_SXM4_80GB", "NVIDIA_A100-SXM4-80GB"),
        ("H100", "NVIDIA_H100_80GB_HBM3"),
        ("NVIDIA_H100_80GB_HMB3", "NVIDIA_H100_80GB_HBM3"),
        ("nvidia_h100_80gb_hbm3", "NVIDIA_H100_80GB_HBM3"),
        ("NVIDA_L40S", "NVIDIA_L40S"),
        ("NVIDIA_H200_141GB", "NVIDIA_H200"),
        ("MI300X", "AMD_Instinct_MI300X"),
        ("AMD_Instict_MI325X", "AMD_Instinct_MI325X"),
        ("NVIDIA_B100", None),  # there may be one
        ("NVIDIA_R200", None),
        ("Ascend910B", None),
        ("cpu", None),
    ],
)
def test_a_word_that_none_reports_is_answered_with_the_nearest(word: str, meant: str | None) -> None:
    assert not is_reported(word)
    assert likely_meant(word) == meant


def test_the_table_of_gpus_knows_every_name_but_those_of_old_devices() -> None:
    unknown = [name for name in REPORTED if gpu_named(name) is None]
    assert unknown == ["NVIDIA_A2", "NVIDIA_A16", "NVIDIA_L20Y"]
    assert set(USUALLY.values()) <= set(REPORTED)


@given(st.text(alphabet="NVIDIAhx_- 0123456789()[]*+.\\", max_size=60))
def test_any_word_is_answered(word: str) -> None:
    meant = likely_meant(word)
    assert meant is None or meant in REPORTED
    assert is_reported(word) in (True, False)
