"""The model of a Triton layer's time: its launches are the layer's, its FLOPs the problem's, its order is plausible."""

from __future__ import annotations

import math

import pytest
import torch

from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.cost_model.gpu_launches import LayerLaunches
from moebench.kernels.cost_model.grid import Grid, MemoryStream
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import DATA_SHEETS, HARDWARE
from moebench.kernels.problem import Problem
from moebench.kernels.problem.models import model
from moebench.kernels.problem.routing import Routing
from moebench.kernels.steps import Rates, Step
from moebench.kernels.triton.tiles import Tile, Tiles

META = torch.device("meta")
TRITON = ("triton_scatter", "triton_padded", "triton_block_sparse")
LARGE = Tiles.same(Tile(128, 128, 64, 8, 3))
SMALL = Tiles.same(Tile(16, 128, 64, 4, 3))


def rates(target: str = "sm_90", dtype: str = "bfloat16") -> Rates:
    chip = DATA_SHEETS[target]
    return Rates(flops_per_s=chip.flops_per_s[dtype], bytes_per_s=chip.bytes_per_s, call_s=3e-6)


def routed(problem: Problem) -> Routing:
    """Route every token to the experts after those of the token before: as evenly as possible."""
    ids = torch.arange(problem.N).view(problem.T, problem.K) % problem.E
    return Routing(ids_TK=ids.int(), gates_TK=torch.ones(problem.T, problem.K), experts=problem.E)


def call_of(
    problem: Problem, tiles: Tiles, *, target: str = "sm_90", counts: tuple[int, ...] | None = None
) -> LayerLaunches:
    even = tuple(routed(problem).counts_E().tolist())
    return LayerLaunches(problem=problem, tiles=tiles, hardware=HARDWARE[target], counts=counts or even, gathered=True)


def seconds(problem: Problem, tiles: Tiles, *, target: str = "sm_90", counts: tuple[int, ...] | None = None) -> float:
    steps = call_of(problem, tiles, target=target, counts=counts).steps()
    return sum(step.seconds(rates(target, problem.dtype)) for step in steps)


def grids(steps: list[Step]) -> dict[str, Grid]:
    return {step.name: step for step in steps if isinstance(step, Grid)}


def layer(name: str, **fields: object) -> Problem:
    fields = {"T": 1024, "dtype": "bfloat16"} | fields
    problem = Problem(D=512, F=1024, E=8, K=2, **fields)  # type: ignore[arg-type]
    return problem.replace(capacity_factor=1.0) if name == "triton_padded" else problem


@pytest.mark.parametrize("name", TRITON)
@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("gated", [True, False])
def test_where_tiles_fit_exactly_the_flops_are_those_of_the_problem(name: str, mode: str, gated: bool) -> None:
    problem = layer(name, mode=mode, gated=gated)
    with assuming(HARDWARE["sm_90"]):
        steps = KERNELS.load(name).steps(problem, LARGE.config(), routed(problem), META)
    found = grids(list(steps)).values()
    assert sum(grid.flops for grid in found) == sum(grid.useful for grid in found) == problem.flops(problem.N)


LAUNCHED = {
    "dispatch": "copy_rows",
    "quantise tokens": "quantise_rows",
    "quantise hidden": "quantise_rows",
    "up": "up",
    "down": "down",
    "tokens": "down",
    "down_backward": "down_backward",
    "combine": "sum_rows",
    "down_bias": "bias_gradient",
    "up_bias": "bias_gradient",
}


