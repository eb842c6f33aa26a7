"""A problem accepts what it should, refuses the rest by name, and counts capacity, FLOPs and bytes as defined."""

from __future__ import annotations

import math
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from moebench.kernels.problem import InvalidProblem, Problem

SMALL = Problem(T=4, D=8, F=16, E=4, K=2)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    E = draw(st.integers(1, 64))
    K = draw(st.integers(1, E))
    ranks = draw(st.integers(1, E))
    routers = ["softmax_topk", "softmax_topk_renorm"] + (["switch"] if K == 1 else [])
    return Problem(
        T=draw(st.integers(0, 5000)),
        D=draw(st.integers(1, 512)),
        F=draw(st.integers(1, 512)),
        E=E,
        K=K,
        gated=draw(st.booleans()),
        activation=draw(st.sampled_from(["silu", "gelu", "gelu_tanh", "relu", "relu2"])),
        dtype=draw(st.sampled_from(["float32", "float16", "bfloat16"])),
        capacity_factor=draw(st.none() | st.floats(0.01, 100)),
        drop=draw(st.sampled_from(["first_come", "first_choices", "gate_weight"])),
        router=draw(st.sampled_from(routers)),
        load=draw(st.sampled_from(["uniform", "hot", "zipf:1.2", "dirichlet:0.3"])),
        mode=draw(st.sampled_from(["forward", "train"])),
        ranks=ranks,
        seed=draw(st.integers(0, 3)),
        bias=draw(st.booleans()),
        wire=draw(st.sampled_from([None, "bfloat16"])) if ranks > 1 else None,
    )


