"""Engines: each file belongs to one of them, and a new engine is one new file."""

from __future__ import annotations

from pathlib import Path

import pytest

from moebench.autotune.tables.engine import ENGINES, engine_of
from moebench.autotune.tables.serving_file import ServingError
from moebench.common.names import UnknownName

PLAIN = "E=8,N=7168,device_name=NVIDIA_H200.json"


@pytest.mark.parametrize(
    ("path", "owner"),
    [(f"configs/triton_3_5_1/{PLAIN}", "sglang"), (PLAIN, "vllm"), (f"triton/{PLAIN}", "vllm")],
)
def test_a_file_belongs_to_one_engine(path: str, owner: str) -> None:
    assert engine_of(Path(path)).name == owner
    assert [name for name in ENGINES.names() if ENGINES.load(name).owns(Path(path))] == [owner]


def test_a_file_that_no_engine_looks_for_is_refused() -> None:
    with pytest.raises(ServingError, match=r"table\.json has no name of tuned tiles"):
        engine_of(Path("table.json"))


def test_tiles_of_lora_kernels_are_named_as_what_they_are() -> None:
    with pytest.raises(ServingError, match="holds tiles of vLLM's LoRA kernels: `moebench tables lint`"):
        engine_of(Path("NVIDIA_H200_SHRINK.json"))


def test_an_unknown_engine_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no engine is named 'vlm': did you mean vllm"):
        ENGINES.load("vlm")
