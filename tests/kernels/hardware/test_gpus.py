"""The table of GPUs: names, and agreement with the other files that quote the same data sheets."""

from __future__ import annotations

import pytest

from moebench.kernels.hardware.gpus import (
    DATA_SHEETS,
    GPUS,
    HARDWARE,
    PROCESSORS,
    TargetGpu,
    data_sheet_of,
    gpu_named,
    target_of,
)
from moebench.suites.prediction.machine import machine


def test_every_target_has_limits_a_data_sheet_and_a_processor() -> None:
    assert list(HARDWARE) == list(DATA_SHEETS) == list(PROCESSORS) == ["sm_80", "sm_90", "sm_100", "gfx942"]
    for target, hardware in HARDWARE.items():
        assert hardware.target == target
        assert hardware.shared_bytes <= PROCESSORS[target].shared_bytes


def test_every_target_of_the_table_has_a_gpu_that_stands_for_it() -> None:
    targets = {gpu.target for gpu in GPUS if not isinstance(gpu, TargetGpu)} - {None}
    assert targets <= HARDWARE.keys()


@pytest.mark.parametrize(
    ("name", "kib"),
    [
        ("NVIDIA_A100-SXM4-80GB", 163),
        ("NVIDIA_H100_NVL", 227),
        ("NVIDIA_H20-3e", 227),
        ("NVIDIA_GH200_480GB", 227),
        ("NVIDIA_B200", 227),
        ("NVIDIA_RTX_6000_Ada_Generation", 99),
        ("NVIDIA_GeForce_RTX_5090", 99),
        ("NVIDIA GeForce RTX 5090", 99),
        ("NVIDIA_RTX_PRO_6000_Blackwell_Server_Edition", 99),
        ("AMD_Instinct_MI300X", 64),
        ("AMD_Instinct_MI355X", 160),
        ("NVIDIA_L20X", None),
        ("NVIDIA_GeForce_RTX_2080_Ti", None),
        ("AMD_Radeon_Graphics", None),
    ],
)
def test_a_gpu_is_known_by_whole_words_of_its_name(name: str, kib: int | None) -> None:
    gpu = gpu_named(name)
    assert (gpu and gpu.shared_bytes >> 10) == kib


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("NVIDIA A100-SXM4-80GB", "sm_80"),
        ("NVIDIA A100 80GB PCIe", "sm_80"),
        ("NVIDIA H100 80GB HBM3", "sm_90"),
        ("NVIDIA H200", "sm_90"),
        ("NVIDIA H20", "sm_90"),
        ("NVIDIA GH200 480GB", "sm_90"),
        ("NVIDIA B200", "sm_100"),
        ("AMD Instinct MI300X", "gfx942"),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("AMD EPYC 9654", None),
    ],
)
def test_a_device_of_a_record_has_the_target_of_its_generation(name: str, target: str | None) -> None:
    assert target_of(name) == target


@pytest.mark.parametrize(("shipped", "target"), [("dgx-a100", "sm_80"), ("dgx-h100", "sm_90"), ("dgx-h200", "sm_90")])
def test_descriptions_of_machines_quote_the_same_rates(shipped: str, target: str) -> None:
    """A B200 and the GPU of a GB200 NVL72 have different data sheets, so that machine is left out."""
    described, sheet = machine(shipped), data_sheet_of(shipped.partition("-")[2].upper())
    assert sheet is not None
    assert target_of(sheet.name) == target
    for dtype, rates in described.products.items():
        assert rates.flops_per_s.value == pytest.approx(sheet.flops_per_s[dtype])
    assert described.memory.bytes_per_s.value == sheet.bytes_per_s
    assert described.memory.bytes.value == sheet.memory_bytes


@pytest.mark.parametrize(
    ("name", "sheet"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA A800-SXM4-80GB", "A100 SXM 80GB"),
        ("NVIDIA L40S", None),
        ("AMD EPYC 9654", None),
    ],
)
def test_a_gpu_has_its_own_data_sheet_or_that_of_its_target(name: str, sheet: str | None) -> None:
    found = data_sheet_of(name)
    assert (None if found is None else found.name) == sheet