@given(
    factor=st.decimals("0.01", "50", places=2),
    T=st.integers(0, 100_000),
    E=st.integers(1, 512),
    K=st.integers(1, 512),
    ranks=st.integers(1, 512),
)
@example(factor=Decimal("1.1"), T=100, E=10, K=1, ranks=1)  # 11, though 1.1 * 10 in binary is above it
@example(factor=Decimal("2.2"), T=50, E=10, K=1, ranks=1)
@example(factor=Decimal("0.07"), T=100, E=1, K=1, ranks=1)
def test_capacity_is_the_exact_ceiling_for_one_rank_within_1_and_T(
    factor: Decimal, T: int, E: int, K: int, ranks: int
) -> None:
    assume(max(K, ranks) <= E)
    capacity = Problem(T=T, D=1, F=1, E=E, K=K, capacity_factor=float(factor), ranks=ranks).capacity
    tokens = -(-T // ranks)
    share = Fraction(factor) * tokens * K / E
    assert capacity == max(1, min(tokens, -((-share.numerator) // share.denominator)))


def test_capacity_of_the_example_on_which_public_systems_disagree() -> None:
    assert Problem(T=1000, D=1, F=1, E=64, K=2, capacity_factor=1.25).capacity == 40


def test_capacity_of_a_factor_without_bound_is_every_token() -> None:
    assert SMALL.replace(capacity_factor=1e308).capacity == SMALL.T


def test_without_a_factor_there_is_no_capacity() -> None:
    assert SMALL.capacity is None


@given(problem=problems(), granularity=st.integers(1, 8))
def test_refine_keeps_parameters_and_useful_flops(problem: Problem, granularity: int) -> None:
    assume(problem.router != "switch" or granularity == 1)
    coarse = problem.replace(F=problem.F * granularity)
    fine = coarse.refine(granularity)
    assert (problem.F, problem.E * granularity, problem.K * granularity) == (fine.F, fine.E, fine.K)
    assert fine.replace(bias=False).weight_bytes == coarse.replace(bias=False).weight_bytes
    assert fine.flops(fine.N) == coarse.flops(coarse.N)


@pytest.mark.parametrize("block", ["shared", "shared:width=24,sigmoid=true", "residual_mlp", "latent:shared=24"])
def test_refine_keeps_what_stands_around_the_experts(block: str) -> None:
    coarse = Problem(T=8, D=64, F=32, E=4, K=2, block=block)
    fine = coarse.refine(4)
    assert (fine.F, fine.weight_bytes, fine.flops(fine.N)) == (8, coarse.weight_bytes, coarse.flops(coarse.N))


@pytest.mark.parametrize("block", ["shared", "shared:width=4096,sigmoid=true", "residual_mlp:width=512", "latent"])
def test_scaled_keeps_the_ratio_of_a_block_to_the_experts(block: str) -> None:
    """Matrices of weights shrink with the square of the width, those of one row with the width."""
    wide = Problem(T=8, D=2048, F=1024, E=4, K=2, block=block)
    narrow = wide.scaled(256)
    assert (narrow.D, narrow.F) == (256, 128)
    shapes = {of.D: of.around.shapes(of) for of in (wide, narrow) if of.around}
    for name, (rows, columns) in shapes[256].items():
        assert [rows if rows <= 2 else rows * 8, columns * 8] == [*shapes[2048][name]]


def test_refine_by_one_changes_nothing() -> None:
    assert SMALL.refine(1) == SMALL


@pytest.mark.parametrize("granularity", [0, -2, 3, 32])
def test_refine_by_what_does_not_divide_F_is_refused(granularity: int) -> None:
    with pytest.raises(InvalidProblem, match=f"granularity = {granularity} does not divide F = 16"):
        SMALL.refine(granularity)


@given(D=st.integers(1, 3000), F=st.integers(1, 3000), limit=st.integers(1, 2000))
@example(D=4096, F=14336, limit=512)
@example(D=2080, F=6144, limit=512)
def test_scaled_is_the_widest_of_the_best_alignment_with_exactly_this_ratio(D: int, F: int, limit: int) -> None:
    divisor = math.gcd(D, F)
    pairs = [(D // divisor * times, F // divisor * times) for times in range(1, limit * divisor // D + 1)]
    best = next(
        (fit[-1] for alignment in (16, 8, 4, 2, 1) if (fit := [p for p in pairs if math.gcd(*p) % alignment == 0])),
        None,
    )
    problem = Problem(T=1, D=D, F=F, E=4, K=2)
    if best is None:
        with pytest.raises(InvalidProblem, match=f"D = {limit} is too narrow"):
            problem.scaled(limit)
    else:
        assert problem.scaled(limit) == problem.replace(D=best[0], F=best[1])


@given(problem=problems())
def test_dense_has_the_same_useful_flops_in_one_expert(problem: Problem) -> None:
    dense = problem.dense()
    assert (dense.E, dense.K, dense.capacity, dense.ranks) == (1, 1, None, 1)
    assert dense.flops(dense.N) == problem.flops(problem.N)


INTEGERS = [("T", 0), ("D", 1), ("F", 1), ("E", 1), ("K", 1), ("ranks", 1), ("seed", 0)]
WRONG = [
    *[(name, smallest - 1) for name, smallest in INTEGERS],
    *[(name, value) for name, _ in INTEGERS for value in (-7, True, 2.0, "2", None, float("nan"))],
    *[("capacity_factor", value) for value in (0, 0.0, -1.5, float("nan"), float("inf"), -float("inf"), True, "1.25")],
    ("gated", "no"),
    ("gated", None),
    ("bias", "no"),
    ("bias", None),
    ("activation", "swish"),
    ("activation", None),
    ("dtype", "float64"),
    ("dtype", "int8"),
    ("drop", "random"),
    ("router", "experts_choose"),
    ("mode", "backward"),
    ("load", "zipf"),
    ("load", 3),
    ("load", None),
    *[(name, value) for name in ("router", "block") for value in (None, 0, dict[str, int](), list[int]())],
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=[f"{name}={value!r}" for name, value in WRONG])
def test_wrong_value_is_refused_by_field_and_value(name: str, value: object) -> None:
    with pytest.raises(InvalidProblem) as caught:
        SMALL.replace(**{name: value})
    assert str(caught.value).startswith(f"{name} = {value!r}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"K": 5}, ["K = 5", "E = 4"]),
        ({"ranks": 5}, ["ranks = 5", "E = 4"]),
        ({"router": "switch"}, ["'switch'", "K = 2"]),
        ({"dtype": "float8_e4m3fn", "mode": "train"}, ["'train'", "'float8_e4m3fn'", "give mode = 'forward'"]),
        ({"gated": False, "activation": "situ"}, ["'situ'", "give gated = True"]),
        ({"load": "empty:0.75"}, ["empty:0.75", "E = 4", "K = 2"]),
        ({"wire": "float16"}, ["'float16'", "ranks = 1", "give more ranks"]),
    ],
    ids=str,
)
def test_values_that_do_not_go_together_are_refused_by_both(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidProblem) as caught:
        SMALL.replace(**changes)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("dtype", "wire", "rounding"),
    [
        ("float32", None, "float32"),
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "bfloat16"),
        ("bfloat16", "float16", "bfloat16"),
        ("bfloat16", "float8_e4m3fn", "float8_e4m3fn"),
    ],
)
def test_errors_are_bounded_by_the_coarsest_format(dtype: str, wire: str | None, rounding: str) -> None:
    assert SMALL.replace(dtype=dtype, wire=wire, ranks=2).rounding == rounding


def test_no_tokens_is_a_problem_without_work() -> None:
    problem = SMALL.replace(T=0, capacity_factor=1.0)
    assert (problem.N, problem.tokens_per_rank, problem.capacity) == (0, 0, 1)
    assert problem.flops(problem.N) == problem.ideal_bytes(0) == problem.token_bytes == 0


ONE_CHANGE: dict[str, object] = {
    "T": 5,
    "D": 9,
    "F": 17,
    "E": 5,
    "K": 1,
    "gated": False,
    "activation": "relu",
    "dtype": "float16",
    "capacity_factor": 1.0000001,
    "drop": "gate_weight",
    "router": "softmax_topk",
    "load": "hot",
    "mode": "train",
    "ranks": 2,
    "seed": 1,
    "bias": True,
    "wire": "float16",
    "capacity_rule": "floor",
    "block": "shared",
}


@pytest.mark.parametrize("field", [field.name for field in fields(Problem)])
@pytest.mark.parametrize("factor", [None, 1.0])
def test_key_tells_every_field_apart(field: str, factor: float | None) -> None:
    problem = SMALL.replace(capacity_factor=factor, ranks=2 if field == "wire" else 1)
    assert problem.replace(**{field: ONE_CHANGE[field]}).key != problem.key


@given(problem=problems(), other=problems(), taken=st.sets(st.sampled_from(sorted(ONE_CHANGE))))
def test_problems_are_equal_exactly_when_their_keys_are(problem: Problem, other: Problem, taken: set[str]) -> None:
    try:
        mixed = problem.replace(**{name: getattr(other, name) for name in taken})
    except InvalidProblem:
        assume(False)
    assert (mixed == problem) == (mixed.key == problem.key)


@pytest.mark.parametrize("factor", [1, 1.0])
def test_key_does_not_depend_on_how_an_equal_factor_is_written(factor: float) -> None:
    assert SMALL.replace(capacity_factor=factor).key == (
        "T4.D8.F16.E4.K2.silu-glu.float32.cf1.0-first_come.softmax_topk_renorm.uniform.forward.r1.s0"
    )


def test_key_speaks_of_biases_only_where_there_are_some() -> None:
    """Records of problems without biases keep their keys."""
    assert SMALL.replace(bias=True).key == f"{SMALL.key}.bias"


def test_key_speaks_of_the_capacity_rule_only_where_it_is_another() -> None:
    """Records from before there were others keep their keys."""
    assert SMALL.replace(capacity_rule="tutel").key == f"{SMALL.key}.capacity-tutel"


def test_biases_of_every_expert_are_read_and_their_gradients_written() -> None:
    problem = Problem(T=3, D=4, F=6, E=2, K=1, dtype="bfloat16", mode="train")
    biased = problem.replace(bias=True)
    one_expert = (12 + 4) * 2  # gate, up and down projections
    assert biased.weight_bytes - problem.weight_bytes == 2 * one_expert
    assert biased.input_bytes - problem.input_bytes == 2 * one_expert
    assert biased.output_bytes - problem.output_bytes == 2 * one_expert
    assert biased.ideal_bytes(1) - problem.ideal_bytes(1) == one_expert + 2 * one_expert
    assert biased.flops(3) == problem.flops(3), "additions are not counted, as the activation is not"


def test_forward_counts_match_a_calculation_by_hand() -> None:
    problem = Problem(T=4, D=8, F=16, E=4, K=2, gated=True, dtype="bfloat16")
    assert (problem.N, problem.U) == (8, 32)
    assert problem.flops(8) == 8 * (2 * 8 * 32 + 2 * 16 * 8) == 6144
    assert problem.token_bytes == 64
    assert problem.weight_bytes == 4 * (32 * 8 + 8 * 16) * 2 == 3072
    assert problem.ideal_bytes(3) == 64 + 3 * 768 + 8 * (4 + 4) + 64 == 2496
    assert problem.input_bytes == 64 + 3072 + 64
    assert problem.output_bytes == 64


def test_training_counts_match_a_calculation_by_hand() -> None:
    problem = Problem(T=3, D=4, F=6, E=2, K=1, gated=False, mode="train")
    assert (problem.N, problem.U) == (3, 6)
    assert problem.flops(3) == 3 * 3 * (2 * 4 * 6 + 2 * 6 * 4) == 864
    assert problem.token_bytes == 48
    assert problem.weight_bytes == 2 * (6 * 4 + 4 * 6) * 4 == 384
    read = 48 + 48 + 192 + 3 * (4 + 4)  # x, dy, one expert's weights, the routes
    written = 48 + 48 + 384 + 3 * 4  # y, dx, the gradients of all weights and of the gate weights
    assert problem.ideal_bytes(1) == read + written == 804
    assert problem.input_bytes == 48 + 48 + 384 + 24
    assert problem.output_bytes == written


@given(problem=problems())
def test_ideal_bytes_never_exceed_every_input_and_output_once(problem: Problem) -> None:
    assert problem.ideal_bytes(problem.E) == problem.input_bytes + problem.output_bytes
    assert problem.ideal_bytes(0) <= problem.ideal_bytes(problem.E)


@pytest.mark.parametrize("bias", [False, True])
def test_quantised_weights_take_one_byte_and_their_scales_four(bias: bool) -> None:
    """Tokens, outputs and biases stay bfloat16."""
    halves = SMALL.replace(dtype="bfloat16", bias=bias)
    quantised = halves.replace(dtype="float8_e4m3fn")
    matrices, rows = SMALL.E * SMALL.D * (SMALL.U + SMALL.F), SMALL.E * (SMALL.U + SMALL.D)
    assert quantised.weight_bytes == matrices + rows * (4 + 2 * bias)
    saved = halves.weight_bytes - quantised.weight_bytes
    assert saved == matrices - 4 * rows
    assert halves.input_bytes - quantised.input_bytes == saved
    assert halves.ideal_bytes(SMALL.E) - quantised.ideal_bytes(SMALL.E) == saved
    assert halves.output_bytes == quantised.output_bytes
    assert halves.flops(7) == quantised.flops(7)
    assert (quantised.operand_bytes, halves.operand_bytes) == (1, 2)
