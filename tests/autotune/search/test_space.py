"""Spaces: what can be built, why the rest cannot, and the places of configurations on axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.autotune.search.space import Axis, NoConfiguration, Space
from moebench.kernels.catalog import KERNELS
from moebench.kernels.config import Config
from moebench.kernels.hardware.device_limits import assuming
from moebench.kernels.hardware.gpus import HARDWARE
from moebench.kernels.kernel import Cost, Kernel, Layer
from moebench.kernels.problem import Problem
from moebench.kernels.problem.routing import Routing

CPU = torch.device("cpu")
PROBLEM = Problem(T=1024, D=256, F=512, E=8, K=2)


@dataclass
class Declared(Kernel):
    """A kernel of a given space, with a fault wherever a block is larger than ``limit``."""

    configs: Sequence[Config]
    limit: float = 100
    family = "declared"

    def space(self, problem: Problem, device: torch.device) -> list[Config]:
        return list(self.configs)

    def fault(self, problem: Problem, config: Config, device: torch.device) -> str | None:
        block = config["block"]
        return f"{block} is more than {self.limit:g} of the sm_90" if float(block) > self.limit else None

    def unproven(self, config: Config) -> bool:
        return bool(config.get("risky"))

    def build(self, problem: Problem, config: Config, device: torch.device) -> Layer:
        raise AssertionError("a space is read without building anything")

    def cost(self, problem: Problem, config: Config, routing: Routing) -> Cost:
        raise AssertionError("a space is read without computing any cost")


BLOCKS = [{"block": block} for block in (64, 16, 128, 32, 256, 64)]

SCALARS = st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.booleans(), st.sampled_from([0.5, 2.0, 8.0]))
SPACES = st.lists(SCALARS, min_size=1, max_size=40, unique=True).map(
    lambda rows: Space.among("any", [dict(zip(("number", "word", "truth", "real"), row, strict=True)) for row in rows])
)


def test_a_space_holds_what_can_be_built_once_each_with_the_default_first() -> None:
    space = Space.of(Declared(BLOCKS), PROBLEM, CPU)
    assert [config["block"] for config in space.configs] == [64, 16, 32]
    assert space.default == {"block": 64}
    assert (len(space), space.declared) == (3, 5)


def test_what_is_unproven_is_known_whatever_is_left_out() -> None:
    configs = [{"block": block, "risky": block in (128, 32, 64)} for block in (128, 16, 32, 48, 64)]
    space = Space.of(Declared(configs), PROBLEM, CPU)
    assert [space.configs[place]["block"] for place in sorted(space.unproven)] == [32, 64]
    less = space.without({1: "it spills"})
    assert [less.configs[place]["block"] for place in sorted(less.unproven)] == [64]


def test_specialised_warps_and_dependent_launches_are_unproven() -> None:
    with assuming(HARDWARE["sm_90"]):
        space = Space.of(KERNELS.load("triton_scatter"), PROBLEM.replace(dtype="bfloat16"), torch.device("meta"))
    assert 0 < len(space.unproven) < len(space)
    relying = {place for place, config in enumerate(space.configs) if config["specialise"] or config["pdl"]}
    assert space.unproven == relying


def test_faults_that_differ_in_numbers_are_counted_together_with_an_example() -> None:
    space = Space.of(Declared(BLOCKS), PROBLEM, CPU)
    assert space.faults == {"… is more than … of the sm_90": 2}
    assert space.examples == {"… is more than … of the sm_90": "128 is more than 100 of the sm_90"}


def test_a_default_that_cannot_be_built_gives_its_place_to_the_first_that_can() -> None:
    assert Space.of(Declared(BLOCKS, limit=40), PROBLEM, CPU).default == {"block": 16}


def test_no_configuration_names_the_constraints_and_how_often_each_excludes() -> None:
    with pytest.raises(NoConfiguration, match=r"… is more than … of the sm_90 \(5 of them\); give another shape"):
        Space.of(Declared(BLOCKS, limit=1), PROBLEM, CPU)
    with pytest.raises(NoConfiguration, match="it declares none"):
        Space.of(Declared([]), PROBLEM, CPU)


def test_configurations_with_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\{'tile': 1\} has other names in it than the default \{'block': 1\}"):
        Space.among("mixed", [{"block": 1}, {"tile": 1}])


def test_axes_hold_numbers_ascending_and_words_and_truths_as_they_appear() -> None:
    space = Space.among(
        "any",
        [
            {"block": 64, "order": "row", "fused": True, "fixed": 3},
            {"block": 16, "order": "column", "fused": False, "fixed": 3},
        ],
    )
    assert space.axes == (
        Axis("block", (16, 64), ordered=True),
        Axis("order", ("row", "column"), ordered=False),
        Axis("fused", (True, False), ordered=False),
    )
    assert space.fixed == {"fixed": 3}
    assert space.features().tolist() == [[1, 0, 0], [0, 1, 1]]


def test_the_index_of_a_configuration_is_found_in_any_order_of_its_names() -> None:
    space = Space.among("any", [{"a": 1, "b": 2}, {"a": 2, "b": 2}])
    assert space.index({"b": 2, "a": 2}) == 1
    for foreign in ({"a": 3, "b": 2}, {"a": 1}, {"a": [1], "b": 2}):
        with pytest.raises(ValueError, match="is none of the 2 configurations of any: give one of its space"):
            space.index(foreign)


@given(space=SPACES)
def test_places_are_distinct_and_within_their_axes(space: Space) -> None:
    assert len({tuple(place) for place in space.features().tolist()}) == len(space)
    assert space.features().shape == (len(space), len(space.axes))
    assert ((space.features() >= 0) & (space.features() <= 1)).all()
    assert all(space.index(config) == index for index, config in enumerate(space.configs))


@pytest.mark.parametrize(("target", "dtype"), [("sm_90", "bfloat16"), ("gfx942", "float32")])
@pytest.mark.parametrize("name", KERNELS.names())
def test_every_declared_configuration_is_in_the_space_or_excluded(name: str, target: str, dtype: str) -> None:
    kernel = KERNELS.load(name)
    with assuming(HARDWARE[target]):
        space = Space.of(kernel, PROBLEM.replace(dtype=dtype), CPU)
        assert space.declared == len(kernel.space(PROBLEM.replace(dtype=dtype), CPU))
