"""vLLM: its words for devices."""

from __future__ import annotations

from moebench.autotune.tables.engine import ENGINES


def test_it_has_one_word_for_every_h200() -> None:
    vllm, sglang = ENGINES.load("vllm"), ENGINES.load("sglang")
    assert vllm.device_word("NVIDIA H200 NVL") == "NVIDIA_H200"
    assert sglang.device_word("NVIDIA H200 NVL") == "NVIDIA_H200_NVL"
    assert vllm.device_word("NVIDIA H20") == "NVIDIA_H20"