@pytest.mark.parametrize("name", TRITON)
@pytest.mark.parametrize("fields", [{}, {"mode": "train", "bias": True}, {"dtype": "float8_e4m3fn"}], ids=str)
@pytest.mark.parametrize("tiles", [LARGE, SMALL], ids=["large", "small"])
def test_the_steps_are_the_launches_of_the_layer_with_as_many_programs(
    name: str, fields: dict[str, object], tiles: Tiles
) -> None:
    """Three small launches have no step: the routes' order, partial gate gradients and block-sparse indices."""
    pytest.importorskip("triton")
    from moebench.kernels.compiler.compile import Target, launches  # noqa: PLC0415  # imports Triton

    problem, kernel, target = layer(name, **fields), KERNELS.load(name), Target.named("sm_90")
    config: Config = {**tiles.config(), "gathered": name == "triton_scatter", "scatter": False}
    with assuming(target.hardware):
        if kernel.supports(problem, META):
            pytest.skip("the kernel takes no such problem")
        steps = kernel.steps(problem, config, routed(problem), META)
    transposed = "transposed_product" if name == "triton_block_sparse" else "weight_gradient"
    names = LAUNCHED | {"down_weights": transposed, "up_weights": transposed}
    written = [launch for launch in launches(kernel, problem, config, target) if launch.name != "connect"]
    named = [step for step in steps if step.name in names]
    assert [names[step.name] for step in named] == [launch.name for launch in written]
    for step, launch in zip(named, written, strict=True):
        if isinstance(step, Grid):
            assert step.tiles + step.idle == launch.programs, step.name


@pytest.mark.parametrize("target", HARDWARE)
@pytest.mark.parametrize("name", TRITON)
def test_every_configuration_has_a_time_and_a_reason(name: str, target: str) -> None:
    for dtype, mode in (("bfloat16", "train"), ("float32", "forward"), ("float8_e4m3fn", "forward")):
        problem = layer(name, dtype=dtype, mode=mode, T=100)
        kernel, routing = KERNELS.load(name), routed(problem)
        with assuming(HARDWARE[target]):
            if kernel.supports(problem, META):
                continue
            for config in kernel.space(problem, META)[::7]:
                for step in kernel.steps(problem, config, routing, META):
                    assert 0 < step.seconds(rates(target, dtype)) < math.inf
                    assert "\n" not in step.why(rates(target, dtype))


@pytest.mark.parametrize("tokens", [0, 1])
def test_experts_without_rows_cost_no_products(tokens: int) -> None:
    problem = Problem(T=tokens, D=512, F=1024, E=8, K=2, dtype="bfloat16", mode="train")
    counts = tuple(int(expert < problem.N) for expert in range(8))
    call = call_of(problem, SMALL, counts=counts)
    assert grids(call.steps())["up"].tiles == problem.N * 1024 // 64
    assert all(0 < step.seconds(rates()) < math.inf and step.why(rates()) for step in call.steps())


