"""Names of files of tuned tiles are written as each engine writes them, and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moebench.autotune.tables.engine import ENGINES
from moebench.autotune.tables.serving_file import ServingError, TileFileName

VLLM, SGLANG = ENGINES.load("vllm"), ENGINES.load("sglang")
names = st.builds(
    TileFileName,
    E=st.integers(1, 4096),
    N=st.integers(1, 65536),
    device=st.sampled_from(
        ["NVIDIA_H200", "NVIDIA_A100-SXM4-80GB", "Orin_(nvgpu)", "Intel(R)_Arc(TM)_Pro_B60_Graphics", "NVIDIA_H20-3e"]
    ),
    dtype=st.sampled_from([None, "fp8_w8a8", "int4_w4a16", "int8_w8a16"]),
    block_shape=st.one_of(st.none(), st.tuples(st.integers(1, 512), st.integers(1, 512))),
    per_channel=st.booleans(),
    down=st.booleans(),
)


@given(names)
def test_names_for_sglang_are_read_back(name: TileFileName) -> None:
    assert TileFileName.parse(SGLANG.file_name(name)) == name


@given(names)
def test_names_for_vllm_are_read_back_and_have_no_spaces(name: TileFileName) -> None:
    if name.down or name.per_channel:
        with pytest.raises(ServingError, match="write them for SGLang"):
            VLLM.file_name(name)
        return
    file = VLLM.file_name(name)
    assert " " not in file
    assert TileFileName.parse(file) == name


def test_names_are_spelled_as_each_engine_spells_them() -> None:
    name = TileFileName(E=256, N=256, device="NVIDIA_H20-3e", dtype="fp8_w8a8", block_shape=(128, 128))
    stem = "E=256,N=256,device_name=NVIDIA_H20-3e,dtype=fp8_w8a8"
    assert VLLM.file_name(name) == f"{stem},block_shape=[128,128].json"
    assert SGLANG.file_name(name) == f"{stem},block_shape=[128, 128].json"
    assert TileFileName.parse(f"{stem},per_channel_quant=True_down.json") == TileFileName(
        E=256, N=256, device="NVIDIA_H20-3e", dtype="fp8_w8a8", per_channel=True, down=True
    )


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "E=8,N=7168.json",
        "E=-8,N=1,device_name=X.json",
        "E=8,N=7,device_name=../../x.json",
        "E=８,N=1,device_name=X.json",
    ],
)
def test_other_names_are_refused(file: str) -> None:
    with pytest.raises(ServingError, match="is no name of tuned tiles"):
        TileFileName.parse(file)


@pytest.mark.parametrize("device", ["", "../x", "a/b", "NVIDIA H200", "x\n"])
def test_a_device_that_no_file_name_can_hold_is_refused(device: str) -> None:
    with pytest.raises(ServingError, match="letters, digits"):
        TileFileName(E=1, N=1, device=device)
