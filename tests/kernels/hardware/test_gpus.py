"""The table of GPUs: names, and agreement with the other files that quote the same data sheets."""

from __future__ import annotations

import pytest

from moebench.kernels.hardware.gpus import DATA_SHEETS, GPUS, HARDWARE, PROCESSORS, TargetGpu, gpu_named, target_of
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
    described, sheet = machine(shipped), DATA_SHEETS[target]
    for dtype, rates in described.products.items():
        assert rates.flops_per_s.value == pytest.approx(sheet.flops_per_s[dtype])
    if shipped != "dgx-h200":  # its memory differs
        assert described.memory.bytes_per_s.value == sheet.bytes_per_s
