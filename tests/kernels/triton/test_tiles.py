"""Tiles of the products: their notation, the defaults for many and few rows, and the size of the search space."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.catalog import KERNELS
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.triton.tiles import PRODUCTS, SHAPES, Tile, Tiles, tilings

META = torch.device("meta")
HOPPER = HARDWARE["sm_90"]
PREFILL = model("Mixtral-8x7B").problem(T=8192, dtype="bfloat16")
TRAINING = PREFILL.replace(mode="train")
DECODE = model("Mixtral-8x7B").problem(T=16, dtype="bfloat16")
FINE = Problem(T=24576, D=1536, F=256, E=128, K=8, dtype="bfloat16")
PROBLEMS = (PREFILL, TRAINING, DECODE, FINE, FINE.replace(mode="train"))
sides = st.integers(1, 1024)


def default(problem: Problem, target: str = "sm_90") -> Tiles:
    return tilings(problem, HARDWARE[target], SHAPES[problem.dtype])[0]


@given(st.builds(Tile, sides, sides, sides, sides, sides))
def test_a_tile_is_its_word(tile: Tile) -> None:
    assert Tile.parse(str(tile)) == tile


@pytest.mark.parametrize("word", ["", "128x256x64", "128x256x64w8", "128x256x64w8s4x", "ax1x1w1s1", "-1x1x1w1s1"])
def test_any_other_word_is_refused_by_name(word: str) -> None:
    with pytest.raises(ValueError, match="such as 128x256x64w8s4"):
        Tile.parse(word)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.key)
def test_a_configuration_of_plain_values_holds_the_tiles(problem: Problem) -> None:
    for tiles in tilings(problem, HOPPER, SHAPES[problem.dtype]):
        assert Tiles.of({**tiles.config(), "scatter": True}) == tiles
        assert all(isinstance(value, (int, float, str, bool)) for value in tiles.config().values())


@pytest.mark.parametrize("target", HARDWARE)
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.key)
def test_the_default_can_be_built_for_every_gpu(problem: Problem, target: str) -> None:
    assert default(problem, target).fault(problem, HARDWARE[target]) is None


def test_many_rows_get_the_widest_tile_and_a_flattened_loop() -> None:
    tiles = default(PREFILL)
    assert (tiles.up.rows, tiles.up.columns, tiles.flattened) == (128, 256, True)


def test_gradients_get_tiles_that_hide_their_epilogues_or_read_least() -> None:
    """Two programs fit a processor for the gradient of hidden rows; that of the weights has tiles of 128 by 256."""
    tiles = default(TRAINING)
    assert (tiles.down_backward.warps, tiles.down_backward.beside(TRAINING, HOPPER)) == (4, 2)
    assert (tiles.weights.rows, tiles.weights.columns) == (128, 256)


def test_few_rows_get_low_tiles_and_several_programs_for_a_contraction() -> None:
    tiles = default(DECODE)
    assert tiles.up.rows == 16
    assert tiles.split_k > 1
    assert not tiles.persistent


def test_a_narrow_gradient_is_not_cut_wider_than_it_is() -> None:
    assert default(TRAINING.replace(F=128)).weights.columns == 128


@pytest.mark.parametrize(("T", "group"), [(256, 8), (8192, 16), (32768, 32)])
def test_row_tiles_of_one_expert_share_its_weights(T: int, group: int) -> None:
    assert default(model("Mixtral-8x7B").problem(T=T, dtype="bfloat16")).group_m == group


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.key)
def test_the_space_has_every_axis_and_a_bounded_size(problem: Problem) -> None:
    kernel = KERNELS.load("triton_scatter")
    with assuming(HOPPER):
        space = kernel.space(problem, META)
        valid = [config for config in space if kernel.valid(problem, config, META)]
    varied = {name for name in space[0] if len({config[name] for config in valid}) > 1}
    assert varied >= {"up", "down", "group_m", "descriptors", "persistent", "pdl", "gathered", "scatter"} - (
        set() if problem.N / problem.E > 32 else {"gathered"}
    )
    if problem.mode == "train":
        assert varied >= set(PRODUCTS)
    assert 100 < len(valid) < 2000
    assert len({tuple(config.items()) for config in space}) == len(space)


def test_tiles_lower_than_the_rows_are_in_the_space() -> None:
    """Tiles of 64 rows are tried where tiles of 128 would pad more than they save."""
    qwen = model("Qwen3-30B-A3B").problem(T=8192, dtype="bfloat16")
    heights = {tiles.heights(qwen) for tiles in tilings(qwen, HOPPER, SHAPES["bfloat16"])}
    assert heights >= {(64,), (128,), (64, 128)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"up": Tile(128, 256, 64, 8, 9)}, "bytes of shared memory of"),
        ({"descriptors": False, "specialise": True}, "specialised warps copy by tensor descriptor"),
        ({"down": Tile(128, 256, 64, 8, 3), "specialise": True}, "tiles of up to 8192 elements"),
    ],
    ids=str,
)
def test_what_cannot_be_built_says_why(change: dict[str, object], words: str) -> None:
    tiles = dataclasses.replace(default(PREFILL), **change)  # type: ignore[arg-type]  # one field each
    assert words in str(tiles.fault(PREFILL, HOPPER))


def test_a_device_without_dependent_launches_says_so() -> None:
    tiles = dataclasses.replace(default(PREFILL, "sm_80"), pdl=True)
    assert "programmatic dependent launch" in str(tiles.fault(PREFILL, HARDWARE["sm_80"]))
