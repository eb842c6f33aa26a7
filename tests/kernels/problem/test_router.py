"""A router's text: what it may be, its canonical form, and messages that name what is wrong with it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moebench.kernels.problem import InvalidProblem, Problem
from moebench.kernels.problem.router import ROUTERS, Router, RouterInputs
from moebench.kernels.problem.routers.sigmoid_topk import SigmoidTopk

LAYER = Problem(T=16, D=1, F=1, E=64, K=1)


def test_the_routers_are_the_files_of_the_folder() -> None:
    assert {"sigmoid_topk", "softmax_topk", "softmax_topk_renorm", "switch"} <= set(ROUTERS.names())
    for name in ROUTERS.names():
        assert ROUTERS.load(name).name() == name
        assert ROUTERS.summary(name).endswith(").")


@given(
    groups=st.sampled_from([(1, 1), (8, 4), (16, 1)]),
    bias=st.floats(0, 100),
    renormalise=st.booleans(),
    scale=st.floats(1e-3, 1e3),
)
def test_a_text_reads_back_as_the_router_that_wrote_it(
    groups: tuple[int, int], bias: float, renormalise: bool, scale: float
) -> None:
    router = SigmoidTopk(groups=groups[0], top_groups=groups[1], bias=bias, renormalise=renormalise, scale=scale)
    assert Router.parse(router.spec) == router
    assert Router.parse(router.spec).spec == router.spec


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("softmax_topk", "softmax_topk"),
        ("softmax_topk:", "softmax_topk"),
        ("sigmoid_topk", "sigmoid_topk"),
        ("sigmoid_topk:scale=1.0,renormalise=true,bias=0,groups=1", "sigmoid_topk"),
        ("sigmoid_topk:scale=2.50,top_groups=4,groups=08", "sigmoid_topk:groups=8,top_groups=4,scale=2.5"),
        ("sigmoid_topk:scale=2", "sigmoid_topk:scale=2"),
        ("sigmoid_topk:scale=2.827,renormalise=false", "sigmoid_topk:renormalise=false,scale=2.827"),
    ],
)
def test_texts_of_one_meaning_make_one_problem_with_one_key(spec: str, canonical: str) -> None:
    problem = LAYER.replace(router=spec)
    assert problem.router == canonical
    assert problem == LAYER.replace(router=canonical)
    assert f".{canonical}.uniform." in problem.key


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("sigmod_topk", ["'sigmod_topk'", "did you mean sigmoid_topk", "`moebench list routers` shows all"]),
        ("", ["router = ''", "`moebench list routers` shows all"]),
        ("switch:scale=2", ["no parameter of switch is named 'scale'", "its form is switch"]),
        (
            "sigmoid_topk:group=8",
            ["'group'", "did you mean groups", "bias=0,groups=1,top_groups=1,zero_experts=0,renormalise=true,scale=1"],
        ),
        ("sigmoid_topk:groups", ["groups = ''", "an integer from 1 to 4096"]),
        ("sigmoid_topk:groups=0", ["groups = '0'", "from 1 to 4096"]),
        ("sigmoid_topk:groups=2.5", ["groups = '2.5'", "an integer"]),
        ("sigmoid_topk:scale=nan", ["scale = 'nan'", "a number from 0.001 to 1000"]),
        ("sigmoid_topk:scale=x", ["scale = 'x'", "a number"]),
        ("sigmoid_topk:renormalise=1", ["renormalise = '1'", "give one of false, true"]),
        ("sigmoid_topk:bias=1,bias=2", ["bias is given twice"]),
        ("hash:table=even", ["table = 'even'", "give one of random, balanced"]),
        ("sigmoid_topk:bias=1,", ["''", "groups"]),
    ],
)
def test_a_text_that_is_no_router_is_refused_by_value_and_remedy(spec: str, said: list[str]) -> None:
    with pytest.raises(InvalidProblem) as caught:
        LAYER.replace(router=spec)
    assert all(words in str(caught.value) for words in [*said, f"router = {spec!r}"])


@pytest.mark.parametrize("spec", [None, 3, {}])
def test_what_is_no_text_is_refused_by_value_and_remedy(spec: object) -> None:
    with pytest.raises(InvalidProblem, match=re.escape(f"router = {spec!r}: give a text")):
        LAYER.replace(router=spec)


@pytest.mark.parametrize("name", ROUTERS.names())
def test_every_parameter_has_a_default_and_a_range_that_holds_it(name: str) -> None:
    for field in dataclasses.fields(ROUTERS.load(name)):
        if words := field.metadata.get("words"):
            assert field.default == words[0]
            assert len(set(words)) == len(words) > 1
            continue
        assert isinstance(field.default, int | float)
        if not isinstance(field.default, bool):
            assert field.metadata["least"] <= field.default <= field.metadata["most"]


@dataclass(frozen=True)
class Silent(Router):
    """Router without parameters and without a file, registered by the test."""

    def route(self, inputs: RouterInputs, K: int) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("this test asks for no routes")


def test_a_router_refuses_nothing_and_follows_the_load_unless_it_says_otherwise() -> None:
    silent = Silent()
    assert silent.refuses(LAYER) is None
    assert silent.follows_load
    assert silent.for_fewer_experts() is silent
