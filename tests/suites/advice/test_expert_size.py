"""Size of a model's experts: parameters by published counts, memory by formats, and the largest of a family."""

from __future__ import annotations

import pytest
from advised import PROBLEM

from moebench.kernels.problem.models import MODELS, Model, model
from moebench.suites.advice.expert_size import FORMATS, expert_bytes, expert_size, family_of


def test_parameters_are_those_of_all_experts_and_of_those_that_a_token_activates() -> None:
    """Qwen3-30B-A3B: 48 layers of 128 experts of three matrices of 2048 by 768, of which 8 are activated."""
    preset = model("Qwen3-30B-A3B")
    size = expert_size(preset.problem(T=1), preset, None)
    assert size.layers == 48
    assert size.total_parameters == 48 * 128 * 3 * 2048 * 768 == preset.expert_parameters
    assert size.activated_parameters == 48 * 8 * 3 * 2048 * 768
    assert size.flops_per_token == 2 * size.activated_parameters
    assert size.flops_per_token == 48 * preset.problem(T=1).flops(8)


@pytest.mark.parametrize("preset", MODELS, ids=lambda one: one.name)
def test_memory_falls_with_the_bits_and_holds_every_weight(preset: Model) -> None:
    size = expert_size(preset.problem(T=1, dtype="float8_e4m3fn"), preset, 80 * 10**9)
    assert [one.bits for one in size.memory] == [16, 8, 4]
    for one in size.memory:
        assert one.expert_bytes * 8 >= one.bits * size.total_parameters
        assert one.expert_bytes * 8 < 1.15 * one.bits * size.total_parameters
        assert one.activated_bytes == pytest.approx(one.expert_bytes * preset.K / preset.E)
        assert one.fits is (one.expert_bytes <= 80 * 10**9)
        if one.fits:
            assert one.largest is not None
            assert (one.largest_bytes or 0) >= one.expert_bytes


def test_mxfp4_has_a_scale_of_eight_bits_for_each_block_of_32() -> None:
    preset = model("gpt-oss-20b")
    weights = preset.E * preset.D * preset.F * 3
    biases = preset.E * (2 * preset.F + preset.D) * 2
    assert expert_bytes(preset, FORMATS[-1]) == 24 * (weights * 17 // 32 + biases)


def test_the_largest_of_the_family_grows_with_the_memory_and_fits_it() -> None:
    preset = model("Qwen3-30B-A3B")
    at_80, at_640, at_8 = (expert_size(preset.problem(T=1), preset, gb * 10**9).memory for gb in (80, 640, 8))
    assert [one.largest for one in at_80] == ["Qwen3-30B-A3B", "Qwen3-Next-80B-A3B", "Qwen3-Next-80B-A3B"]
    assert [one.largest for one in at_640] == ["Qwen3-235B-A22B", "Qwen3-Coder-480B", "Qwen3-Coder-480B"]
    assert [one.largest for one in at_8] == [None, None, None]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("Qwen3-30B-A3B", "Qwen3"),
        ("qwen3_moe", "Qwen3"),
        ("DeepSeek-V3", "DeepSeek"),
        ("deepseek_v3", "DeepSeek"),
        ("Mixtral-8x7B", "Mixtral"),
        ("gpt_oss", "gpt"),
        ("Qwen3.5-35B-A3B", "Qwen3.5"),
        ("something_new", "something"),
    ],
)
def test_a_family_is_the_first_word_of_a_name(name: str, family: str) -> None:
    assert family_of(name) == family


def test_without_a_model_one_layer_is_counted_and_there_is_no_family() -> None:
    size = expert_size(PROBLEM, None, 2**30)
    assert (size.layers, size.family) == (None, "")
    assert size.total_parameters == 4 * 3 * 32 * 64
    assert [one.largest for one in size.memory] == [None] * 3
    assert [one.fits for one in size.memory] == [True] * 3
    assert [one.fits for one in expert_size(PROBLEM, None, None).memory] == [None] * 3
