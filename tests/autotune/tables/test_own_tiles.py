"""Engines' own tiles, and files in which every batch finds what is meant for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.autotune.tables.engine import ENGINES
from moebench.autotune.tables.own_tiles import FAR, OwnTiles, pinned, shipped
from moebench.autotune.tables.serving_file import ServingFile, TileFileName, Tiles
from moebench.common.packages import is_installed
from moebench.kernels.triton.vllm_tiles import KNOBS

H100, MI300, L40S = "NVIDIA_H100_80GB_HBM3", "AMD_Instinct_MI300X", "NVIDIA_L40S"

# M, E, device, dtype and the tiles in the order of KNOBS: what the function named in the engine's `own_tiles` returned
# for them, without SPLIT_K. Compared for 202,608 combinations of M, E, device and dtype when the rules were written.
VLLM = [
    (1, 8, H100, None, (16, 64, 128, 1, 4, 4)),
    (32, 8, H100, None, (16, 64, 128, 1, 4, 4)),
    (33, 8, H100, None, (32, 64, 128, 1, 4, 3)),
    (96, 8, H100, None, (32, 128, 64, 1, 4, 3)),
    (97, 8, H100, None, (64, 128, 64, 1, 4, 3)),
    (129, 8, H100, "fp8_w8a8", (64, 128, 128, 1, 8, 3)),
    (513, 8, H100, None, (128, 128, 64, 1, 8, 3)),
    (1031, 8, H100, None, (128, 128, 64, 1, 8, 3)),
    (1032, 8, H100, None, (128, 128, 64, 16, 8, 3)),
    (16, 64, MI300, "float32", (16, 64, 128, 1, 4, 2)),
]
SGLANG = [
    (8, 8, H100, None, (16, 32, 64, 1)),
    (9, 8, H100, None, (64, 64, 32, 8)),
    (8, 8, H100, "fp8_w8a8", (64, 128, 128, 1, 4, 4)),
    (9, 8, H100, "fp8_w8a8", (128, 256, 128, 32, 8, 4)),
    (9, 8, MI300, "fp8_w8a8", (128, 256, 128, 32, 8, 2)),
    (8, 8, L40S, "fp8_w8a8", (32, 64, 256, 1, 4, 4)),
    (9, 8, L40S, "fp8_w8a8", (64, 128, 256, 64, 4, 2)),
]


@pytest.mark.parametrize(("engine", "cases"), [("vllm", VLLM), ("sglang", SGLANG)])
def test_an_engine_takes_the_tiles_that_its_source_gives(engine: str, cases: list[tuple[Any, ...]]) -> None:
    for M, E, device, dtype, knobs in cases:
        own = ENGINES.load(engine).own_tiles(TileFileName(E=E, N=768, device=device, dtype=dtype))
        assert own is not None
        found = {word: number for word, number in own.tiles(M).items() if word != "SPLIT_K"}
        assert found == dict(zip(KNOBS, knobs, strict=False)), (M, E, device, dtype)


@given(
    engine=st.sampled_from(["vllm", "sglang"]),
    E=st.integers(1, 512),
    device=st.sampled_from([H100, MI300, L40S]),
    dtype=st.sampled_from([None, "float32", "fp8_w8a8"]),
    M=st.integers(1, 100_000),
)
def test_between_two_turns_the_tiles_stay(engine: str, E: int, device: str, dtype: str | None, M: int) -> None:
    own = ENGINES.load(engine).own_tiles(TileFileName(E=E, N=768, device=device, dtype=dtype))
    assert own is not None
    assert own.tiles(M) == own.tiles(M + 1) or M + 1 in own.turns


@pytest.mark.skipif(not is_installed("vllm"), reason="needs vLLM")
def test_the_installed_vllm_takes_the_same() -> None:
    theirs = importlib.import_module("vllm.model_executor.layers.fused_moe.fused_moe").get_default_config
    for M, E, device, dtype, _ in VLLM:
        if device == H100:
            own = ENGINES.load("vllm").own_tiles(TileFileName(E=E, N=768, device=device, dtype=dtype))
            assert own is not None
            assert own.tiles(M) == theirs(M, E, 768, 2048, 2, dtype), "read get_default_config anew"


def test_sglang_is_not_guessed_at_on_an_unknown_device() -> None:
    name = TileFileName(E=8, N=768, device="NVIDIA_X1", dtype="fp8_w8a8")
    assert ENGINES.load("sglang").own_tiles(name) is None


sizes = st.integers(1, 300)


@given(st.dictionaries(sizes, st.booleans(), min_size=1, max_size=5), st.lists(sizes, max_size=4))
def test_every_batch_finds_what_is_meant_for_it(measured: Mapping[int, bool], turns: list[int]) -> None:
    """The look-up by the nearest key agrees with the rule, which is written down again here, for every batch."""

    def own_number(M: int) -> Tiles:
        return {"own": sum(turn <= M for turn in turns)}

    kept = {M for M, by_itself in measured.items() if by_itself}
    chosen: dict[int, Tiles] = {M: {"tuned": M} for M in measured if M not in kept}
    own = OwnTiles("", own_number, tuple(sorted(set(turns))))
    name = TileFileName(E=1, N=1, device="x")
    file = ServingFile(name=name, configs=pinned(chosen, kept, own))
    for M in range(1, 2 * max(measured) + 310):
        distance = min(abs(M - T) for T in measured)
        nearest = min(T for T in measured if abs(M - T) == distance)
        far = min(measured) / FAR > M or FAR * max(measured) < M
        expected = own_number(M) if far or nearest in kept else {"tuned": nearest}
        assert file.configs[file.nearest(M)] == expected, M


def test_a_file_has_few_keys_beside_the_tuned_ones() -> None:
    own = ENGINES.load("vllm").own_tiles(TileFileName(E=64, N=768, device=H100))
    assert own is not None
    tuned = {M: dict(zip(KNOBS, (16, 64, 128, 1, 4, 3), strict=True)) for M in (96, 256)}
    assert list(pinned(tuned, {16}, own)) == [1, 16, 32, 33, 56, 57, 96, 256, 512, 513, 8255, 8256]


@given(st.dictionaries(sizes, st.integers(0, 3), min_size=1, max_size=5))
def test_a_shipped_file_is_the_engines_own_choice(numbers: Mapping[int, int]) -> None:
    file = ServingFile(
        name=TileFileName(E=1, N=1, device="x"), configs={M: {"tile": number} for M, number in numbers.items()}
    )
    own = shipped(file, "here")
    changes = [M for M in range(2, 400) if own.tiles(M) != own.tiles(M - 1)]
    assert set(changes) <= set(own.turns)
    assert all(own.tiles(M) == {"tile": numbers[M]} for M in numbers)