@pytest.mark.parametrize("tiles", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("target", HARDWARE)
def test_more_tokens_are_never_cheaper(tiles: Tiles, target: str) -> None:
    mixtral = model("Mixtral-8x7B")
    times = [seconds(mixtral.problem(T=4**power, dtype="bfloat16"), tiles, target=target) for power in range(1, 9)]
    assert times == sorted(times)


def test_rows_spread_so_that_tiles_are_padded_cost_more() -> None:
    problem = Problem(T=4096, D=4096, F=14336, E=8, K=2, dtype="bfloat16")
    exact, padded = (1024,) * 8, (1023, 1025) * 4
    assert sum(exact) == sum(padded)
    assert seconds(problem, LARGE, counts=padded) > seconds(problem, LARGE, counts=exact)


def test_a_weight_gradient_lasts_as_long_as_that_of_the_expert_with_most_rows() -> None:
    problem = Problem(T=65536, D=1024, F=512, E=64, K=1, dtype="bfloat16", mode="train")
    even = grids(call_of(problem, LARGE).steps())["down_weights"]
    hot = grids(call_of(problem, LARGE, counts=(65536 - 63, *(1,) * 63)).steps())["down_weights"]
    assert even.tiles == hot.tiles
    assert hot.seconds(rates()) > 2 * even.seconds(rates())
    assert hot.why(rates()).startswith("longest program:")


def test_few_rows_an_expert_want_low_tiles_and_many_want_high_ones() -> None:
    mixtral = model("Mixtral-8x7B")
    one_row = mixtral.problem(T=4, dtype="bfloat16")
    many_rows = mixtral.problem(T=16384, dtype="bfloat16")
    for target in HARDWARE:
        assert seconds(one_row, SMALL, target=target) < seconds(one_row, LARGE, target=target)
        assert seconds(many_rows, LARGE, target=target) < 0.7 * seconds(many_rows, SMALL, target=target)


def test_decoding_takes_about_as_long_as_its_weights_take_to_arrive() -> None:
    problem = model("Mixtral-8x7B").problem(T=64, dtype="bfloat16")
    tiles = Tiles.same(Tile(16, 128, 128, 4, 4))
    assert 1.0 <= seconds(problem, tiles) / (problem.weight_bytes / rates().bytes_per_s) < 1.5
    assert grids(call_of(problem, tiles).steps())["up"].why(rates()).startswith("memory:")


def test_a_last_wave_that_is_not_full_takes_as_long_as_one_that_is() -> None:
    """The programs wait for nothing but their products."""
    problem = Problem(T=128, D=8192, F=128 * 132, E=1, K=1, dtype="bfloat16", gated=False)
    assert grids(call_of(problem, LARGE).steps())["up"].slots == 2 * 132
    full = grids(call_of(problem.replace(T=256), LARGE).steps())["up"]
    more = grids(call_of(problem.replace(T=384), LARGE).steps())["up"]
    fast = Rates(flops_per_s=rates().flops_per_s / 8, bytes_per_s=1e15, call_s=0.0)
    assert more.seconds(fast) == pytest.approx(1.5 * full.seconds(fast), rel=0.05)
    # One tile more than a wave: half a wave, for its processor has no second program to share with.
    single = grids(call_of(problem.replace(F=128 * 133, T=256), LARGE).steps())["up"]
    assert single.seconds(fast) == pytest.approx(1.5 * full.seconds(fast), rel=0.05)


def test_sums_that_find_no_register_are_dear() -> None:
    problem = model("Mixtral-8x7B").problem(T=8192, dtype="bfloat16")
    spilling = Tiles.same(Tile(128, 256, 64, 4, 3))
    fitting = Tiles.same(Tile(128, 256, 64, 8, 3))
    assert "spilled" in grids(call_of(problem, spilling).steps())["down"].why(rates())
    assert "spilled" not in grids(call_of(problem, fitting).steps())["down"].why(rates())
    assert seconds(problem, spilling) > 1.05 * seconds(problem, fitting)


def test_too_few_buffers_leave_the_latency_of_loads_to_be_seen() -> None:
    """There is a single program on each processor."""
    problem = Problem(T=16, D=16384, F=2048, E=1, K=1, dtype="bfloat16")
    waiting, hiding = (Tiles.same(Tile(16, 64, 64, 4, stages)) for stages in (2, 4))
    assert seconds(problem, waiting) > 1.2 * seconds(problem, hiding)
    assert grids(call_of(problem, waiting).steps())["up"].why(rates()).startswith("program:")


def test_tensor_cores_make_float32_faster_in_three_products() -> None:
    problem = model("Mixtral-8x7B").problem(T=8192, dtype="float32")
    plain = Tiles.same(Tile(64, 128, 16, 8, 3), precision="ieee")
    parts = Tiles.same(Tile(64, 128, 16, 8, 3), precision="tf32x3")
    assert seconds(problem, parts) < seconds(problem, plain)


def test_parts_of_a_split_contraction_are_written_and_read_in_float32() -> None:
    problem = Problem(T=64, D=512, F=1024, E=8, K=2, dtype="bfloat16")

    def moved(splits: int) -> tuple[float, float]:
        tiles = Tiles.same(Tile(16, 64, 64, 4, 3), split_k=splits)
        steps = {step.name: step for step in call_of(problem, tiles).steps()}
        combine, down = steps["combine"], steps["down"]
        assert isinstance(combine, MemoryStream)
        assert isinstance(down, Grid)
        return down.memory_bytes, combine.moved_bytes

    (written, read), (written_4, read_4) = moved(1), moved(4)
    more = problem.N * problem.D * (4 * 4 - 2)
    assert written_4 - written == read_4 - read == more


def test_groups_of_row_tiles_spare_memory_where_weights_exceed_the_cache() -> None:
    problem = Problem(T=1 << 16, D=8192, F=32768, E=2, K=1, dtype="bfloat16")

    def moved(group: int) -> float:
        tiles = Tiles.same(Tile(128, 128, 64, 8, 3), group_m=group)
        return grids(call_of(problem, tiles).steps())["up"].memory_bytes

    assert moved(16) < 0.2 * moved(1)
