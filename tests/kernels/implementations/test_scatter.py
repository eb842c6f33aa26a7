"""The whole space of `scatter`: results are right and repeatable, memory is as predicted, threads are restored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cache
from typing import cast

import pytest
import torch
from covering_configs import covering

from moebench.execution.trial.checks.accuracy import BOUNDS, errors, verdict
from moebench.execution.trial.reference_check import call
from moebench.kernels.config import Config
from moebench.kernels.cost_model.cpu import Operations
from moebench.kernels.implementations import scatter
from moebench.kernels.oracle import oracle, reference
from moebench.kernels.problem import Problem
from moebench.kernels.problem.draw_routes import draw_routes
from moebench.kernels.problem.routing import NO_ROUTE, Groups, Routing, group_by_expert
from moebench.kernels.problem.tensors import Inputs, draw_inputs, draw_weights
from moebench.kernels.steps import Rates, Step
from moebench.kernels.torch_ops.scatter_tiles import threads
from moebench.results.timing.memory import peak

CPU = torch.device("cpu")
KERNEL = scatter.kernel
SMALL = Problem(T=150, D=16, F=8, E=5, K=2, load="hot", mode="train")  # up to 150 rows on an expert, tiles of 64
RATES = Rates(flops_per_s=950e9, bytes_per_s=95e9, call_s=4e-6)
WIDE = Problem(T=512, D=512, F=512, E=8, K=2, dtype="bfloat16")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Let torch use two threads, so that the space has a choice of threads on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def draw(problem: Problem) -> Inputs:
    """Draw inputs with some tokens without routes, some with one expert twice, and one expert without rows."""
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU)
    ids_TK = inputs.routing.ids_TK.clone()
    ids_TK[ids_TK == problem.E - 1] = 0
    ids_TK[::7] = NO_ROUTE
    ids_TK[1::5, 1] = ids_TK[1::5, 0]
    return dataclasses.replace(inputs, routing=dataclasses.replace(inputs.routing, ids_TK=ids_TK)).requires_grad_()


def space(problem: Problem) -> list[Config]:
    return KERNEL.space(problem, CPU)


def assert_right_twice(problem: Problem, configs: list[Config]) -> None:
    """Check results and gradients against the oracle within its bounds, and that a second call has the same bits."""
    inputs = draw(problem)
    expected = oracle(problem, inputs)
    for config in configs:
        layer = KERNEL.build(problem, config, CPU)
        one, other = call(problem, layer, inputs), call(problem, layer, inputs)
        assert verdict(errors(one, expected), problem.dtype) is None, config
        assert torch.equal(one.y_TD, other.y_TD), config
        for name, gradient in one.gradients.items():
            assert torch.equal(gradient, other.gradients[name]), (name, config)


def test_every_configuration_is_right_and_gives_the_same_bits_twice() -> None:
    """Run on one thread, as tensors this small take long on more; the next test has both."""
    problem = SMALL.replace(dtype="bfloat16")
    assert_right_twice(problem, [config for config in space(problem) if config["threads"] == 1])


@pytest.mark.parametrize("T", [0, SMALL.T])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_two_values_are_right_and_give_the_same_bits_twice(dtype: str, bias: bool, T: int) -> None:
    problem = SMALL.replace(dtype=dtype, bias=bias, T=T)
    assert_right_twice(problem, covering(space(problem)))


@pytest.mark.parametrize("compute", ["native", "float32"])
def test_many_small_tiles_of_one_expert_do_not_wear_out_its_gradients(compute: str) -> None:
    """A sum of 125 tiles in bfloat16 would be off by 1.5 times the bound."""
    problem = SMALL.replace(T=8000, D=64, F=64, E=1, K=1, load="uniform", dtype="bfloat16")
    inputs = draw_inputs(problem, draw_weights(problem, seed=0, device=CPU), seed=1, device=CPU).requires_grad_()
    layer = KERNEL.build(problem, {**space(problem)[0], "tile": 64, "compute": compute}, CPU)
    found = errors(call(problem, layer, inputs), reference(problem, inputs))
    assert max(found["dw_up"].norm, found["dw_down"].norm) < BOUNDS["bfloat16"] / 2


def test_the_default_comes_first_and_uses_the_threads_there_are() -> None:
    assert space(SMALL)[0] == {
        "tile": 512,
        "order": "expert",
        "threads": 2,
        "compute": "native",
        "gather": "tile",
        "combine": "add",
    }


@pytest.mark.parametrize(("dtype", "configs"), [("float32", 96), ("bfloat16", 192), ("float16", 192)])
def test_the_space_on_two_cores(dtype: str, configs: int) -> None:
    """All configurations are distinct; float32 has no other dtype to multiply in."""
    found = space(SMALL.replace(dtype=dtype))
    assert len({tuple(config.items()) for config in found}) == len(found) == configs
    assert {config["threads"] for config in found} == {1, 2}


@pytest.mark.parametrize(("present", "counts"), [(1, [1]), (2, [2, 1]), (6, [6, 1, 2, 4]), (8, [8, 1, 2, 4])])
def test_threads_are_the_present_number_and_the_powers_of_two_below(present: int, counts: list[int]) -> None:
    torch.set_num_threads(present)
    assert list(dict.fromkeys(config["threads"] for config in space(SMALL))) == counts


def test_a_gpu_has_no_choice_of_threads() -> None:
    assert not any("threads" in config for config in KERNEL.space(SMALL, torch.device("cuda")))


@pytest.mark.parametrize("mode", ["forward", "train"])
def test_a_call_runs_on_its_threads_and_gives_them_back(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call gives its threads back also when it fails in the middle."""
    problem = SMALL.replace(mode=mode)
    seen = []

    def fail(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise MemoryError

    monkeypatch.setattr(scatter, "tiles", fail)
    layer = KERNEL.build(problem, {**space(problem)[0], "threads": 1}, CPU)
    with pytest.raises(MemoryError):
        call(problem, layer, draw(problem))
    assert seen == [1]
    assert torch.get_num_threads() == 2


def test_a_backward_runs_on_its_threads_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = draw(SMALL)
    layer = KERNEL.build(SMALL, {**space(SMALL)[0], "threads": 1}, CPU)
    y_TD = layer(inputs.x_TD, inputs.routing, inputs.weights)
    seen = []

    def fail(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise MemoryError

    monkeypatch.setattr(scatter, "tiles", fail)
    with pytest.raises(MemoryError):
        y_TD.sum().backward()
    assert (seen, torch.get_num_threads()) == ([1], 2)


@pytest.mark.parametrize(("built", "later"), [(2, 1), (1, 2)])
def test_the_default_follows_the_threads_that_its_user_sets_later(
    built: int, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer is built once, for every module of a process: the count of that moment is not the user's wish."""
    torch.set_num_threads(built)
    layer = KERNEL.build(SMALL, space(SMALL)[0], CPU)
    torch.set_num_threads(later)
    seen: list[int] = []

    def watched(routing: Routing) -> Groups:
        seen.append(torch.get_num_threads())
        return group_by_expert(routing)

    monkeypatch.setattr(scatter, "group_by_expert", watched)
    call(SMALL, layer, draw(SMALL))
    assert (seen, torch.get_num_threads()) == ([later], later)


def test_a_configuration_takes_no_more_threads_than_its_user_lets_it() -> None:
    torch.set_num_threads(1)
    with threads(2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 1


def test_no_count_of_threads_changes_nothing() -> None:
    with threads(None):
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("load", ["uniform", "hot"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_predicted_workspace_is_near_the_measured_peak(dtype: str, load: str, mode: str) -> None:
    """The prediction is at least half and at most four times what a call allocates beyond its result."""
    problem = SMALL.replace(T=512, D=128, F=256, dtype=dtype, load=load, mode=mode)
    inputs = draw(problem)
    for config in covering(space(problem)):
        layer = KERNEL.build(problem, config, CPU)
        _, measured = peak(lambda layer=layer: call(problem, layer, inputs), CPU)  # type: ignore[misc]
        workspace = measured - problem.output_bytes
        predicted = KERNEL.cost(problem, config, inputs.routing).workspace_bytes
        assert 0.5 * workspace <= predicted <= 4 * workspace, config


def predicted(problem: Problem, **choices: int | str) -> float:
    """Return the predicted seconds of the default configuration with some choices changed."""
    config = {**space(problem)[0], **choices}
    return sum(step.seconds(RATES) for step in steps(problem, config))


def steps(problem: Problem, config: Config) -> Sequence[Step]:
    return KERNEL.steps(problem, config, routing(problem), CPU)


@cache
def routing(problem: Problem) -> Routing:
    return draw_routes(problem, seed=1, device=CPU)


@pytest.mark.parametrize("changes", [{}, {"gated": False}, {"load": "hot"}, {"load": "empty:0.5"}, {"T": 0}])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_do_the_useful_flops_and_no_others(dtype: str, changes: dict[str, object]) -> None:
    problem = WIDE.replace(dtype=dtype, **changes)
    for config in space(problem):
        found = cast(Sequence[Operations], steps(problem, config))
        assert sum(step.flops for step in found) == problem.flops(problem.N)
        assert min(min(step.calls, step.bytes, step.fresh, step.gated) for step in found) >= 0
        assert all(step.seconds(RATES) >= 0 and step.why(RATES) for step in found)


def test_steps_know_what_costs_on_a_cpu() -> None:
    """Slower are one thread of two, weights packed for every small tile, and bfloat16 that is converted first."""
    default = predicted(WIDE)
    assert predicted(WIDE, threads=1) > 1.5 * default
    assert predicted(WIDE, tile=64) > 1.05 * default
    assert predicted(WIDE, compute="float32") > 2 * default
    assert predicted(WIDE.replace(dtype="float16"), compute="float32") < predicted(WIDE.replace(dtype="float16"))


def test_steps_see_the_rows_of_each_expert() -> None:
    """Tiles higher than every expert's rows are all the same; under a hot load they are not."""
    assert predicted(WIDE, tile=1024) == predicted(WIDE, tile=2048)
    assert predicted(WIDE.replace(load="hot"), tile=256) > predicted(WIDE.replace(load="hot"), tile=2048)


def test_many_experts_like_few_operations() -> None:
    """A bag sums all rows in as few calls as adding takes for one or two tiles."""
    many = WIDE.replace(F=128, E=128, K=8)
    assert predicted(many, combine="bag", gather="all") < 0.9 * predicted(many)


def test_a_gpu_has_no_steps() -> None:
    config = space(WIDE)[0]
    assert KERNEL.steps(WIDE, config, routing(WIDE), torch.device("cuda")) == ()
