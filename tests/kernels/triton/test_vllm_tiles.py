"""Tiles of vLLM's kernel: their number, and the least shared memory that they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moebench.kernels.triton.vllm_tiles import KNOBS, OWN_CHOICE, shared_bytes, tilings

COMPILING = """
import json, sys
from moebench.kernels.catalog import KERNELS
from moebench.kernels.compiler.compile import Target, compile_launch, launches
from moebench.kernels.triton.tiles import Tile, Tiles
from moebench.kernels.problem import Problem

target, problem = Target.named(sys.argv[1]), Problem(T=512, D=1024, F=1024, E=8, K=2, dtype="bfloat16")
taken = []
for m, n, k, warps, stages in json.loads(sys.argv[2]):
    tiles = Tiles.same(Tile(rows=m, columns=n, step=k, warps=warps, stages=stages))
    config = {**tiles.config(), "gathered": True, "scatter": True}
    written = launches(KERNELS.load("triton_scatter"), problem, config, target)
    product = next(launch for launch in written if launch.name.partition(" ")[0] == "up")
    taken.append(compile_launch(product, target).shared_bytes)
print(json.dumps(taken))
"""
SHAPES = [(16, 64, 128, 4), (128, 128, 64, 8)]


def test_a_tiling_has_every_knob_and_none_is_there_twice() -> None:
    for maker, most in (("nvidia", 1440), ("amd", 5 * 5 * 4 * 3 * 4)):
        found = list(tilings(maker))
        assert len(found) == most
        assert len({tuple(tiles.items()) for tiles in found}) == most
        assert {tuple(tiles) for tiles in found} == {KNOBS}
        assert OWN_CHOICE not in found


def test_a_single_stage_keeps_nothing_in_flight() -> None:
    tiles = dict(zip(KNOBS, (64, 128, 32, 1, 4, 1), strict=True))
    assert shared_bytes(tiles, row_bytes=2, weight_bytes=2) == 0
    assert shared_bytes(tiles | {"num_stages": 4}, row_bytes=2, weight_bytes=1) == 3 * (64 * 2 + 128) * 32


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_shared_memory_is_never_less_than_said(target: str, tmp_path: Path) -> None:
    """A Triton product of this package that gathers rows without descriptors stores its operands as vLLM's does."""
    pytest.importorskip("triton")
    cases = [(*shape, stages) for shape in SHAPES for stages in (2, 4)]
    run = subprocess.run(
        [sys.executable, "-c", COMPILING, target, json.dumps(cases)],
        env={name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for (m, n, k, warps, stages), taken in zip(cases, json.loads(run.stdout), strict=True):
        said = shared_bytes(dict(zip(KNOBS, (m, n, k, 1, warps, stages), strict=True)), row_bytes=2, weight_bytes=2)
        assert said <= taken <= said + (m + n) * k * 2 + (9 << 10), (m, n, k, warps, stages)
